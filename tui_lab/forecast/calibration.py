"""What ten real steps of a recipe reached on this machine's own card, kept so that forecasts can say
"measured" instead of "assumed": one small JSON file in the user's cache folder, keyed by the device, the
model's shape and what of the recipe decides its speed. Measuring is done by
:mod:`tui_lab.training.calibrate`. No torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tui_lab.core.files import write_atomically
from tui_lab.core.format import finite
from tui_lab.core.paths import cache_dir
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models.shapes import Shape
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.schema import Values

FILE_NAME = "calibrations.json"
#: Older ones are dropped: a person has a handful of models and recipes.
KEPT = 200
#: Keys of a recipe that decide the speed of a step, beside what resolution settles.
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


@dataclass(frozen=True)
class Calibration:
    """Measured on ``device``. ``tok_per_s`` of training; FLOP/s of the model (``model_flops_s``, MFU's) and
    of everything computed (``hardware_flops_s``); ``power_w`` is the card's mean, None if not metered."""

    device: str
    tok_per_s: float
    model_flops_s: float
    hardware_flops_s: float
    power_w: float | None
    cuda: bool
    steps: int
    length: int  # tokens a row
    date: str  # YYYY-MM-DD

    @property
    def text(self) -> str:
        """The source of the measurement as a sentence."""
        where = "this card" if self.cuda else "this machine"
        speed = f"{self.tok_per_s:,.0f} tok/s over {self.steps} steps"
        return f"measured on {where} ({self.device}): {speed}, {self.date}"


def key_of(device: DeviceFacts, shape: Shape, recipe: Recipe, values: Values) -> str:
    """The key of a measurement: device, shape, and the parts of the recipe and its resolved ``values`` that
    change the speed."""
    facts = {
        # the run and the lab call processors by different names, and the cache is of this machine
        "device": device.name if device.type == "cuda" else device.type,
        "shape": asdict(shape),
        **{name: getattr(recipe, name) for name in _RECIPE_KEYS},
        **{name: bool(getattr(recipe, name)) for name in _SWITCHES},
        **{name: values.get(name) for name in _VALUES},
    }
    plain = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()[:24]


def _path() -> Path:
    return cache_dir() / FILE_NAME


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # none yet, or damaged: it can be measured again
    return found if isinstance(found, dict) else {}


def find(device: DeviceFacts, shape: Shape, recipe: Recipe, values: Values) -> Calibration | None:
    """The stored measurement of the same work on the same device, or None."""
    row = _read().get(key_of(device, shape, recipe, values))
    if not isinstance(row, dict):
        return None
    speeds = [finite(row.get(name)) for name in ("tok_per_s", "model_flops_s", "hardware_flops_s")]
    steps, length = finite(row.get("steps")), finite(row.get("length"))
    if not all(speed and speed > 0 for speed in speeds) or not steps or not length:
        return None
    tok_per_s, model, hardware = (float(speed or 0.0) for speed in speeds)
    power = finite(row.get("power_w"))
    return Calibration(
        device=str(row.get("device", ""))[:200],
        tok_per_s=tok_per_s,
        model_flops_s=model,
        hardware_flops_s=hardware,
        power_w=power if power and power > 0 else None,
        cuda=row.get("cuda") is True,
        steps=int(steps),
        length=int(length),
        date=str(row.get("date", ""))[:10],
    )


def store(found: Calibration, device: DeviceFacts, shape: Shape, recipe: Recipe, values: Values) -> None:
    """Stores a measurement atomically. A cache that cannot be written is not an error."""
    rows = _read()
    key = key_of(device, shape, recipe, values)
    rows.pop(key, None)
    rows[key] = asdict(found)
    rows = dict(list(rows.items())[-KEPT:])
    try:
        _path().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_path(), json.dumps(rows, indent=1))
    except OSError:
        return
