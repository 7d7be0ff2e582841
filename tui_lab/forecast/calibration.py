"""Cache of training speeds that were measured on this machine, so that forecasts use them instead of
assumptions: one JSON file in the user's cache folder, keyed by the device, the model's shape and the recipe
fields that decide the speed. :mod:`tui_lab.training.calibrate` measures. No torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, to_builtins
from msgspec.structs import replace

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.format import finite
from tui_lab.core.paths import cache_dir
from tui_lab.core.records import from_json, from_plain, to_json
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models.shapes import Shape
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues

FILE_NAME = "calibrations.json"
#: The oldest are dropped when there are more.
MOST_CALIBRATIONS = 200
#: Recipe keys that decide the speed of a step, in addition to the resolved values.
_RECIPE_KEYS = (
    "method", "lora_r", "init_r", "use_dora", "target_modules", "num_virtual_tokens", "quantization",
    "packing", "per_device_train_batch_size", "gradient_checkpointing", "frozen_layers",
)  # fmt: skip
#: Keys of which only matters whether they are on.
_SWITCHES = (
    "lora_dropout",
    "kl_weight",
    "label_smoothing_factor",
    "focal_gamma",
    "l2_to_start",
    "ewc_lambda",
)
_VALUES = ("compute_dtype", "optim", "attn_implementation", "max_length")


_Rate = Annotated[float, Meta(gt=0)]
_Count = Annotated[int, Meta(gt=0)]


class Calibration(Struct, frozen=True):
    """A measurement on ``device``: training speed in tokens per second, FLOP/s of the model
    (``model_flops_s``, as in MFU) and of everything computed (``hardware_flops_s``), mean power in watts
    (None: not metered), ``length`` of the rows in tokens, ``date`` as YYYY-MM-DD. ``run``: the name of the
    run that was so fast; "" for a measurement of its own."""

    device: Annotated[str, Meta(max_length=200)]
    tok_per_s: _Rate
    model_flops_s: _Rate
    hardware_flops_s: _Rate
    power_w: float | None
    cuda: bool
    steps: _Count
    length: _Count
    date: Annotated[str, Meta(max_length=10)]
    run: Annotated[str, Meta(max_length=200)] = ""

    @property
    def text(self) -> str:
        """The source of the measurement as a sentence."""
        where = "this card" if self.cuda else "this machine"
        speed = f"{self.tok_per_s:,.0f} tok/s over {self.steps} steps"
        by = f"by run {self.run} " if self.run else ""
        return f"measured {by}on {where} ({self.device}): {speed}, {self.date}"


def key_of(device: DeviceFacts, shape: Shape, recipe: Recipe, values: ResolvedValues) -> str:
    """The key of a measurement: device, shape, and the parts of the recipe and its resolved ``values`` that
    change the speed."""
    key = {
        # the run and the lab name processors differently, and the cache belongs to this machine
        "device": device.name if device.type == "cuda" else device.type,
        "shape": asdict(shape),
        **{name: getattr(recipe, name) for name in _RECIPE_KEYS},
        **{name: bool(getattr(recipe, name)) for name in _SWITCHES},
        **{name: getattr(values, name) for name in _VALUES},
    }
    if recipe.packing:
        key["packed_attention"] = values.packed_attention
    plain = json.dumps(key, sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()[:24]


def _path() -> Path:
    return cache_dir() / FILE_NAME


def _read() -> dict[str, object]:
    """The rows of the file by key, not yet validated: a damaged row does not spoil the others."""
    try:
        return from_json(input_files.read_bytes(_path()), dict[str, object], FILE_NAME)
    except (OSError, LabError):
        return {}  # none yet, or damaged: it can be measured again


def find(device: DeviceFacts, shape: Shape, recipe: Recipe, values: ResolvedValues) -> Calibration | None:
    """The stored measurement of the same work on the same device, or None."""
    row = _read().get(key_of(device, shape, recipe, values))
    try:
        found = from_plain(row, Calibration, FILE_NAME)
    except LabError:
        return None  # none, or damaged: it can be measured again
    if any(finite(rate) is None for rate in (found.tok_per_s, found.model_flops_s, found.hardware_flops_s)):
        return None
    power = finite(found.power_w)
    return found if power and power > 0 else replace(found, power_w=None)


def store(
    found: Calibration, device: DeviceFacts, shape: Shape, recipe: Recipe, values: ResolvedValues
) -> None:
    """Stores a measurement atomically. A cache that cannot be written is not an error."""
    rows = _read()
    key = key_of(device, shape, recipe, values)
    rows.pop(key, None)
    rows[key] = to_builtins(found)
    rows = dict(list(rows.items())[-MOST_CALIBRATIONS:])
    try:
        _path().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_path(), to_json(rows))
    except OSError:
        return
