"""One measured figure of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """``value`` in ``unit``; ``limit`` is what the project promises, None where it promises nothing."""

    name: str
    value: float
    unit: str
    limit: float | None = None
