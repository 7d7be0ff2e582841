"""What a measurement on a card leaves: checks and figures by part, in one JSON file."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

#: ``ok``: the part ran to its end; ``failed``: it or one of its checks did not; ``skipped``: there was no
#: time left; ``running``: it has begun.
State = Literal["waiting", "running", "ok", "failed", "skipped"]


class Check(Struct, frozen=True):
    """Whether something is right. ``detail`` has the compared values, or the error."""

    name: str
    ok: bool
    detail: str = ""


class Measurement(Struct, frozen=True):
    """A measured ``value`` in ``unit``."""

    name: str
    value: float
    unit: str


class Missing(Struct, frozen=True):
    """What could not be done here, and why. It does not count as a failure."""

    name: str
    why: str


class PartReport(Struct):
    """The outcome of a part. ``budget_s``: the seconds that it may take."""

    name: str
    budget_s: float
    state: State = "waiting"
    seconds: float = 0.0
    checks: list[Check] = []
    figures: list[Measurement] = []
    missing: list[Missing] = []
    error: str = ""


class GpuReport(Struct):
    """The whole result. ``rehearsal``: of tiny shapes on the CPU, which says nothing about speed."""

    device: str
    rehearsal: bool
    started: str
    versions: dict[str, str] = {}
    parts: list[PartReport] = []
    seconds: float = 0.0

    @property
    def is_ok(self) -> bool:
        """Whether no part and no check failed."""
        return all(part.state != "failed" for part in self.parts)
