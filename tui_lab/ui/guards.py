"""What Textual 8.2.8 fails over, guarded in one place. A list that has no rows yet (it was just filled, or
the window leaves it none) would end the whole app when Page up or Page down is pressed in it. A timer whose
time has come already when it is made, as that of a passing message that is shown again just when it expires,
would run in a circle for ever and hold everything."""

from __future__ import annotations

from typing import Any

from textual.timer import Timer
from textual.widgets import OptionList

#: What a timer waits at least.
SHORTEST_S = 0.001

_move_page = OptionList._move_page
_make_timer = Timer.__init__


def _move_page_of_rows(options: OptionList, direction: int) -> None:
    if options._lines:
        _move_page(options, direction)  # type: ignore[arg-type]


def _make_timer_that_ends(timer: Timer, event_target: Any, interval: float, **how: Any) -> None:
    _make_timer(timer, event_target, max(SHORTEST_S, interval), **how)


OptionList._move_page = _move_page_of_rows  # type: ignore[method-assign,assignment]
Timer.__init__ = _make_timer_that_ends  # type: ignore[method-assign,assignment]
