"""The caption bar of the demo, under every pane: the caption, the chapter, whether it is a recording, and the
demo's keys. It has rows of its own, so that it hides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content
from textual.widget import Widget

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.views.spans import cut

#: Rows of the caption: (columns of the window at least, rows).
CAPTION_ROWS = ((76, 2), (0, 3))
#: Windows with this many rows have a rule between pane and bar.
RULE_ROWS = 30
#: Styles of title, label and keys on the last line.
STATUS_STYLES = ("bold", "bold $undecided", "$text-muted")


@dataclass(frozen=True)
class Caption:
    """Contents of the bar. ``number`` of ``count`` is the chapter; ``label`` says that a recording is shown;
    ``keys`` are the demo's keys, and ``brief_keys`` the same for narrow windows."""

    text: str = ""
    title: str = ""
    number: int = 0
    count: int = 1
    label: str = ""
    keys: str = ""
    brief_keys: str = ""
    paused: bool = False


def rows(width: int) -> int:
    """Rows of the caption text in a window of ``width`` columns."""
    return next(count for columns, count in CAPTION_ROWS if width >= columns)


def wrapped(text: str, width: int, height: int) -> list[str]:
    """The text in exactly ``height`` lines of at most ``width`` columns; text that does not fit ends with an
    ellipsis."""
    lines = [line.plain.rstrip() for line in Content(sanitize(text)).wrap(max(10, width))]
    if len(lines) > height:
        last = Content(lines[height - 1] + " " + lines[height])
        lines = [*lines[: height - 1], last.truncate(max(10, width), ellipsis=True).plain]
    return lines + [""] * (height - len(lines))


def status(caption: Caption, width: int, ascii_only: bool) -> list[tuple[str, str]]:
    """The last line as (text, style) spans: chapters, title, label and keys, as many as fit."""
    past, future = ("#", ".") if ascii_only else ("●", "○")
    mark = ("||" if ascii_only else "‖") if caption.paused else (">" if ascii_only else "▶")
    spans = [
        (f"{mark} ", "bold $state-paused" if caption.paused else "bold $state-running"),
        (past * caption.number + future * (caption.count - caption.number) + " ", "$primary"),
    ]
    available = width - sum(cell_len(text) for text, _ in spans)
    title = sanitize(caption.title)
    label = sanitize(caption.label)
    keys = sanitize(caption.keys)
    # the label is dropped last: a recording must not look like a live run
    brief = sanitize(caption.brief_keys)
    for texts in (
        (title, label, keys),
        (title, label, brief),
        ("", label, brief),
        ("", label, ""),
        ("", cut(label, available), ""),
    ):
        shown = [(text, style) for text, style in zip(texts, STATUS_STYLES, strict=True) if text]
        if sum(cell_len(text) + 3 for text, _ in shown) - 3 <= available:
            break
    for number, span in enumerate(shown):
        spans += [(" · " if not ascii_only else " | ", "$text-muted")] if number else []
        spans.append(span)
    return spans


class CaptionBar(Widget):
    """See the module's docstring. :meth:`show` redraws only when the caption differs."""

    DEFAULT_CSS = """
    CaptionBar { width: 100%; height: 3; padding: 0 1; background: $panel; }
    CaptionBar.-ruled { border-top: solid $primary; }
    """

    def __init__(self, caption: Caption, ascii_only: bool) -> None:
        super().__init__()
        self.caption, self.ascii_only = caption, ascii_only

    def show(self, caption: Caption) -> None:
        if caption != self.caption:
            self.caption = caption
            self.refresh()

    def on_mount(self) -> None:
        self._fit()

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        ruled = self.app.size.height >= RULE_ROWS
        self.set_class(ruled, "-ruled")
        self.styles.height = rows(self.app.size.width) + 1 + ruled

    def render(self) -> Content:
        width = self.size.width
        lines = wrapped(self.caption.text, width, rows(self.app.size.width))
        last = Content.assemble(*status(self.caption, width, self.ascii_only))
        return Content("\n").join([*(Content.styled(line, "bold") for line in lines), last])
