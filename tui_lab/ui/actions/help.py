"""The help: what each pane is for, and every key with a sentence, from the registry of actions. Words typed
after / filter the lines."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.action import Action
from tui_lab.ui.actions.footer import KeysLine
from tui_lab.ui.actions.help_texts import ABOUT, MOVING, WHETHER, WHETHER_SOURCES, WHETHER_TITLE, filled
from tui_lab.ui.actions.modal import Modal
from tui_lab.ui.actions.registry import ACTIONS, GROUPS, bindings, key_cell
from tui_lab.ui.actions.search_line import SearchLine

BORDER, PADDING, SCROLLBAR = 1, 2, 2  # cells of the box around the text
WIDEST = 100


def _has(words: str, *texts: str) -> bool:
    """Whether the texts have all of the words."""
    text = " ".join(texts).lower()
    return all(word in text for word in words.lower().split())


def _section(name: str, keymap: Mapping[str, str] | None, width: int, words: str) -> list[Content]:
    """A group: its title, what it is for, its keys."""

    def wanted(action: Action) -> bool:
        return _has(words, GROUPS[name], key_cell(action.id, keymap), action.label, action.tooltip, action.id)

    members = [action for action in ACTIONS if action.group == name and wanted(action)]
    about = filled(ABOUT.get(name, ""), keymap)
    about = about if _has(words, GROUPS[name], about) else ""
    if not members and not about:
        return []
    parts = [Content.styled(GROUPS[name], "bold $primary")]
    if about:
        parts += [Content.styled(line, "italic") for line in textwrap.wrap(about, width)]
    key_width = max((len(key_cell(action.id, keymap)) for action in members), default=0) + 2
    for action in members:
        lines = textwrap.wrap(action.tooltip, max(20, width - key_width - 2))
        keys = (f"  {key_cell(action.id, keymap):<{key_width}}", "$accent")
        parts.append(Content.assemble(keys, f"\n{' ' * (key_width + 2)}".join(lines)))
    return [*parts, Content("")]


def help_content(
    group: str, keymap: Mapping[str, str] | None = None, width: int = 74, words: str = ""
) -> Content:
    """The text of the help screen, the group ``group`` first; with ``words`` only lines that have them."""
    order = [*([group] if group in GROUPS else []), "app", *GROUPS]
    lines: list[Content] = []
    for name in dict.fromkeys(order):
        lines += _section(name, keymap, width, words)
    if _has(words, MOVING):
        lines += [Content(line) for line in textwrap.wrap(MOVING, width)]
    if not lines:
        explain = key_cell("app.explain", keymap)
        lines = [
            Content(f"Nothing here has {sanitize(words)!r}. {explain} explains terms, fields and figures.")
        ]
    return Content("\n").join(lines)


def whether_content(keymap: Mapping[str, str] | None, width: int) -> Content:
    """The page that asks whether to fine-tune at all."""
    parts: list[Content] = []
    for title, text in WHETHER:
        lines = textwrap.wrap(f"{title}: {filled(text, keymap)}", width)
        head, rest = lines[0][len(title) :], lines[1:]
        parts.append(Content.assemble((title, "bold $primary"), "\n".join([head, *rest])))
    sources = textwrap.wrap(f"Sources: {WHETHER_SOURCES}", width)
    return Content("\n").join([*parts, *(Content.styled(line, "$text-muted") for line in sources)])


class HelpScreen(Modal[None]):
    """Every key, by pane."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > Vertical {
        width: 104; max-width: 100%; height: 100%; background: $panel; border: round $primary;
    }
    HelpScreen VerticalScroll { height: 1fr; padding: 0 2; scrollbar-size-vertical: 1; }
    HelpScreen Static { width: 1fr; height: auto; }
    HelpScreen SearchLine, HelpScreen SearchLine:focus { padding: 0 2; }
    """
    GROUP = "help"
    AUTO_FOCUS = "VerticalScroll"
    BINDINGS = bindings("help")

    def __init__(self, group: str, whether: bool = False) -> None:
        super().__init__()
        self.group, self.whether = group, whether

    def compose(self) -> ComposeResult:
        with Vertical():
            text = VerticalScroll(Static())
            yield SearchLine("a word, a key, or an action's id", text)
            yield text
            yield KeysLine(compact=True, show_command_palette=False)

    def on_resize(self, _event: events.Resize) -> None:
        self._draw()

    def _draw(self) -> None:
        width = max(20, min(WIDEST, self.app.size.width) - 2 * (BORDER + PADDING) - SCROLLBAR)
        words = self.query_one(SearchLine).value
        if self.whether:
            text = whether_content(self.keymap, width)
        else:
            text = help_content(self.group, self.keymap, width, words)
        self.query_one(Static).update(text)
        title = WHETHER_TITLE if self.whether else "Help"
        self.query_one(Vertical).border_title = title

    @on(Input.Changed)
    def _typed(self) -> None:
        self._draw()
        self.query_one(VerticalScroll).scroll_home(animate=False)

    @property
    def labels_now(self) -> dict[str, str]:
        """The key of the page leads back from it."""
        return {"whether": "All keys"} if self.whether else {}

    def action_whether(self) -> None:
        self.whether = not self.whether
        self.refresh_bindings()
        self._draw()
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def action_search(self) -> None:
        self.whether = False
        self.refresh_bindings()
        self.query_one(SearchLine).open_search()

    def action_leave(self) -> None:
        """Closes the search, else the help."""
        if not self.query_one(SearchLine).close_search():
            self.dismiss(None)
