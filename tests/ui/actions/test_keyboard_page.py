"""The committed page of the keyboard is what the registry yields."""

from __future__ import annotations

import pytest

from tests.paths import ROOT
from tui_lab.ui.actions.keyboard_page import markdown
from tui_lab.ui.actions.keymap import checked
from tui_lab.ui.actions.registry import ACTIONS, BY_ID

PAGE = ROOT / "docs" / "keyboard.md"


@pytest.mark.skipif(not PAGE.parent.is_dir(), reason="only the repository has the page")
def test_the_page_is_what_the_registry_yields() -> None:
    assert PAGE.read_text() == markdown(), (
        "write it with: python -m tui_lab.ui.actions.keyboard_page > docs/keyboard.md"
    )


def test_it_has_a_row_for_every_action_and_no_more() -> None:
    page = markdown().partition("## Everywhere")[2]
    rows = [line for line in page.splitlines() if line.startswith("| ") and "What it does" not in line]
    assert len(rows) == len(ACTIONS)
    assert {row.rsplit("`", 2)[1] for row in rows} == BY_ID.keys()


def test_its_example_is_one_that_holds() -> None:
    assert checked({"setup.start": "G, ctrl+s", "train.stop": ""})[1] == []
    assert '"setup.start" = "G, ctrl+s"' in markdown()
