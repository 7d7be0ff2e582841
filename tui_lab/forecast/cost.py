"""Time, money and energy of a run.

Time follows from the operations per token (:mod:`tui_lab.forecast.flops`) and the speed of the device: a
measured speed (:mod:`tui_lab.forecast.calibration`), or the rate of the card's data sheet times an *assumed*
share, which makes the interval wide. Money needs a price per hour and CO₂ the intensity of the grid; both are
settings. Energy is that of the card alone, from its power limit; without a GPU it is unknown. No torch."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tui_lab.core.errors import LabError
from tui_lab.core.format import JOULES_PER_KWH, count
from tui_lab.forecast.calibration import Calibration
from tui_lab.forecast.flops import Operations, operations
from tui_lab.hardware import gpu_specs
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu_specs import GpuSpec
from tui_lab.hardware.precision import best_dtype
from tui_lab.models.shapes import Shape
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import VALIDATIONS_A_RUN, ResolvedValues, unresolved, validation_rows

#: World average of 2024 (IEA, Electricity 2025, chapter "Emissions"): grams of CO₂ for a kWh generated.
WORLD_G_CO2_PER_KWH = 445.0
WORLD_SOURCE = "world average 2024, IEA Electricity 2025"
#: Environment variables of the settings.
PRICE, CURRENCY, GRID = "TUI_LAB_PRICE_PER_HOUR", "TUI_LAB_CURRENCY", "TUI_LAB_GRID_G_CO2_PER_KWH"

#: The number of tokens that costs are for while the size of the data is unknown.
TOKENS_UNKNOWN = 1_000_000


class EstimateRange(NamedTuple):
    """A figure with its bounds, low ≤ value ≤ high."""

    low: float
    value: float
    high: float

    def times(self, factor: float) -> EstimateRange:
        return EstimateRange(self.low * factor, self.value * factor, self.high * factor)


#: The share of a card's rate that training reaches, until it is measured: the upper bound is for fused
#: kernels and large batches, the lower one for eager modules with adapters and 4-bit weights. Assumed.
ASSUMED_SHARE = EstimateRange(0.15, 0.30, 0.50)
#: Milliseconds that Python needs to launch the kernels of one block, forward and backward, per micro-batch:
#: the limit of small models on large cards. Assumed.
ASSUMED_LAUNCH_MS = EstimateRange(1.0, 2.5, 5.0)
#: FLOP/s of a card that is not in the table, to compare settings with.
UNKNOWN_RATE = 1e14
#: Mean power of a card in training as a share of its limit. Assumed.
ASSUMED_POWER = EstimateRange(0.4, 0.7, 1.0)
#: Spread of a measured speed from one run to the next.
MEASURED_SPREAD = 0.15


@dataclass(frozen=True)
class Prices:
    """Prices of an hour and of energy. ``per_hour`` is None where it is not set."""

    per_hour: float | None = None
    currency: str = "$"
    g_co2_per_kwh: float = WORLD_G_CO2_PER_KWH
    grid_source: str = WORLD_SOURCE


def prices(environment: Mapping[str, str] | None = None) -> Prices:
    """The prices in the environment variables. Raises LabError for one that is not a number."""
    variables = os.environ if environment is None else environment
    grid = amount(variables, GRID)
    return Prices(
        per_hour=amount(variables, PRICE),
        currency=(variables.get(CURRENCY) or "$").strip()[:8] or "$",
        g_co2_per_kwh=WORLD_G_CO2_PER_KWH if grid is None else grid,
        grid_source=WORLD_SOURCE if grid is None else GRID,
    )


def amount(variables: Mapping[str, str], name: str) -> float | None:
    """A number of 0 or more in an environment variable; None where it is empty. Raises LabError."""
    text = (variables.get(name) or "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise LabError(f"{name} = {text[:40]!r}: must be a number of 0 or more, such as 0.85")
    return value


@dataclass(frozen=True)
class DataFacts:
    """What is known about the data: ``rows`` for training, ``mean_tokens`` per row, the share of the tokens
    that is trained, the tokens of one validation, and the ``lengths`` in tokens of a sample of rows."""

    rows: int | None = None
    mean_tokens: float | None = None
    trained_share: float = 1.0
    lengths: tuple[int, ...] = ()
    validation_tokens: float | None = None


@dataclass(frozen=True)
class Cost:
    """A forecast of time, money and energy.

    ``hours`` is None where the device's speed is not known, ``money`` without a price, ``kwh`` and
    ``co2_kg`` without a GPU. ``mfu`` is the share of the card's dense rate that the model's operations
    reach; ``assumed`` is whether the speed was assumed rather than measured. ``parts`` are hours by
    activity, at the middle of the interval."""

    tokens: float
    tokens_basis: str
    operations: Operations
    hours: EstimateRange | None
    parts: dict[str, float]
    tok_per_s: EstimateRange | None
    mfu: EstimateRange | None
    assumed: bool
    money: EstimateRange | None
    currency: str
    kwh: EstimateRange | None
    co2_kg: EstimateRange | None
    basis: str
    formula: str
    notes: tuple[str, ...] = ()
    card: GpuSpec | None = None
    measured_by: str = ""  # the name of the run whose speed it is

    @property
    def flops_per_token(self) -> float:
        return self.operations.model


def estimate(
    shape: Shape,
    recipe: Recipe,
    resolved: ResolvedValues | None = None,
    device: DeviceFacts | GpuSpec | str | None = None,
    tokens: float | None = None,
    *,
    data: DataFacts | None = None,
    measured: Calibration | None = None,
    tariff: Prices | None = None,
) -> Cost:
    """The cost of a run of ``recipe`` on a model of ``shape``.

    ``device``: that of the machine, a card, or the name of a card. ``tokens``: those that the run trains on;
    None takes the number from ``data`` and the recipe, else the upper bound from the recipe's steps, else a
    million. ``measured`` comes from :func:`tui_lab.forecast.calibration.find`, ``tariff`` from
    :func:`prices`. Raises LabError for an unknown card, and for prices that are not numbers."""
    tariff = prices() if tariff is None else tariff
    values, data = resolved or unresolved(recipe), data or DataFacts()
    rows, mean_tokens, validation_tokens = data.rows, data.mean_tokens, data.validation_tokens
    max_length = values.max_length
    tokens, basis = (tokens, "as given") if tokens else planned_tokens(recipe, max_length, rows, mean_tokens)
    length = max_length if recipe.packing or not mean_tokens else min(float(mean_tokens), max_length)
    document, keys = attended_tokens(recipe, values, mean_tokens, data.lengths)
    card, notes = _card(device)
    # on Apple's GPU the logits of every token are computed
    share = 1.0 if isinstance(device, DeviceFacts) and device.type == "mps" else data.trained_share
    found = operations(shape, recipe, document, head_share=share, keys=keys)
    dtype = _dtype(shape, values, card)
    peak = card.rate_flops(dtype) if card else None

    if validation_tokens is None:
        validation_tokens = _held_out_tokens(recipe, rows, length, None if basis == "as given" else tokens)
    if validation_tokens is not None:
        rows_held_out = math.ceil(validation_tokens / length)
        measured_rows = validation_rows(recipe, rows_held_out, tokens / length)
        validation_tokens *= measured_rows / max(1, rows_held_out)
    validation = _validation_flops(recipe, found, tokens, length, validation_tokens)
    if validation is None:
        notes.append("validation is not included: its frequency and size depend on the data")
    seconds, speed, source = _seconds(shape, recipe, found, tokens, length, peak, measured)
    if card and measured is None:
        caveat = "" if card.rate_is_verified(dtype) else ", not verified"
        source = (
            f"{card.name}'s data sheet ({_rate(peak)} {dtype}{caveat}) × an assumed {_share(ASSUMED_SHARE)} "
            "of it"
        )
    if seconds is None:
        hours, parts, mfu = None, {}, None
    else:
        flops_s = tokens * found.hardware / seconds.value
        checks = (validation or 0.0) / flops_s
        with_checks = (seconds.value + checks) * (1 + recipe.probe_share) / seconds.value
        hours = seconds.times(with_checks / 3600)
        parts = {
            "training": seconds.value / 3600,
            "validation": checks / 3600,
            "retention probe": (seconds.value + checks) * recipe.probe_share / 3600,
        }
        mfu = speed.times(found.model / peak) if speed and peak else None
    on_gpu = card is not None or (measured is not None and measured.power_w is not None)
    kwh = None
    if hours is not None and on_gpu:
        if measured is not None and measured.power_w is not None:
            kwh = hours.times(measured.power_w / 1000)
        elif card is not None:
            power = [share * card.tdp_w / 1000 for share in ASSUMED_POWER]
            kwh = EstimateRange(*(h * p for h, p in zip(hours, power, strict=True)))
            caveat = " (not verified)" if "tdp_w" in card.unverified else ""
            notes.append(
                f"energy: {_share(ASSUMED_POWER)} of the card's limit of {card.tdp_w:.0f} W{caveat} is "
                "assumed"
            )
    if not on_gpu:
        notes.append("energy is not known without an NVIDIA GPU")
    if hours is not None and measured is None and not recipe.packing and mean_tokens:
        notes.append("the time for padding (rows are padded to the longest of their batch) is not included")
    if hours is not None:
        notes.append("loading, downloads and generated answers (samples, scores) are not included")
    return Cost(
        tokens=tokens,
        tokens_basis=basis,
        operations=found,
        hours=hours,
        parts=parts,
        tok_per_s=speed,
        mfu=mfu,
        assumed=measured is None,
        money=None if hours is None or tariff.per_hour is None else hours.times(tariff.per_hour),
        currency=tariff.currency,
        kwh=kwh,
        co2_kg=None if kwh is None else kwh.times(tariff.g_co2_per_kwh / 1000),
        basis=source,
        formula=formula_text(found, document),
        notes=tuple(notes),
        card=card,
        measured_by=measured.run if measured is not None else "",
    )


def step_seconds(
    shape: Shape, recipe: Recipe, values: ResolvedValues, device: DeviceFacts, data: DataFacts
) -> float:
    """Seconds of an optimiser step at the middle of the assumed speeds, to compare settings with; of a card
    whose rate is not known, at :data:`UNKNOWN_RATE`."""
    card, _ = _card(device)
    rate = card.rate_flops(_dtype(shape, values, card)) if card else None
    full = float(values.max_length)
    length = full if recipe.packing or not data.mean_tokens else min(float(data.mean_tokens), full)
    document, keys = attended_tokens(recipe, values, data.mean_tokens, data.lengths)
    found = operations(shape, recipe, document, head_share=data.trained_share, keys=keys)
    tokens = recipe.effective_batch_size / recipe.num_processes * length
    seconds, _, _ = _seconds(shape, recipe, found, tokens, length, rate or UNKNOWN_RATE, None)
    assert seconds is not None
    again = 4 / 3 if recipe.gradient_checkpointing else 1.0  # layers are launched a third time
    launch = ASSUMED_LAUNCH_MS.value / 1000 * shape.layers * recipe.gradient_accumulation_steps * again
    return max(seconds.value, launch)


def planned_tokens(
    recipe: Recipe, max_length: int, rows: int | None = None, mean_tokens: float | None = None
) -> tuple[float, str]:
    """The tokens that the run trains on, and the basis. ``rows`` are those of the task, without
    replay."""
    replayed = 1 / (1 - recipe.replay_fraction)
    mean = min(mean_tokens, float(max_length)) if mean_tokens else None
    if recipe.max_steps:
        each = float(max_length) if recipe.packing or mean is None else mean
        found = recipe.max_steps * recipe.effective_batch_size * each
        most = "" if recipe.packing or mean else ", at most: rows may be shorter"
        return found, f"{recipe.max_steps} steps of {recipe.effective_batch_size} × {each:,.0f} tokens{most}"
    if rows and mean:
        found = rows * replayed * mean * recipe.num_train_epochs
        general = " and general rows" if recipe.replay_fraction else ""
        times = f"{recipe.num_train_epochs:g} times" if recipe.num_train_epochs != 1 else "once"
        return found, f"{rows:,} rows{general} of {mean:,.0f} tokens, {times}"
    return float(TOKENS_UNKNOWN), f"for each {count(TOKENS_UNKNOWN)} tokens: the data is not counted yet"


def planned_steps(recipe: Recipe, rows: int | None = None) -> int | None:
    """The optimiser steps of the run, as the Trainer counts them from ``rows`` of the task; None where they
    are not known before the data is read or packed."""
    if recipe.max_steps:
        return recipe.max_steps
    if not rows or recipe.packing:
        return None
    replayed = round(rows / (1 - recipe.replay_fraction))
    batches = math.ceil(replayed / (recipe.per_device_train_batch_size * recipe.num_processes))
    updates = math.ceil(batches / recipe.gradient_accumulation_steps)
    return math.ceil(updates * recipe.num_train_epochs)


def attended_tokens(
    recipe: Recipe, values: ResolvedValues, mean_tokens: float | None = None, lengths: Sequence[int] = ()
) -> tuple[float, float]:
    """The tokens that a token attends to by the model, and those that the hardware computes: of packed rows
    with a mask all of the micro-batch, else of the document. ``lengths`` are a sample of the rows; without
    them and the mean, rows are taken to be full."""
    most = float(values.max_length)
    document = min(float(mean_tokens), most) if mean_tokens else most
    if not recipe.packing:
        return document, document
    if lengths:  # of a token, not of a row: long documents have more of them
        cut = [min(float(each), most) for each in lengths]
        document = sum(each * each for each in cut) / max(1.0, sum(cut))
    if values.packed_attention == "varlen":
        return document, document
    return document, recipe.per_device_train_batch_size * most


def formula_text(found: Operations, length: float) -> str:
    """FLOPs per token with the formula and its values, from which MFU is computed."""
    parts = [f"N {count(found.weights)}", f"A {_flops(found.attention)} at {length:,.0f} tokens"]
    if found.adapter:
        parts.insert(1, f"n {count(found.adapter)}")
    return f"{_flops(found.model)} a token = {found.formula} ({', '.join(parts)})"


class FlopsFigures(NamedTuple):
    """FLOPs per token with their formula, and the card's dense rate in the compute dtype in FLOP/s (None
    where it is unknown) with its source."""

    flops_per_token: int
    formula: str
    peak_flops: float | None
    peak_of: str


def flops_figures(
    shape: Shape,
    recipe: Recipe,
    device: DeviceFacts,
    values: ResolvedValues,
    length: float,
    trained_share: float,
) -> FlopsFigures:
    """The figures that a run records before its first step, for its MFU; rows have ``length`` tokens, packed
    or not."""
    card, notes = _card(device)
    dtype = _dtype(shape, values, card)
    found = operations(shape, recipe, length, head_share=trained_share)
    return FlopsFigures(
        flops_per_token=round(found.model),
        formula=formula_text(found, length),
        peak_flops=card.rate_flops(dtype) if card else None,
        peak_of=f"{card.name}, {dtype}, dense" if card else "; ".join(notes),
    )


def mfu(tok_per_s: float, flops_per_token: float, peak_flops: float | None) -> float | None:
    """The share of a card's dense rate that the model's operations reach; None where the rate is not
    known."""
    if not peak_flops or not math.isfinite(tok_per_s) or tok_per_s < 0:
        return None
    return tok_per_s * flops_per_token / peak_flops


def co2_kg(energy_j: float, tariff: Prices) -> float:
    """Carbon dioxide, in kg, of an energy in joules at the grid's intensity."""
    return energy_j / JOULES_PER_KWH * tariff.g_co2_per_kwh / 1000


