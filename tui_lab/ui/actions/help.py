"""The help, one screen with three pages: what each pane is for with every key and a sentence, from the
registry of actions; the terms of a pane, each with two sentences and a source; and whether to fine-tune at
all. Words typed after / filter keys or terms."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.explanations import Explanation, matching, of_pane, read
from tui_lab.ui.actions.footer import KeysLine
from tui_lab.ui.actions.modal import ListDialog
from tui_lab.ui.actions.registry import ACTIONS, GROUPS, Action, bindings, filled, key_cell, pane_digits
from tui_lab.ui.actions.search_line import SearchLine

Page: TypeAlias = Literal["keys", "terms", "whether"]
BORDER, PADDING, SCROLLBAR = 1, 2, 2  # cells of the box around the text
WIDEST = 100


class HelpTexts(msgspec.Struct):
    """The file ``help.toml``: what each pane is for, how to move, whether to fine-tune at all."""

    about: dict[str, str]
    moving: str
    whether: WhetherPage


class WhetherPage(msgspec.Struct):
    """The page that asks whether to fine-tune: its paragraphs by their heads."""

    title: str
    paragraphs: dict[str, str]
    sources: str


@cache
def texts() -> HelpTexts:
    """The texts of the help."""
    file = Path(__file__).with_name("help.toml")
    return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), HelpTexts)


def _has(query: str, *texts: str) -> bool:
    """Whether the texts have all of the query."""
    text = " ".join(texts).lower()
    return all(word in text for word in query.lower().split())


def _section(name: str, keymap: Mapping[str, str] | None, width: int, query: str) -> list[Content]:
    """A group: its title, what it is for, its keys."""

    def wanted(action: Action) -> bool:
        return _has(query, GROUPS[name], key_cell(action.id, keymap), action.label, action.tooltip, action.id)

    members = [action for action in ACTIONS if action.group == name and wanted(action)]
    about = filled(texts().about.get(name, ""), keymap)
    about = about if _has(query, GROUPS[name], about) else ""
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
    group: str, keymap: Mapping[str, str] | None = None, width: int = 74, query: str = ""
) -> Content:
    """The text of the help screen, the group ``group`` first; with ``query`` only lines that have them."""
    order = [*([group] if group in GROUPS else []), "app", *GROUPS]
    lines: list[Content] = []
    for name in dict.fromkeys(order):
        lines += _section(name, keymap, width, query)
    if _has(query, texts().moving):
        lines += [Content(line) for line in textwrap.wrap(texts().moving, width)]
    if not lines:
        explain = key_cell("app.explain", keymap)
        lines = [Content(f"Nothing here has {sanitize(query)!r}. {explain} explains terms and figures.")]
    return Content("\n").join(lines)


def whether_content(keymap: Mapping[str, str] | None, width: int) -> Content:
    """The page that asks whether to fine-tune at all."""
    parts: list[Content] = []
    for title, text in texts().whether.paragraphs.items():
        lines = textwrap.wrap(f"{title}: {filled(text, keymap)}", width)
        head, rest = lines[0][len(title) :], lines[1:]
        parts.append(Content.assemble((title, "bold $primary"), "\n".join([head, *rest])))
    sources = textwrap.wrap(f"Sources: {texts().whether.sources}", width)
    return Content("\n").join([*parts, *(Content.styled(line, "$text-muted") for line in sources)])


def term_content(term: Explanation) -> Content:
    """A term: title, for a hyperparameter its key, values and default, the sentences, the source."""
    parts: list[str | tuple[str, str]] = [(term.title, "bold")]
    kind, _, name = term.id.partition(".")
    if kind == "fields":
        from tui_lab.recipes.recipe import FIELDS

        info = FIELDS[name]
        default = "empty" if info.default == "" else str(info.default)
        parts.append((f"   {name}: {info.allowed()}; default {default}", "$text-muted"))
    return Content.assemble(*parts, f"\n{term.text}\n", (f"Source: {term.source}", "$text-muted"))


class HelpScreen(ListDialog[None]):
    """See the module's docstring. ``group``: the pane that comes first; ``term``: the term under the
    cursor."""

    DEFAULT_CSS = """
    HelpScreen > .dialog { height: 100%; max-height: 100%; padding: 0; }
    HelpScreen #text { height: 1fr; padding: 0 2; scrollbar-size-vertical: 1; }
    HelpScreen SearchLine, HelpScreen SearchLine:focus { padding: 0 2; }
    HelpScreen OptionList, HelpScreen OptionList:focus { height: 1fr; min-height: 3; display: none; }
    HelpScreen #about { min-height: 6; margin: 0; padding: 0 1; border-top: solid $border-blurred; }
    HelpScreen.-terms OptionList { display: block; }
    HelpScreen.-terms #text { display: none; }
    """
    GROUP = "help"
    AUTO_FOCUS = ""
    INFORMATIONAL = True
    BINDINGS = [*bindings("help"), *pane_digits()]  # noqa: RUF012

    def __init__(self, group: str, page: Page = "keys", term: str = "") -> None:
        super().__init__()
        self.group, self.page, self.term = group, page, term
        self.all_terms = not of_pane(group)

    def compose_body(self) -> ComposeResult:
        yield SearchLine("words, a key, or an action's id")
        yield VerticalScroll(Static(), id="text")
        yield OptionList()
        yield Static(id="about")
        yield KeysLine(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.show_page(self.page)

    def on_resize(self, _event: events.Resize) -> None:
        self._draw()

    def show_page(self, page: Page) -> None:
        """Shows another page, from its beginning."""
        self.page = page
        self.set_class(page == "terms", "-terms")
        self._draw()
        self._text.scroll_home(animate=False)
        self.focus_rows()
        self.refresh_bindings()

    @property
    def _text(self) -> VerticalScroll:
        return self.query_one("#text", VerticalScroll)

    def focus_rows(self) -> None:
        """Gives the page the focus."""
        (self.options if self.page == "terms" else self._text).focus()

    def _draw(self) -> None:
        query = self.query_one(SearchLine).value
        if self.page == "terms":
            self._draw_terms(query)
        else:
            width = max(20, min(WIDEST, self.app.size.width) - 2 * (BORDER + PADDING) - SCROLLBAR)
            self.heading, text = (
                (texts().whether.title, whether_content(self.keymap, width))
                if self.page == "whether"
                else ("Help", help_content(self.group, self.keymap, width, query))
            )
            self.query_one("#text Static", Static).update(text)
            self.query_one("#about").display = False
        self.frame()

    def _draw_terms(self, query: str) -> None:
        """The terms that are asked for; the cursor stays on its own."""
        terms = matching(query, read().values() if self.all_terms else of_pane(self.group))
        where = "everywhere" if self.all_terms else GROUPS.get(self.group, self.group)
        self.heading = f"What it means: {where}"
        rows = [Option(Content(each.title), id=each.id) for each in terms]
        self.fill(rows, self.term, "Nothing here has these words.")
        self.query_one("#about").display = bool(rows)

    def about(self, row_id: str) -> Content:
        """The term under the cursor."""
        if not self.query_one(SearchLine).value:
            self.term = row_id
        return term_content(read()[row_id])

    def filter_rows(self, _at: str = "") -> None:
        self._draw()
        self._text.scroll_home(animate=False)

    def filter_entered(self) -> None:
        self.focus_rows()

    @property
    def labels_now(self) -> dict[str, str]:
        """A page's key leads back from it to the keys."""
        return {"whether": "All keys"} if self.page == "whether" else {}

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "everything" and self.page != "terms":
            return False
        return super().check_action(action, parameters)

    def action_whether(self) -> None:
        self.show_page("keys" if self.page == "whether" else "whether")

    def action_everything(self) -> None:
        self.all_terms = not self.all_terms
        self._draw()

    def action_search(self) -> None:
        if self.page == "whether":
            self.show_page("keys")
        self.query_one(SearchLine).open_search()
