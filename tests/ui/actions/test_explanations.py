"""The explanations: everything has one, each is two sentences with a source that exists, and the screen shows
the one that had the focus."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tui_lab
from tests.ui.helpers import screen_text, until
from tui_lab.core import settings
from tui_lab.decoding.strategies import FAMILIES, PARAMETERS
from tui_lab.recipes.recipe import FIELDS
from tui_lab.runs.queue.sweep import CRITERIA
from tui_lab.ui.actions.explanations import matching, of_pane, read
from tui_lab.ui.actions.help import HelpScreen, term_content
from tui_lab.ui.actions.registry import GROUPS, PANE_GROUPS
from tui_lab.ui.app import LabApp
from tui_lab.ui.terminal.ascii import to_ascii
from tui_lab.ui.views.forecast import MARKS
from tui_lab.ui.views.saved_comparison import STATISTICS

ROOT = Path(tui_lab.__file__).parent
#: Where one sentence ends and another begins.
BETWEEN = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9*✂])")
#: A file of the project as sources name it.
FILE = re.compile(r"[a-z_]+/[a-z0-9_/*]*(?:\.[a-z]+)?|[a-z_]+\.(?:py|toml)")


@pytest.mark.parametrize("term", sorted(read()))
def test_an_explanation_is_two_sentences_with_a_source(term: str) -> None:
    found = read()[term]
    assert found.title and found.source.strip()
    assert len(BETWEEN.split(found.text)) == 2 and found.text.endswith("."), found.text
    assert len(found.text) <= 420, "two sentences, not two paragraphs"
    assert "?" not in to_ascii(found.title + found.text + found.source), "whole in ASCII, too"
    assert not set("·‖") & set(found.text), "signs that ASCII has otherwise would change a formula"
    assert set(found.of) <= {*PANE_GROUPS, "settings"}
    for _, own in re.findall(r"(^|; |by )tui-lab, ([^;(]*)", found.source):
        for name in FILE.findall(own):
            assert any(any(place.glob(name)) for place in (ROOT, ROOT.parent)), name


def test_everything_has_an_explanation() -> None:
    known = read()
    assert {f"fields.{name}" for name in FIELDS} == {term for term in known if term.startswith("fields.")}
    assert {f"settings.{name}" for name in settings.FIELDS} == {t for t in known if t.startswith("settings.")}
    assert all(f"setup.{part}" in known for part in MARKS), "every part of the forecast's bar"
    assert all(f"playground.{family.replace('-', '_')}" in known for family in FAMILIES)
    assert all(f"playground.{name}" in known for name in PARAMETERS)
    assert all(of_pane(pane) for pane in PANE_GROUPS)
    titles = " ".join(each.title for each in known.values())
    assert all(figure.split()[0] in titles for figure in ("rep-4", "distinct-2")) and STATISTICS
    assert CRITERIA and "runs.best_by" in known


def test_every_tab_of_a_pane_begins_with_a_term_of_its_own() -> None:
    from tui_lab.ui.screens import retention, runs, train

    for pane, tabs in (("train", train.TABS), ("retention", retention.TABS), ("runs", runs.TABS)):
        for name, _ in tabs:
            assert any(name in each.tabs for each in of_pane(pane)), (pane, name)


def test_a_field_says_what_it_takes() -> None:
    text = term_content(read()["fields.lora_r"]).plain
    assert "lora_r: a whole number from 1 to 1024; default 16" in text and "2106.09685" in text


def test_searching_finds_titles_first() -> None:
    found = matching("rank", read().values())
    assert "rank" in found[0].title.lower() and len(found) > 3
    assert matching("no such words anywhere", read().values()) == []


def test_nothing_is_read_before_somebody_asks() -> None:
    code = (
        "import sys, tui_lab.ui.app, tui_lab.ui.screens.setup;"
        "print([m for m in sys.modules if m.startswith('tui_lab.ui.expl')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


async def test_the_field_under_the_cursor_is_explained_also_while_it_is_edited() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await pilot.press("h")
        form = app.screen.query_one("FieldsForm")
        await until(lambda: form.has_focus_within)
        form.go_to("lora_r")  # type: ignore[attr-defined]
        await pilot.press("enter", "f10")
        await until(lambda: isinstance(app.screen, HelpScreen))
        await until(lambda: "two thin matrices" in screen_text(app))
        assert "2106.09685" in screen_text(app)
        await pilot.press("slash", *"forecast bar no", "escape")
        await until(lambda: "two thin matrices" in screen_text(app), what="the search is left first")
        await pilot.press("f10")
        await until(lambda: not isinstance(app.screen, HelpScreen))
        assert form.has_focus_within


async def test_a_pane_lists_its_own_terms_and_a_finds_all() -> None:
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await pilot.press("f5", "f10")
        await until(lambda: isinstance(app.screen, HelpScreen) and "Chance level" in screen_text(app))
        assert GROUPS["retention"] in screen_text(app)
        await pilot.press("escape", "f5", "f10")
        await until(lambda: isinstance(app.screen, HelpScreen) and GROUPS["retention"] in screen_text(app))
        count = len(app.screen.query_one("OptionList").options)  # type: ignore[attr-defined]
        await pilot.press("a")
        await until(lambda: len(app.screen.query_one("OptionList").options) == len(read()))  # type: ignore[attr-defined]
        assert count < len(read())
        await pilot.press("f1")
        await until(lambda: "Show what each pane is for" in screen_text(app), what="the page of the keys")
        await pilot.press("f10", "f10")
        await until(lambda: app.screen is app.screen_stack[0], what="a page's own key closes the help")
