"""Requests and answers of the two measuring jobs, :mod:`tui_lab.training.memory_probe` and
:mod:`tui_lab.training.calibrate`, as they cross the job protocol."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

PositiveInt = Annotated[int, Meta(gt=0)]


class JobDevice(msgspec.Struct, frozen=True):
    """The fields of :class:`tui_lab.hardware.device.DeviceFacts`."""

    type: str
    name: str
    memory_bytes: int
    bf16: bool
    threads: int


class MemoryProbeRequest(msgspec.Struct, frozen=True):
    """``recipe``: its plain values; ``device``: the card or processor to count for."""

    recipe: dict[str, object]
    device: JobDevice


class MemoryProbeAnswer(msgspec.Struct, frozen=True):
    """Bytes, rounded as the device's allocator rounds them. ``peak_bytes``: at the worst moment of two
    steps; ``peaks``: the worst of each phase (forward, loss, backward, optimizer), ``phase`` the worst of
    them; ``gradients_bytes``: of a whole step; ``saved_bytes``: what is held besides the model and earlier
    gradients when the loss is reached; ``device``: cuda or cpu."""

    peak_bytes: int
    peaks: dict[str, int]
    gradients_bytes: int
    optimizer_bytes: int
    saved_bytes: int
    weights_bytes: int = 0
    adapter_bytes: int = 0
    protections_bytes: int = 0
    seconds: float = 0.0
    phase: str = ""
    device: str = ""


class CalibrationRequest(msgspec.Struct, frozen=True):
    """``values``: the plain values of a recipe; ``lengths``: tokens of some rows of the data, none for full
    rows; ``trained_share``: part of the tokens whose loss is taken."""

    values: dict[str, object]
    lengths: list[PositiveInt] = []
    trained_share: Annotated[float, Meta(gt=0, le=1)] = 1.0


class CalibrationAnswer(msgspec.Struct, frozen=True):
    """The fields of :class:`tui_lab.forecast.calibration.Calibration`; ``mfu`` and ``hfu`` as shares of the
    card's peak rate (None where that is not known), and both in words."""

    device: str
    tok_per_s: float
    model_flops_s: float
    hardware_flops_s: float
    power_w: float | None
    cuda: bool
    steps: int
    length: int
    date: str
    run: str = ""
    mfu: float | None = None
    hfu: float | None = None
    formula: str = ""
    text: str = ""
