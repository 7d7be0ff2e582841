"""The names of adapters in lanes: the short names of their runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count

from tui_lab.runs.folder import Run
from tui_lab.runs.notes import short_name

#: Longest name of an adapter in lanes: it stands in their titles.
LONGEST_NAME = 24
#: What a lane's text or peft's names of modules cannot hold.
_REPLACED = re.compile(r"[^\w-]+")


def lane_name(run: Run, taken: Iterable[str] = ()) -> str:
    """The short name of a run as one word, with a number if another run has that name."""
    word = _REPLACED.sub("-", short_name(run)).strip("-")[:LONGEST_NAME].strip("-") or "tuned"
    used = {"base", *taken}
    return next(name for n in count(1) if (name := word if n == 1 else f"{word}-{n}") not in used)
