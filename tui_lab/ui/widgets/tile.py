"""One tile of the dashboard: a line with its title and the newest word on it, and below it one of the widgets
that the panes have, too. Closed, only the line is left. A tile has the focus as a whole: Enter opens its
pane, and what it holds is scrolled from there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.views.spans import TextSpan

#: Lines that a key scrolls by.
SCROLL = {"pageup": -5, "pagedown": 5}


class Tile(Vertical, can_focus=True):
    """See the module's docstring."""

    DEFAULT_CSS = """
    Tile { height: 1fr; }
    Tile.-closed { height: 1; }
    Tile.-closed .content { display: none; }
    Tile .headline {
        height: 1; width: 100%; padding: 0 1; background: $surface;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    Tile:focus .headline { background: $panel-lighten-2; }
    Tile .content { height: 1fr; padding: 0 1; }
    """

    class Opened(Message):
        """It was clicked twice."""

        def __init__(self, tile: Tile) -> None:
            super().__init__()
            self.tile = tile

    def __init__(self, title: str, *content: Widget, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.title = title
        self.words: tuple[TextSpan, ...] = ()
        self._content = Vertical(*content, classes="content")

    def compose(self) -> ComposeResult:
        yield Static(classes="headline")
        yield self._content

    def on_mount(self) -> None:
        self._draw()

    def tell(self, words: Iterable[TextSpan]) -> None:
        """The newest word on it: text and semantic name."""
        told = tuple(words)
        if told != self.words:
            self.words = told
            self._draw()

    def _draw(self) -> None:
        if not self.children:
            return
        # the mark says without a colour where the focus is
        parts: list[Any] = [("▸ " if self.has_focus else "  ", "bold"), (self.title, "bold $primary"), "  "]
        styles = {"": "", "axis": "$text-muted"}
        words = list(self.words)
        room = self.size.width - len(self.title) - 6
        while room > 0 and len(words) > 2 and sum(len(text) for text, _ in words) > room:
            words.pop()  # a figure is not cut in half
        parts += [(sanitize(text), styles.get(role, f"bold ${role}")) for text, role in words]
        self.query_one(".headline", Static).update(Content.assemble(*parts), layout=False)

    def on_resize(self) -> None:
        self._draw()

    def watch_has_focus(self, value: bool) -> None:
        super().watch_has_focus(value)
        self._draw()

    def on_click(self, event: events.Click) -> None:
        if event.chain == 2:
            self.post_message(self.Opened(self))

    def on_key(self, event: events.Key) -> None:
        if (by := SCROLL.get(event.key)) is not None:
            event.stop()
            for widget in self._content.walk_children():
                if isinstance(widget, Widget) and widget.display and widget.max_scroll_y > 0:
                    widget.scroll_relative(y=by, animate=False)
                    break
