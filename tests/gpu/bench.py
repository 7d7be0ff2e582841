"""The device, shapes and clocks that the parts share, and the log that they write into."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from tests.gpu.records import Check, Measurement, Missing, PartReport
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog
from tui_lab.models.shapes import Shape
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues, resolve
from tui_lab.training import calibrate, device
from tui_lab.training.types import Model

#: Sizes of a model in the rehearsal; layers in 4 bits need multiples of 64 weights.
_TINY = {"layers": 2, "hidden": 64, "intermediate": 96, "heads": 2, "kv_heads": 1, "head_dim": 32}
#: Tokens of the bundled tokenizer, which the trainers pad with.
_TINY_VOCABULARY = 3072
#: Changes of a recipe in the rehearsal.
_TINY_RECIPE: dict[str, object] = {
    "max_length": 32, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "lora_r": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Where and how large the parts measure. ``small``: tiny shapes, for the rehearsal; ``work``: a folder
    for checkpoints; ``ceilings``: limits of the card that one part measures and others compare with."""

    facts: DeviceFacts
    small: bool
    work: Path
    ceilings: dict[str, float]

    @property
    def device(self) -> torch.device:
        """The device of every tensor."""
        return torch.device(self.facts.type)

    @property
    def is_cuda(self) -> bool:
        """Whether this is a card and no rehearsal."""
        return self.facts.type == "cuda"

    @property
    def half(self) -> torch.dtype:
        """The 16-bit type of models on this device."""
        return torch.bfloat16 if self.facts.bf16 or not self.is_cuda else torch.float16

    def pick(self, full: Any, tiny: Any) -> Any:
        """``full`` on a card, ``tiny`` in the rehearsal."""
        return tiny if self.small else full

    def shape(self, model: str) -> Shape:
        """The shape of a model of the catalog; a tiny one of the same kind in the rehearsal."""
        found = catalog.find(model).shape
        assert found is not None
        return replace(found, **_TINY, vocabulary=_TINY_VOCABULARY) if self.small else found  # type: ignore[arg-type]

    def recipe(self, model: str, preset: str, **changes: object) -> Recipe:
        """A preset for a model, with changes."""
        return make_recipe(preset, model=model, **{**(_TINY_RECIPE if self.small else {}), **changes})

    def resolved(self, recipe: Recipe) -> ResolvedValues:
        """The values that a recipe leaves open, here."""
        return resolve(recipe, self.facts, catalog.find(recipe.model)).values

    def model(self, model: str, four_bit: bool, dtype: str = "") -> Model:
        """A model with random weights in evaluation mode, with a key-value cache."""
        quantization = "nf4" if four_bit else "none"
        recipe = self.recipe(model, "starter", quantization=quantization)
        values = self.resolved(recipe)
        values.compute_dtype = dtype or str(self.half).removeprefix("torch.")
        made = calibrate.random_model(self.shape(model), recipe, values, self.facts)
        made.config.use_cache = True
        made.generation_config.eos_token_id = None  # every answer has the same length
        return made.eval()

    def synchronize(self) -> None:
        """Waits for the work of the device."""
        device.synchronize(self.facts)

    def seconds(self, work: Callable[[], object], repeat: int = 1, warm_up: int = 1) -> float:
        """Mean seconds of ``work``, after ``warm_up`` calls that are not counted."""
        for _ in range(warm_up):
            work()
        self.synchronize()
        began = time.perf_counter()
        for _ in range(repeat):
            work()
        self.synchronize()
        return (time.perf_counter() - began) / repeat

    def free_memory(self) -> None:
        """Returns what is not in use to the device, and forgets the peak."""
        if self.is_cuda:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        """The most that tensors took since :meth:`free_memory`; resident memory without a card."""
        if self.is_cuda:
            return torch.cuda.max_memory_allocated()
        return int(psutil.Process().memory_info().rss)

    def reserved_bytes(self) -> int:
        """The most that torch reserved since :meth:`free_memory`; resident memory without a card."""
        return torch.cuda.max_memory_reserved() if self.is_cuda else self.peak_bytes()


class PartLog:
    """Writes the outcome of a part. Cases after ``ends_s`` (by the monotonic clock) are not begun."""

    def __init__(self, report: PartReport, ends_s: float) -> None:
        self.report, self._ends_s = report, ends_s

    def check(self, name: str, ok: bool, detail: str = "") -> None:
        """Writes whether something is right."""
        self.report.checks.append(Check(name, bool(ok), detail))

    def close(self, name: str, found: float, expected: float, tolerance: float) -> None:
        """Checks that a value is within a relative tolerance of the expected one."""
        off = abs(found - expected) / max(abs(expected), 1e-30)
        self.check(
            name, off <= tolerance, f"{found:.6g}, expected {expected:.6g}, off by {off:.2g} of {tolerance:g}"
        )

    def figure(self, name: str, value: float, unit: str) -> None:
        """Writes a measured value."""
        self.report.figures.append(Measurement(name, float(value), unit))

    def missing(self, name: str, why: str) -> None:
        """Writes what could not be done here."""
        self.report.missing.append(Missing(name, why))

    @contextlib.contextmanager
    def case(self, name: str) -> Iterator[None]:
        """One case of a part: an error in it fails the case, and the others follow."""
        try:
            yield
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            self.check(name, False, f"{type(error).__name__}: {lines[0][:300]}")

    def has_time(self, name: str) -> bool:
        """Whether a case may begin; if not, it is written as missing."""
        if time.monotonic() < self._ends_s:
            return True
        self.missing(name, "the time of this part was over")
        return False
