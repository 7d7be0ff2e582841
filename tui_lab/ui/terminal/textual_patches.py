"""What Textual 8.2.8 fails over, guarded in one place. A list that has no rows yet (it was just filled, or
the window leaves it none) would end the whole app when Page up or Page down is pressed in it; a long word
would where a window of a few cells leaves a text no column. A timer whose time has come already when it is
made, as that of a passing message that is shown again just when it expires, would run in a circle and hold
everything."""

from __future__ import annotations

from typing import Any

from textual import content
from textual.timer import Timer

from tui_lab.ui.terminal.textual_internals import guard_page_keys

#: What a timer waits at least.
SHORTEST_S = 0.001

_divide_line = content.divide_line
_make_timer = Timer.__init__


def _divide_line_of_columns(text: str, width: int, fold: bool = True) -> list[int]:
    return _divide_line(text, max(1, width), fold)


def _make_timer_that_ends(timer: Timer, event_target: Any, interval: float, **how: Any) -> None:
    _make_timer(timer, event_target, max(SHORTEST_S, interval), **how)


guard_page_keys()
content.divide_line = _divide_line_of_columns
Timer.__init__ = _make_timer_that_ends  # type: ignore[method-assign,assignment]
