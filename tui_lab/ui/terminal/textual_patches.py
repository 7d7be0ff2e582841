"""Corrections of faults of Textual 8.2.8. A list without rows (it was just filled, or the window is too low)
ends the app when Page up or Page down is pressed; a long word does in a window without columns. A timer that
is already due when it is made, such as that of a message that is shown again just as it expires, loops
without end. The end of the app waits for a terminal that is not read. Two pending changes of the window's
size chase each other, and a widget that always has messages lets nothing else run. All style sheets are
parsed again whenever a pane is first shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from textual import content
from textual.message_pump import MessagePump
from textual.timer import Timer

from tui_lab.ui.terminal.textual_internals import (
    follow_the_window,
    guard_page_keys,
    keep_parsed_styles,
    take_turns,
    use_terminal_writer,
)

#: The shortest interval of a timer.
SHORTEST_S = 0.001

_divide_line: Callable[[str, int, bool], list[int]] = cast("Any", content).divide_line
_make_timer = Timer.__init__


def _divide_line_of_columns(text: str, width: int, fold: bool = True) -> list[int]:
    return _divide_line(text, max(1, width), fold)


def _make_timer_that_ends(timer: Timer, event_target: MessagePump, interval: float, **options: Any) -> None:
    _make_timer(timer, event_target, max(SHORTEST_S, interval), **options)


guard_page_keys()
use_terminal_writer()
follow_the_window()
take_turns()
keep_parsed_styles()
cast("Any", content).divide_line = _divide_line_of_columns
Timer.__init__ = _make_timer_that_ends  # type: ignore[method-assign,assignment]