# --------------------------------------------------------------------------------------------------


def _share(interval: EstimateRange) -> str:
    return f"{interval.low:.0%} to {interval.high:.0%}"


def _flops(value: float) -> str:
    number, _, unit = count(value).partition(" ")
    return f"{number} {({'B': 'G', 'k': 'k', 'M': 'M'}).get(unit, '')}FLOP"


def _rate(flops_s: float | None) -> str:
    return "unknown" if flops_s is None else f"{flops_s / 1e12:,.4g} TFLOP/s"


def _card(device: DeviceFacts | GpuSpec | str | None) -> tuple[GpuSpec | None, list[str]]:
    if isinstance(device, GpuSpec) or device is None:
        return device, []
    if isinstance(device, str):
        return gpu_specs.find(device), []
    if device.type != "cuda":
        return None, []
    try:
        return gpu_specs.find(device.name, device.memory_bytes or None), []
    except LabError as error:
        return None, [str(error)]


def _dtype(shape: Shape, values: ResolvedValues, card: GpuSpec | None) -> str:
    """The compute dtype of a run: the resolved one, else the default for the card."""
    settled = values.compute_dtype
    if settled != "auto":
        return settled
    if card is None:
        return "float32"
    return best_dtype("cuda", card.bf16_flops is not None, shape.model_type).dtype


