"""Names of tensors in sentences. No torch."""

from __future__ import annotations

from collections.abc import Iterable

from tui_lab.core.format import and_more
from tui_lab.core.sanitize import sanitize

#: Names that a sentence lists.
LISTED = 4


def tensors(names: Iterable[str], one: str = "is", many: str = "are") -> str:
    """The subject and verb of a sentence about tensors: their number and the first names, in order."""
    listed = sorted(map(str, names), key=_natural)
    shown = ", ".join(sanitize(name[:120]) for name in listed[:LISTED])
    more = and_more(len(listed) - LISTED)
    if len(listed) == 1:
        return f"the tensor {shown} {one}"
    return f"{len(listed):,} tensors ({shown}{more}) {many}"


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]
