"""Values and records inside events: estimates, devices, costs, telemetry, settings of the memory ladder."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

#: No training takes more: a record with a later step is damaged.
MOST_STEPS = 10**12
Step: TypeAlias = Annotated[int, Meta(ge=0, le=MOST_STEPS)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
#: Any JSON value: what a recipe field or a choice may hold.
JsonValue: TypeAlias = Any


class DeviceRecord(Struct, frozen=True):
    """The device that a run computes on: ``type`` is "cpu" or "cuda"."""

    type: str = ""
    name: str = ""
    memory_bytes: float | None = None
    bf16: bool = False


class CostFacts(Struct, frozen=True, omit_defaults=True):
    """Operations per trained token, their formula, and the device's peak rate (None where unknown)."""

    flops_per_token: float | None = None
    formula: str = ""
    peak_flops: float | None = None
    peak_of: str = ""


class Acquisition(Struct, frozen=True, omit_defaults=True):
    """The task's own score (0 to 1) before and after training; ``name`` is empty where the data has none."""

    name: str = ""
    start: float | None = None
    end: float | None = None


class ProbeCost(Struct, frozen=True, omit_defaults=True):
    """Seconds that probes took in this attempt, and that measuring the base took before them."""

    seconds: float | None = None
    base_s: float | None = None


class RecipeChange(Struct, frozen=True):
    """One recipe field that differs from the attempt before. ``weight`` is "harmless", "course" (the course
    of the training changes) or "refused" (the checkpoint does not fit); ``text`` says why."""

    field: str
    before: JsonValue = None
    after: JsonValue = None
    weight: str = ""
    text: str = ""


class Rewriting(Struct, frozen=True, omit_defaults=True):
    """The base's own answer to a training row (``row`` counts from 0). ``lost``: what it loses of the
    ``reference``, for which the row keeps its own answer; "" where it is trained on."""

    row: int
    text: str
    lost: str = ""
    reference: str = ""


class ScoredExample(Struct, frozen=True):
    """One answer to a held-out row."""

    prompt: str = ""
    answer: str = ""
    expected: str = ""
    ok: bool = False


class LadderSettings(Struct, frozen=True):
    """How a step is computed on a given rung of the out-of-memory ladder."""

    micro_batch: int | None = None
    accumulation: int | None = None
    parts: int = 1
    gradient_checkpointing: bool | None = None
    loss_chunk_tokens: int | None = None
    loss_chunk_vocabulary: int | None = None
    chunk_level: int = 0
    evaluation_parts: int = 1
