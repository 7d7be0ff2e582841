"""Several data sets as one text: ``a.jsonl:0.75 + b.jsonl:0.25``, as the recipe's ``data`` has them.

A number after the last colon of a part is its weight, without one the weight is 1; any other colon belongs to
the name. A text without `` + `` names one data set, and so does that of a file that exists. Weights are
shares: only their ratios count."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded

SEPARATOR = " + "


class Part(NamedTuple):
    """One data set of a mixture and its weight, above 0."""

    name: str
    weight: float = 1.0

    @property
    def text(self) -> str:
        return f"{self.name}:{self.weight:.10g}"


def parts_of(data: str) -> tuple[Part, ...]:
    """The parts of a recipe's ``data``: one for a single set. Raises LabError for an empty part, a weight
    that is not above 0, and a set that is named twice."""
    if SEPARATOR not in data or _exists(data):
        return (Part(data),)
    found = tuple(_part(text.strip(), data) for text in data.split(SEPARATOR))
    names = [part.name for part in found]
    for name in names:
        if names.count(name) > 1:
            raise LabError(f"data = {data!r} names {name} twice: give it once, with one weight")
    return found


def problem_of(data: str) -> str:
    """What is wrong with the text of a mixture; "" for nothing."""
    try:
        parts_of(data)
    except LabError as error:
        return str(error)
    return ""


def is_mixture(data: str) -> bool:
    """Whether ``data`` names several sets."""
    return SEPARATOR in data and not _exists(data)


def joined(parts: Iterable[Part]) -> str:
    """The text of a mixture. Raises LabError for a name that cannot be part of one."""
    found = tuple(parts)
    if len(found) == 1:
        return found[0].name
    for part in found:
        if SEPARATOR in part.name:
            raise LabError(
                f"{part.name}: a name with {SEPARATOR!r} cannot be part of a mixture; rename the file or "
                "folder"
            )
    return SEPARATOR.join(part.text for part in found)


def from_options(texts: Iterable[str]) -> str:
    """The ``data`` of a recipe from the values of a repeated option, each a name with its weight or a whole
    mixture. Raises LabError."""
    found = [text.strip() for text in texts]
    if len(found) == 1:
        return found[0]
    for text in found:
        if is_mixture(text) or _exists(text):
            joined([Part(text), Part(text)])  # refuses the separator in a name
    return joined(_part(text, SEPARATOR.join(found)) for text in found)


def short_name(data: str) -> str:
    """The data without its folders: ``a.jsonl``, or ``a.jsonl:0.75 + b.jsonl:0.25``."""
    return SEPARATOR.join(Path(part).name or part for part in data.split(SEPARATOR))


def _part(text: str, data: str) -> Part:
    name, colon, number = text.rpartition(":")
    weight = _number(number) if colon else None
    if weight is None:
        name, weight = text, 1.0
    if not name.strip():
        raise LabError(f"data = {data!r} has a part without a name: write name:weight + name:weight")
    if not (weight > 0 and math.isfinite(weight)):
        raise LabError(
            f"data = {data!r}: the weight of {name} is {number.strip()}; it must be a number above 0"
        )
    return Part(name.strip(), weight)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _exists(data: str) -> bool:
    try:
        return expanded(data).exists()
    except (OSError, RuntimeError, ValueError):
        return False
