"""The help screen: what each pane is for, and every key, read from the registry of actions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_lab.ui.actions import ACTIONS, GROUPS, key_name, keys_of

BORDER, PADDING, SCROLLBAR = 1, 2, 2  # cells of the box around the text

ABOUT = {
    "choose": (
        "Choose a model, a preset and data; every field of the recipe can be edited. "
        "The defaults make a QLoRA run on the bundled model that ends in about a minute: just press S."
    ),
    "tune": (
        "Watch a run: its loss on training and held-out rows, memory, speed, samples, and what the model "
        "still knows: retention with its 95% interval, and the distance (KL) from the base on general text "
        "and on the task's own. A arms the run: it stops once retention is surely lost. F tells what goes "
        "wrong. The run is a process of its own: it goes on when you leave the lab or the line breaks."
    ),
    "compare": (
        "One prompt, every lane at once. Type a prompt and press Enter; Escape goes to the lanes, where E "
        "edits one in place, ] goes to the next, Enter looks into its tokens, and T loads a tuned run beside "
        "its base."
    ),
    "keep": (
        "What a run kept of what its base knew: questions asked before and after, how much was retained and "
        "how sure that is, which items flipped (Enter opens one), and what to try next. * is retention above "
        "chance: guessing counts as nothing kept."
    ),
    "runs": (
        "Every run. Space marks runs: their curves lie over each other under Curves (M and X change what is "
        "drawn), what their recipes differ in is under Recipes. / filters by words, by state:, model:, data: "
        "or tag:. Runs that wait in the queue are here, too: it goes on without the lab."
    ),
    "dashboard": (
        "One run at a glance: how it stands, its loss, what the model still knows, its memory, and what it "
        "answers. Arrow keys go from tile to tile, Enter opens the pane that a tile comes from, I asks the "
        "model something. In a small window the tile that has the focus is open, the others are a line each."
    ),
}


def help_content(group: str, keymap: Mapping[str, str] | None = None, width: int = 74) -> Content:
    """The text of the help screen, the pane ``group`` first."""
    order = ["app", *([group] if group in GROUPS else []), *GROUPS]
    parts: list[Content | str] = []
    if about := ABOUT.get(group):
        parts += [Content.styled(about, "italic"), "\n\n"]
    key_width = max(len(keys_of(action.id, keymap)) for action in ACTIONS) + 2
    for name in dict.fromkeys(order):
        members = [action for action in ACTIONS if action.group == name]
        if not members:
            continue
        parts.append(Content.styled(GROUPS[name], "bold $primary"))
        parts.append("\n")
        for action in members:
            parts.append(Content.styled(f"  {keys_of(action.id, keymap):<{key_width}}", "$accent"))
            lines = textwrap.wrap(action.tooltip, max(20, width - key_width - 2))
            parts.append(f"\n{' ' * (key_width + 2)}".join(lines) + "\n")
        parts.append("\n")
    parts.append(
        "Arrow keys, Tab and Page Up/Down move as everywhere. Curves differ by their marks, not by colour "
        "alone; the legend over each plot names them."
    )
    return Content.assemble(*parts)


class HelpScreen(ModalScreen[None]):
    """Every key, by pane."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > VerticalScroll {
        width: 96; max-width: 100%; height: auto; max-height: 100%; padding: 0 2;
        background: $panel; border: round $primary;
    }
    HelpScreen Static { width: 1fr; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,f1,question_mark,enter", "dismiss", "Close")]

    def __init__(self, group: str) -> None:
        super().__init__()
        self.group = group

    def compose(self) -> ComposeResult:
        with VerticalScroll() as scroll:
            scroll.border_title = "Help"
            scroll.border_subtitle = "Esc closes"
            width = min(96, self.app.size.width) - 2 * (BORDER + PADDING) - SCROLLBAR
            yield Static(self.text(width))

    def text(self, width: int) -> Content:
        """What is shown, for lines of ``width`` cells."""
        keymap = cast("Mapping[str, str]", getattr(self.app, "_keymap", {}))
        return help_content(self.group, keymap, width)


class KeysScreen(HelpScreen):
    """The keys of a screen that lies over a pane, read from its bindings."""

    def __init__(self, about: str, bindings: Sequence[BindingType]) -> None:
        super().__init__("")
        self.about = about
        self.keys = [each for each in bindings if isinstance(each, Binding)]

    def text(self, width: int) -> Content:
        names = [" or ".join(key_name(key) for key in each.key.split(",")) for each in self.keys]
        key_width = max(len(name) for name in names) + 2
        parts: list[Content | str] = [Content.styled(self.about, "italic"), "\n\n"]
        for name, each in zip(names, self.keys, strict=True):
            parts.append(Content.styled(f"  {name:<{key_width}}", "$accent"))
            lines = textwrap.wrap(each.tooltip or each.description, max(20, width - key_width - 2))
            parts.append(f"\n{' ' * (key_width + 2)}".join(lines) + "\n")
        return Content.assemble(*parts)
