"""What the lab shows in a window that is too small for it, instead of a broken layout."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_lab.ui.screens.pane import MIN_COLUMNS, MIN_ROWS


def too_small(width: int, height: int) -> bool:
    return width < MIN_COLUMNS or height < MIN_ROWS


def message(width: int, height: int) -> str:
    """What is missing, and what to do about it."""
    return (
        f"tui-lab needs at least {MIN_COLUMNS}×{MIN_ROWS}, now {width}×{height}\n"
        "Enlarge the window, or make its font smaller; in tmux Ctrl+B z gives this pane the whole window.\n"
        "Runs continue, and typed text is kept."
    )


class TooSmall(ModalScreen[None]):
    """Covers everything until the window has grown. What lies below keeps its focus and its place."""

    DEFAULT_CSS = """
    TooSmall { align: center middle; background: $background; }
    TooSmall Static { width: 100%; height: auto; text-align: center; }
    """

    def compose(self) -> ComposeResult:
        yield Static(Content(message(*self.app.size)))

    def on_screen_resume(self) -> None:
        # what was opened over it has gone: the window may have grown meanwhile
        if not too_small(*self.app.size):
            self.dismiss()

    def update(self, width: int, height: int) -> None:
        self.query_one(Static).update(Content(message(width, height)))
