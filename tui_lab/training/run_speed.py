"""The speed of a run, stored for the forecasts of later ones of the same work on this machine."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import NamedTuple

from tui_lab.forecast import calibration, cost
from tui_lab.forecast.calibration import Calibration
from tui_lab.forecast.cost import DataFacts
from tui_lab.forecast.flops import operations
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models.shapes import Shape
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues

#: The first steps warm up: fewer say little about the speed of many.
LEAST_STEPS = 20


class RunSpeed(NamedTuple):
    """Tokens per second over a number of optimiser steps, and the name of the run."""

    tok_per_s: float
    steps: int
    run: str = ""


def store(
    recipe: Recipe,
    values: ResolvedValues,
    shape: Shape | None,
    device: DeviceFacts,
    data: DataFacts,
    measured: RunSpeed,
) -> bool:
    """Stores what a run of one process measured; returns whether it did. ``recipe``: as it was divided;
    ``data``: facts of its rows."""
    tok_per_s, steps = measured.tok_per_s, measured.steps
    if shape is None or recipe.num_processes > 1 or steps < LEAST_STEPS:
        return False
    if not math.isfinite(tok_per_s) or tok_per_s <= 0:
        return False
    document, keys = cost.attended_tokens(recipe, values, data.mean_tokens, data.lengths)
    share = 1.0 if device.type == "mps" else data.trained_share
    work = operations(shape, recipe, document, head_share=share, keys=keys)
    before = calibration.find(device, shape, recipe, values)
    found = Calibration(
        device=label(device),
        tok_per_s=tok_per_s,
        model_flops_s=tok_per_s * work.model,
        hardware_flops_s=tok_per_s * work.hardware,
        power_w=before.power_w if before is not None else None,
        cuda=device.type == "cuda",
        steps=steps,
        length=max(1, round(document)),
        date=datetime.now(UTC).date().isoformat(),
        run=measured.run,
    )
    calibration.store(found, device, shape, recipe, values)
    return True


def label(device: DeviceFacts) -> str:
    """The device as a measurement names it."""
    threads = "1 thread" if device.threads == 1 else f"{device.threads} threads"
    return device.name if device.type == "cuda" else f"the processor, {threads}"
