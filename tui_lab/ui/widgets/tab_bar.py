"""One line of tabs: the parts of a pane, the lists of Setup, the lanes of the Playground. A click on a tab
runs the screen's action for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textual import events
from textual.content import Content
from textual.widget import Widget

#: A label is cut to no fewer cells than this; what does not fit then is cropped at the right edge.
MIN_LABEL_CELLS = 5


@dataclass(frozen=True)
class Tab:
    """One tab. ``labels`` are alternatives, the longest first; ``action`` is an action of the screen."""

    id: str
    labels: tuple[str, ...]
    action: str
    style: str = ""


def part_tabs(parts: Sequence[tuple[str, str]]) -> tuple[Tab, ...]:
    """Tabs for the parts of a pane, given as (id, title)."""
    return tuple(Tab(name, (f" {title} ", title), f"tab('{name}')") for name, title in parts)


def fitted_labels(tabs: Sequence[Tab], width: int) -> list[str]:
    """One label per tab for a bar of ``width`` cells, with one blank between labels: the longest
    alternative that fits. When none fits, the longest labels of the shortest alternative are cut."""
    available = width - (len(tabs) - 1)
    labels: list[str] = []
    for alternative in range(max((len(tab.labels) for tab in tabs), default=0)):
        labels = [tab.labels[min(alternative, len(tab.labels) - 1)] for tab in tabs]
        if sum(map(len, labels)) <= available:
            return labels
    while sum(map(len, labels)) > available:
        longest = max(range(len(labels)), key=lambda number: len(labels[number]))
        if len(labels[longest]) <= MIN_LABEL_CELLS:
            break
        labels[longest] = labels[longest].rstrip("… ")[:-1] + "…"
    return labels


class TabBar(Widget):
    """See the module's docstring. The first tab is active until another is activated."""

    DEFAULT_CSS = "TabBar { height: 1; width: 100%; background: $surface; }"

    def __init__(self, tabs: Sequence[Tab] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tabs = tuple(tabs)
        self.active = tabs[0].id if tabs else ""

    def set_tabs(self, tabs: Sequence[Tab], active: str | None = None) -> None:
        """Replaces the tabs, and activates one of them. Redraws only when something changed."""
        new = (tuple(tabs), self.active if active is None else active)
        if new != (self.tabs, self.active):
            self.tabs, self.active = new
            self.refresh()

    def neighbour(self, by: int) -> str:
        """The id of the tab ``by`` places after the active one, wrapping around."""
        names = [tab.id for tab in self.tabs]
        return names[(names.index(self.active) + by) % len(names)]

    def _spans(self) -> list[tuple[int, str, Tab]]:
        """(first cell, label, tab) of every tab."""
        spans, x = [], 0
        for label, tab in zip(fitted_labels(self.tabs, self.size.width), self.tabs, strict=True):
            spans.append((x, label, tab))
            x += len(label) + 1
        return spans

    def render(self) -> Content:
        return Content(" ").join(
            Content.styled(label, f"{tab.style} {'bold reverse' if tab.id == self.active else ''}".strip())
            for _, label, tab in self._spans()
        )

    def jump_places(self) -> list[tuple[int, str]]:
        """(cell, action) of every tab, for jump mode. The cell is blank, so that no title is covered."""
        return [(x if label.startswith(" ") else x - 1, tab.action) for x, label, tab in self._spans()]

    async def on_click(self, event: events.Click) -> None:
        for x, label, tab in self._spans():
            if x <= event.x < x + len(label):
                await self.screen.run_action(tab.action)
