"""What Textual 8.2.8 fails over, guarded in one place: a list that has no rows yet (it was just filled, or
the window leaves it none) would end the whole app when Page up or Page down is pressed in it."""

from __future__ import annotations

from textual.widgets import OptionList

_move_page = OptionList._move_page


def _move_page_of_rows(options: OptionList, direction: int) -> None:
    if options._lines:
        _move_page(options, direction)  # type: ignore[arg-type]


OptionList._move_page = _move_page_of_rows  # type: ignore[method-assign,assignment]
