"""Dynamic 4-bit weights: the linear layers that NF4 rounds worst stay as they are.

The error of a layer is ‖W − NF4(W)‖ / ‖W‖ (Frobenius), of bitsandbytes' own rounding; it needs no data, so
that the same base has the same list everywhere. A run keeps its list in a file of its folder, which all that
loads the run's base reads. No torch until something is measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.records import from_plain, to_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FILE = "unquantized_modules.json"


class LayerError(msgspec.Struct, frozen=True):
    """A linear layer by its full name, the relative error of its weights in NF4, and their number."""

    name: str
    error: float
    values: int


class UnquantizedModules(msgspec.Struct, frozen=True):
    """What stays unquantised, the worst first; ``share`` of all weights of linear layers."""

    modules: list[LayerError] = []
    share: float = 0.0
    largest_rounded: float = 0.0  # error of what is rounded

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.modules)

    def __str__(self) -> str:
        if not self.modules:
            return f"no layer fits the budget; the largest error of NF4 is {self.largest_rounded:.2%}"
        first, last = self.modules[0].error, self.modules[-1].error
        return (
            f"{len(self.modules)} layers with {self.share:.1%} of the weights: NF4 would change them by "
            f"{last:.2%} to {first:.2%}, and changes the others by up to {self.largest_rounded:.2%}"
        )


def choose(errors: Iterable[LayerError], budget: float) -> UnquantizedModules:
    """The layers with the largest errors whose weights are at most ``budget`` (a share) of all; a layer that
    does not fit any more is passed over. Equal errors go by name."""
    ordered = sorted(errors, key=lambda each: (-each.error, each.name))
    total, used = sum(each.values for each in ordered), 0
    kept: list[LayerError] = []
    rounded = 0.0
    for each in ordered:
        if used + each.values <= budget * total:
            kept.append(each)
            used += each.values
        else:
            rounded = max(rounded, each.error)
    return UnquantizedModules(kept, used / max(1, total), rounded)


def relative_error(weight: torch.Tensor, double: bool) -> float:
    """‖W − NF4(W)‖ / ‖W‖ of one matrix; ``double``: with quantised scales. 0 for a matrix of zeros."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    plain = weight.detach().float().contiguous()
    packed, state = quantize_4bit(plain, blocksize=64, quant_type="nf4", compress_statistics=double)
    norm = float(plain.norm())
    return float((dequantize_4bit(packed, state) - plain).norm()) / norm if norm else 0.0


def measure(model: PreTrainedModel, double: bool) -> list[LayerError]:
    """The error of each linear layer of a model with plain weights; the head is no candidate."""
    from tui_lab.models.rounded_layers import linears_of

    return [
        LayerError(name, round(relative_error(weight, double), 6), weight.numel())
        for name, _, weight in linears_of(model)
    ]


def write(folder: Path, found: UnquantizedModules) -> None:
    """Stores a run's list."""
    write_atomically(folder / FILE, to_json(found))


def read(folder: Path) -> UnquantizedModules | None:
    """The list of a run; None where it has none. Raises LabError for one that cannot be read."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return from_plain(input_files.read_json(path), UnquantizedModules, "it")
    except (OSError, ValueError, LabError) as error:
        raise LabError(f"{path} cannot be read: {error}; delete it, and it is measured again") from None


def names_of(folder: Path) -> tuple[str, ...]:
    """Names of the layers that a run leaves unquantised. Raises LabError."""
    found = read(folder)
    return found.names if found is not None else ()


def first_fit(sizes: Sequence[tuple[str, int]], budget: float) -> tuple[str, ...]:
    """Layers that take a budget, where errors are not known: for counting bytes."""
    return choose((LayerError(name, 0.0, values) for name, values in sizes), budget).names
