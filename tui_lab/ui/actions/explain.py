"""The explanations: the terms of the pane as a list, the one that had the focus first, each with two
sentences and a source. Words typed after / filter the list."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.ui.actions.explanations import Explanation, matching, of_pane, read
from tui_lab.ui.actions.modal import Modal
from tui_lab.ui.actions.registry import GROUPS, bindings
from tui_lab.ui.actions.search_line import SearchLine


def shown(term: Explanation) -> Content:
    """A term as the screen writes it."""
    return Content.assemble(
        (term.title, "bold"),
        *_facts(term.id),
        f"\n{term.text}\n",
        (f"Source: {term.source}", "$text-muted"),
    )


def _facts(term_id: str) -> list[tuple[str, str]]:
    """Behind the title of a recipe's field: its key, what it takes, its default."""
    kind, _, name = term_id.partition(".")
    if kind != "fields":
        return []
    from tui_lab.recipes.recipe import FIELDS

    info = FIELDS[name]
    default = "empty" if info.default == "" else str(info.default)
    return [(f"   {name}: {info.allowed()}; default {default}", "$text-muted")]


class ExplainScreen(Modal[None]):
    """See the module's docstring. ``term``: the id of what is explained first, "" for the list alone."""

    DEFAULT_CSS = """
    ExplainScreen { align: center middle; }
    ExplainScreen > Vertical {
        width: 100; max-width: 100%; height: 90%; background: $panel; border: round $primary;
    }
    ExplainScreen OptionList, ExplainScreen OptionList:focus {
        height: 1fr; min-height: 3; border: none; background: $panel; text-wrap: nowrap;
        text-overflow: ellipsis; scrollbar-size-vertical: 1;
    }
    ExplainScreen #text {
        width: 100%; height: auto; min-height: 6; padding: 0 1; border-top: solid $border-blurred;
    }
    """
    GROUP = "explain"
    AUTO_FOCUS = "OptionList"
    BINDINGS = bindings("explain")

    def __init__(self, pane: str, term: str = "") -> None:
        super().__init__()
        self.pane, self.term = pane, term
        self.all_terms = not of_pane(pane)

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_subtitle = (
                f"{self.keys('explain.search')} searches, {self.keys('explain.all')} all terms, "
                f"{self.keys('explain.close')} closes"
            )
            terms = OptionList()
            yield SearchLine("words", terms)
            yield terms
            yield Static(id="text")

    def on_mount(self) -> None:
        self._fill()

    def _fill(self) -> None:
        """The terms that are asked for; the cursor stays on its own."""
        terms = list(read().values()) if self.all_terms else of_pane(self.pane)
        terms = matching(self.query_one(SearchLine).value, terms)
        where = "everywhere" if self.all_terms else GROUPS.get(self.pane, self.pane)
        self.query_one(Vertical).border_title = f"What it means: {where}"
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(Content(each.title), id=each.id) for each in terms])
        ids = [each.id for each in terms]
        if ids:
            options.highlighted = ids.index(self.term) if self.term in ids else 0
        else:
            options.add_option(Option("Nothing here has these words.", disabled=True))
            self.query_one("#text", Static).update("")

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_id:
            self.query_one("#text", Static).update(shown(read()[event.option_id]))
            if not self.query_one(SearchLine).value:
                self.term = event.option_id

    @on(Input.Changed)
    def _typed(self) -> None:
        self._fill()

    def action_search(self) -> None:
        self.query_one(SearchLine).open_search()

    def action_everything(self) -> None:
        self.all_terms = not self.all_terms
        self._fill()

    def action_leave(self) -> None:
        """Closes the search, else the explanations."""
        if not self.query_one(SearchLine).close_search():
            self.dismiss(None)
