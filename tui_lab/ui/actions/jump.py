"""Jump mode: letters on everything that takes the focus and on every tab in view; typing one goes there. A
widget that draws several places itself (tabs, panes) lists them in ``jump_places``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tui_lab.ui.actions.modal import Modal
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.terminal.types import AnyScreen

#: The home row first, for it is nearest.
LETTERS = "asdfghjklqwertyuiopzxcvbnm"
#: Cells that a label has: two letters at most.
LABEL_ROOM = 2


class Place(NamedTuple):
    """Somewhere to go: where its letter stands, and what goes there."""

    x: int
    y: int
    go: Callable[[], object]


def labels(count: int) -> list[str]:
    """A letter for each of ``count`` places; two for each where one would not do."""
    if count <= len(LETTERS):
        return list(LETTERS[:count])
    return ["".join(pair) for pair in product(LETTERS, repeat=2)][:count]


def places(screen: AnyScreen) -> list[Place]:
    """Everything on the screen that can be gone to, from the top left; labels do not touch each other."""
    width, height = screen.size
    found: list[Place] = []

    def add(x: int, y: int, go: Callable[[], object]) -> None:
        x = max(0, x)
        taken = [place.x for place in found if place.y == y]
        while any(abs(x - other) < LABEL_ROOM for other in taken):
            x += LABEL_ROOM
        if x <= width - LABEL_ROOM and 0 <= y < height:
            found.append(Place(x, y, go))

    for widget in screen.query("*"):
        named = getattr(widget, "jump_places", None)
        if named and (seen := _seen(screen, widget)):
            for x, action in named():
                add(seen[0] + x, seen[1], partial(screen.run_action, action))
    for widget in screen.focus_chain:
        if seen := _seen(screen, widget):
            add(*seen, partial(screen.set_focus, widget))
    return sorted(found, key=lambda place: (place.y, place.x))


def _seen(screen: AnyScreen, widget: Widget) -> tuple[int, int] | None:
    """Where the part of a widget begins that is in view; None when none is."""
    if not widget.is_on_screen or not widget.region:
        return None
    region = screen.find_widget(widget).visible_region
    return (region.x, region.y) if region.area else None


class Jump(Modal["Place | None"]):
    """Gives the place whose letters were typed; Escape gives None."""

    DEFAULT_CSS = """
    Jump { layers: letters; background: $background 40%; }
    Jump Static {
        layer: letters; position: absolute; width: auto; height: 1; background: $accent; color: $background;
        text-style: bold;
    }
    """
    GROUP = "jump"
    BINDINGS = bindings("jump")

    def __init__(self, found: list[Place]) -> None:
        super().__init__()
        self.found = dict(zip(labels(len(found)), found, strict=True))
        self._typed = ""

    def compose(self) -> ComposeResult:
        for name, place in self.found.items():
            label = Static(Content(name))
            label.styles.offset = (place.x, place.y)
            yield label

    def on_resize(self, event: events.Resize) -> None:
        if self.is_mounted and self._size_at_first not in ((0, 0), tuple(event.size)):
            self.dismiss(None)  # what lies below has moved
        self._size_at_first = tuple(event.size)

    _size_at_first: tuple[int, ...] = (0, 0)

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            return
        event.stop()
        typed = self._typed + event.key
        if typed in self.found:
            self.dismiss(self.found[typed])
        elif any(name.startswith(typed) for name in self.found):
            self._typed = typed
        else:
            self._typed = ""
            self.app.bell()

    def action_leave(self) -> None:
        self.dismiss(None)
