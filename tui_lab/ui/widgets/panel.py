"""The panel: what every part of a pane and every dialog is framed with. Its title is in the border at the
left, with the key that leads there; its state or its count at the right. Only the panel that has the focus is
drawn in the accent. In a small window a panel keeps the top rule with its title (docs/design.md: why)."""

from __future__ import annotations

from typing import TypeVar

from textual.content import Content
from textual.widget import Widget

from tui_lab.core.sanitize import sanitize

AnyWidget = TypeVar("AnyWidget", bound=Widget)

#: The class ``panel`` on panes and modal screens.
PANEL_CSS = """
.panel {
    border: round $border-blurred; padding: 0 1; border-title-color: $foreground;
    border-title-style: none; border-subtitle-color: $text-muted; border-subtitle-align: right;
}
.panel:focus, .panel:focus-within { border: round $primary; border-title-style: bold; }
"""
#: On panes. In a small window: the top rule alone, and the contents in the same columns. A part of a
#: pane that is alone in view has its title in the line of tabs.
PANE_CSS = (
    PANEL_CSS
    + """
Pane.-narrow .panel, Pane.-short .panel {
    border: blank; border-bottom: none; border-top: round $border-blurred; padding: 0;
}
Pane.-narrow .panel:focus, Pane.-narrow .panel:focus-within,
Pane.-short .panel:focus, Pane.-short .panel:focus-within { border-top: round $primary; }
Pane .part.panel { border: none; padding: 0; }
Pane.-narrow .part.panel:focus, Pane.-narrow .part.panel:focus-within,
Pane.-short .part.panel:focus, Pane.-short .part.panel:focus-within { border: none; }
Pane.-grid .part.panel { border: round $border-blurred; }
Pane.-grid .part.panel:focus, Pane.-grid .part.panel:focus-within { border: round $primary; }
Pane.-grid.-short .part.panel { border: blank; border-bottom: none; border-top: round $border-blurred; }
Pane.-grid.-short .part.panel:focus, Pane.-grid.-short .part.panel:focus-within {
    border: blank; border-bottom: none; border-top: round $primary;
}
"""
)
#: Without colours, and where the terminal chooses what its 16 look like, the focus has another line.
COLOURLESS_CSS = """
App:nocolor .panel:focus, App:nocolor .panel:focus-within,
App:ansi .panel:focus, App:ansi .panel:focus-within { border-top: heavy $primary; }
"""


def panel_title(title: str, key: str = "") -> Content:
    """The title of a panel: the key that leads there in the accent, then the name."""
    name = Content(sanitize(title))
    return Content.assemble((key, "$primary bold"), " ", name) if key else name


def key_hints(hints: str) -> Content:
    """Keys with what they do, such as "Enter opens, Esc closes": the keys in the accent."""
    parts: list[str | tuple[str, str]] = []
    for hint in hints.split(", "):
        words = hint.split(" ")
        keys = next((n for n, word in enumerate(words) if not _is_key(word)), len(words))
        parts += [", " if parts else "", (" ".join(words[:keys]), "$primary bold"), " " * bool(keys)]
        parts.append(" ".join(words[keys:]))
    return Content.assemble(*parts)


def _is_key(word: str) -> bool:
    return len(word) == 1 or word[:1].isupper() or "+" in word or word[:1].isdigit()


def as_panel(panel: AnyWidget, title: str, key: str = "", state: str | Content = "") -> AnyWidget:
    """Makes a widget a panel with this title, and returns it; ``state``: its state or count, at the right."""
    panel.add_class("panel")
    panel.border_title = panel_title(title, key)
    panel.border_subtitle = state if isinstance(state, Content) else Content(sanitize(state))
    return panel
