"""Votes and edited answers: an answer is edited on Playground, listed, read whole, written and taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input, TextArea

from tests.ui.helpers import said, screen_text, until
from tests.ui.screens.test_playground import compare
from tui_lab.data import formats
from tui_lab.playground.vote_rows import rows_of, vote_files
from tui_lab.ui.screens.item_view import ItemView, shortened
from tui_lab.ui.screens.votes import EditAnswer, VoteTable
from tui_lab.ui.widgets.dialogs import AskText

LONG = "\n".join(f"line {number}" for number in range(9))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_an_answer_is_edited_and_becomes_a_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setenv("TUI_LAB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TUI_LAB_RUNS_DIR", str(tmp_path / "runs"))
    async with compare(size, text=LONG) as (app, pilot, pane, _):
        pane.action_edit_answer()
        await until(lambda: said(app, "no answer to edit yet"))
        await pilot.press("enter")
        await until(lambda: bool(pane.results))
        await pilot.press("escape", "V")
        await until(lambda: "No vote has decided" in screen_text(app))
        await pilot.press("escape", "O")
        await until(lambda: isinstance(app.screen, EditAnswer))
        editor = app.screen.query_one(TextArea)
        assert editor.text == LONG and not app.screen.unsaved  # type: ignore[attr-defined]
        await pilot.press("ctrl+s")
        await until(lambda: said(app, "empty or unchanged"))
        await pilot.press("O")
        await until(lambda: isinstance(app.screen, EditAnswer))
        app.screen.query_one(TextArea).insert("Ahoy! ", (0, 0))
        await pilot.press("ctrl+s")
        await until(lambda: said(app, "Saved in"))
        await pilot.press("V")
        await until(lambda: isinstance(app.screen, VoteTable))
        await until(lambda: "Ahoy! line 0" in screen_text(app))
        assert "Votes: 1 pair of answers, 1 edited" in screen_text(app) and "line 2…" in screen_text(app)
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, ItemView) and "line 8" in screen_text(app))
        await pilot.press("escape", "w")
        await until(lambda: isinstance(app.screen, AskText))
        target = tmp_path / "pairs.jsonl"
        app.screen.query_one(Input).value = str(target)
        await pilot.press("enter")
        await until(target.is_file)
        [row] = formats.read(str(target)).rows
        assert (row.expected, row.rejected) == (f"Ahoy! {LONG}", {"role": "assistant", "content": LONG})
        await pilot.press("w")
        await until(lambda: isinstance(app.screen, AskText))
        app.screen.query_one(Input).value = str(target)
        await pilot.press("enter")
        await until(lambda: said(app, "exists already"))
        await pilot.press("delete")
        await until(lambda: "No vote has decided" in screen_text(app))
        assert [rows_of(path) for path in vote_files()] == [[]]


def test_what_is_cut_ends_with_an_ellipsis() -> None:
    assert shortened("a\nb", 2) == "a\nb"
    assert shortened("a\nb\nc", 2) == "a\nb…"
    assert shortened("x" * 91, 2) == "x" * 89 + "…"
