"""Rows of data as the model will see them. The rows come from the preview job, in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.views.preview import preview_content

if TYPE_CHECKING:
    from tui_lab.data.preview_records import PreviewAnswer


class Preview(VerticalScroll):
    """Shows a preview, the progress of the job, or why there is no preview."""

    #: The term that F10 explains.
    explains = "data.mask"

    DEFAULT_CSS = """
    Preview { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    Preview Static { width: 1fr; height: auto; }
    """

    def __init__(self, empty: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.empty = empty

    def compose(self) -> ComposeResult:
        yield Static(Content.styled(self.empty, "$text-muted"))

    def show_text(self, text: str, style: str = "$text-muted") -> None:
        self.query_one(Static).update(Content.styled(sanitize(text, keep_newlines=True), style))

    def show_answer(self, answer: PreviewAnswer) -> None:
        self.query_one(Static).update(preview_content(answer))
        self.scroll_home(animate=False)
