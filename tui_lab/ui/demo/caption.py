"""The line of captions that the demo lays under every pane: what is said now, how far the story is, and the
demo's keys. It takes rows of its own, so that it never hides anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.widget import Widget

from tui_lab.core.sanitize import sanitize

#: Rows for what is said, in a window of so many columns or more.
ROWS = ((76, 2), (0, 3))
#: Windows of so many rows have one for a line between pane and bar.
APART_ROWS = 30
#: Of what the last line says: title, label, keys.
STYLES = ("bold", "bold $undecided", "$text-muted")


@dataclass(frozen=True)
class Said:
    """What the bar shows. ``label`` says that what is seen was recorded; ``keys`` what can be pressed, and
    ``brief_keys`` the same where there is little room."""

    text: str = ""
    title: str = ""
    number: int = 0
    count: int = 1
    label: str = ""
    keys: str = ""
    brief_keys: str = ""
    held: bool = False


def rows(width: int) -> int:
    """Rows for the text in a window of ``width`` columns."""
    return next(count for columns, count in ROWS if width >= columns)


def wrapped(text: str, width: int, most: int) -> list[str]:
    """The text in at most so many lines; the last is cut with an ellipsis."""
    lines = [line.plain.rstrip() for line in Content(sanitize(text)).wrap(max(10, width))]
    if len(lines) > most:
        last = Content(lines[most - 1] + " " + lines[most])
        lines = [*lines[: most - 1], last.truncate(max(10, width), ellipsis=True).plain]
    return lines + [""] * (most - len(lines))


def status(said: Said, width: int, ascii_only: bool) -> list[tuple[str, str]]:
    """The bar's last line as (text, style): chapters, title, label, keys, as much as fits."""
    done, left = ("#", ".") if ascii_only else ("●", "○")
    mark = ("||" if ascii_only else "‖") if said.held else (">" if ascii_only else "▶")
    parts = [
        (f"{mark} ", "bold $state-paused" if said.held else "bold $state-running"),
        (done * said.number + left * (said.count - said.number) + " ", "$primary"),
    ]
    room = width - sum(cell_len(text) for text, _ in parts)
    title = sanitize(said.title)
    label = sanitize(said.label)
    keys = sanitize(said.keys)
    # the label is the last to go: nobody may take a recording for a live run
    brief = sanitize(said.brief_keys)
    for words in (
        (title, label, keys),
        (title, label, brief),
        ("", label, brief),
        ("", label, ""),
        ("", set_cell_size(label, max(0, room)).rstrip(), ""),
    ):
        shown = [(word, style) for word, style in zip(words, STYLES, strict=True) if word]
        if sum(cell_len(word) + 3 for word, _ in shown) - 3 <= room:
            break
    for number, word in enumerate(shown):
        parts += [(" · " if not ascii_only else " | ", "$text-muted")] if number else []
        parts.append(word)
    return parts


class CaptionBar(Widget):
    """See the module's docstring. :meth:`say` shows something; what is the same is not sent again."""

    DEFAULT_CSS = """
    CaptionBar { width: 100%; height: 3; padding: 0 1; background: $panel; }
    CaptionBar.-apart { border-top: solid $primary; }
    """

    def __init__(self, said: Said, ascii_only: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.said, self.ascii_only = said, ascii_only

    def say(self, said: Said) -> None:
        if said != self.said:
            self.said = said
            self.refresh()

    def on_mount(self) -> None:
        self._fit()

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        apart = self.app.size.height >= APART_ROWS
        self.set_class(apart, "-apart")
        self.styles.height = rows(self.app.size.width) + 1 + apart

    def render(self) -> Content:
        width = self.size.width
        lines = wrapped(self.said.text, width, rows(self.app.size.width))
        last = Content.assemble(*status(self.said, width, self.ascii_only))
        return Content("\n").join([*(Content.styled(line, "bold") for line in lines), last])
