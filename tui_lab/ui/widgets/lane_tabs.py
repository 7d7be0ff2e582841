"""The line that says which lanes there are, for windows that cannot show them all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from tui_lab.decoding.strategies import Lane
from tui_lab.ui.widgets.lane_view import GLYPHS, State, role


class LaneTabs(Widget):
    """One line; a click on a lane is :class:`Chosen`."""

    DEFAULT_CSS = "LaneTabs { height: 1; width: 100%; background: $surface; }"

    @dataclass
    class Chosen(Message):
        number: int

    def __init__(self) -> None:
        super().__init__()
        self._lanes: list[tuple[Lane, State]] = []
        self._current = 0

    def show(self, lanes: Sequence[tuple[Lane, State]], current: int) -> None:
        """Other lanes, other states, another one in front."""
        if (list(lanes), current) != (self._lanes, self._current):
            self._lanes, self._current = list(lanes), current
            self.refresh()

    def _labels(self) -> list[str]:
        long = [f" {n} {lane.strategy.name}{GLYPHS[s]} " for n, (lane, s) in enumerate(self._lanes, 1)]
        if sum(map(len, long)) <= self.size.width:
            return long
        return [f" {n}{GLYPHS[s]} " for n, (_, s) in enumerate(self._lanes, 1)]

    def render(self) -> Content:
        return Content("").join(
            Content.styled(label, f"${role(lane)}" + (" reverse bold" if number == self._current else ""))
            for number, (label, (lane, _)) in enumerate(zip(self._labels(), self._lanes, strict=True))
        )

    def jump_places(self) -> list[tuple[int, str]]:
        """Where each lane's label begins, and what goes to it."""
        labels = self._labels()
        return [(sum(map(len, labels[:number])), f"go_to({number})") for number in range(len(labels))]

    def on_click(self, event: events.Click) -> None:
        x = 0
        for number, label in enumerate(self._labels()):
            if x <= event.x < x + len(label):
                self.post_message(self.Chosen(number))
            x += len(label)
