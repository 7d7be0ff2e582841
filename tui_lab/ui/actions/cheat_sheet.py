"""The cheat sheet: the keys of what is in view and of the whole lab, in as many columns as fit. The long help
is in :mod:`tui_lab.ui.actions.help`."""

from __future__ import annotations

from collections.abc import Mapping

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from tui_lab.ui.actions.keys import key_name
from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import ACTIONS, GROUPS, bindings, keys_now, pane_digits

GAP = 3  # cells between two columns
BORDER, PADDING, SCROLLBAR = 1, 1, 1
WIDEST = 150


def columns(cells: list[tuple[str, str]], width: int) -> list[Content]:
    """(key, what it does) in lines of at most ``width`` cells, downwards first, in as many columns as fit."""
    for count in range(len(cells), 0, -1):
        rows = -(-len(cells) // count)
        stacks = [cells[start : start + rows] for start in range(0, len(cells), rows)]
        widths = [[max(map(len, texts)) for texts in zip(*stack, strict=True)] for stack in stacks]
        if count == 1 or sum(key + 1 + label for key, label in widths) + GAP * (len(widths) - 1) <= width:
            break
    else:
        return []
    lines = []
    for row in range(rows):
        parts: list[Content] = []
        for stack, (key_width, label_width) in zip(stacks, widths, strict=True):
            if row < len(stack):
                key, label = stack[row]
                parts.append(
                    Content.assemble((key.ljust(key_width + 1), "$accent"), label.ljust(label_width + GAP))
                )
        lines.append(Content("").join(parts).rstrip())
    return lines


def keys(action_id: str, keymap: Mapping[str, str] | None) -> str:
    """An action's keys with a blank between, "–" for none."""
    return " ".join(map(key_name, keys_now(action_id, keymap))) or "–"


def sheet(group: str, keymap: Mapping[str, str] | None, width: int) -> Content:
    """The whole sheet."""
    lines: list[Content] = []
    for name in dict.fromkeys((group, *(["form"] if group == "setup" else []), "app")):
        cells = [
            (keys(each.id, keymap), each.label)
            for each in ACTIONS
            if each.group == name and (each.keys or keys_now(each.id, keymap))  # else it is in the palette
        ]
        if cells:
            lines += [Content.styled(GROUPS[name], "bold $primary"), *columns(cells, width)]
    return Content("\n").join(lines)


class CheatSheet(Dialog[None]):
    """See the module's docstring."""

    DEFAULT_CSS = "CheatSheet > .dialog { width: 100%; max-width: 154; max-height: 100%; }"
    SCROLLS = True
    GROUP = "keys"
    INFORMATIONAL = True
    BINDINGS = [*bindings("keys"), *pane_digits()]  # noqa: RUF012

    def __init__(self, group: str) -> None:
        super().__init__()
        self.group = group
        self.heading = f"Keys: {GROUPS[group]}" if group in GROUPS else "Keys"

    def hint(self) -> str:
        return f"{self.keys('app.help')} more help, {self.keys('keys.close')} closes"

    def compose_body(self) -> ComposeResult:
        yield Static()

    def on_resize(self, event: events.Resize) -> None:
        width = min(WIDEST, event.size.width) - 2 * (BORDER + PADDING) - SCROLLBAR
        self.query_one(Static).update(sheet(self.group, self.keymap, width))