def _seconds(
    shape: Shape,
    recipe: Recipe,
    found: Operations,
    tokens: float,
    length: float,
    peak: float | None,
    measured: Calibration | None,
) -> tuple[EstimateRange | None, EstimateRange | None, str]:
    """Seconds of the training steps, tokens per second, and their source."""
    if measured is not None:
        # the measured rate is of operations: rows of another length take a different number per token
        speed = measured.hardware_flops_s / found.hardware
        around = EstimateRange(speed * (1 - MEASURED_SPREAD), speed, speed * (1 + MEASURED_SPREAD))
        return EstimateRange(*(tokens / each for each in reversed(around))), around, measured.text
    if peak is None:
        return None, None, "the speed of this device is not known until it is measured (calibration)"
    batches = tokens / (recipe.per_device_train_batch_size * length)
    shares = reversed(ASSUMED_SHARE)
    launches = [ms / 1000 * shape.layers * batches for ms in ASSUMED_LAUNCH_MS]
    times = [
        max(tokens * found.hardware / (peak * share), launch)
        for share, launch in zip(shares, launches, strict=True)
    ]
    slow, middle, fast = (tokens / each for each in reversed(times))
    return EstimateRange(*times), EstimateRange(slow, middle, fast), ""


def _held_out_tokens(recipe: Recipe, rows: int | None, length: float, planned: float | None) -> float | None:
    """Tokens of the validation rows, from those that are trained; None where they are not known."""
    if rows and not recipe.packing:
        once = rows * length
    elif planned is not None and not recipe.max_steps:
        once = planned / recipe.num_train_epochs * (1 - recipe.replay_fraction)
    else:
        return None
    return once * recipe.validation_fraction / (1 - recipe.validation_fraction)


def _validation_flops(
    recipe: Recipe, found: Operations, tokens: float, length: float, validation_tokens: float | None
) -> float | None:
    """FLOPs of all validations, with the one before the first step; None where they are not known."""
    if validation_tokens is None:
        return None
    steps = tokens / (recipe.effective_batch_size * length)
    times = steps / recipe.eval_steps if recipe.eval_steps else min(VALIDATIONS_A_RUN, steps)
    return (times + 1) * validation_tokens * found.forward
