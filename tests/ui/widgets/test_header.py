"""The line at the top tells the state of a run in any width; the line at the bottom shows whole keys only,
and always the one that shows all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ui.helpers import screen_text, until
from tui_lab.core.settings import PANES as SETTABLE
from tui_lab.core.settings import Settings
from tui_lab.ui.actions.registry import ACTIONS
from tui_lab.ui.app import LabApp
from tui_lab.ui.views.states import RUN_STATES
from tui_lab.ui.widgets.header import PANES, fitted


@given(st.text("ab ·\n12/", max_size=40), st.sampled_from(["", *RUN_STATES]), st.integers(-3, 60))
def test_the_header_text_fits_and_ends_with_the_state(text: str, state: str, room: int) -> None:
    told = fitted(text, state, room)
    assert len(told) <= max(0, room)
    if state and room >= 1:
        assert RUN_STATES[state].glyph in told
    if state and room >= len(state) + 2:
        assert told.endswith(state)


def test_the_beginning_is_dropped_first() -> None:
    text = "pocket · minute 7/300"
    assert fitted(text, "running", 40) == "pocket · minute 7/300  ▶ running"
    assert fitted(text, "running", 25) == "minute 7/300  ▶ running"
    assert fitted(text, "running", 17) == "7/300  ▶ running"
    assert fitted(text, "running", 9) == "▶ running"
    assert fitted(text, "running", 3) == "▶"


def test_every_mode_has_a_pane_in_the_header() -> None:
    panes = [name for name, _ in PANES]
    assert panes == list(SETTABLE) == list(LabApp.MODES)
    assert {f"app.{name}" for name in panes} <= {action.id for action in ACTIONS}


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40)])
async def test_the_footer_shows_complete_keys_and_the_key_list(size: tuple[int, int]) -> None:
    app = LabApp(settings=Settings(pane="train"))
    async with app.run_test(size=size) as pilot:
        await until(lambda: "? Keys" in screen_text(app).split("\n")[-1])
        await pilot.pause()
        line = screen_text(app).split("\n")[-1]
        assert line.endswith("? Keys")
        labels = [action.label for action in ACTIONS if action.group in ("app", "train")]
        shown = line.removesuffix("? Keys").rstrip()
        assert any(shown.endswith(label) for label in labels), shown
