"""Glyph, word and colour of every state."""

from __future__ import annotations

from itertools import combinations

from rich.cells import cell_len

from tui_lab.forecast import remedies
from tui_lab.runs.verdicts import VERDICTS
from tui_lab.ui.terminal import themes
from tui_lab.ui.views.states import FIT_STATES, RUN_STATES, TABLES, run_state, state_text


def test_a_state_has_one_cell_of_glyph_a_word_and_a_colour_of_the_theme() -> None:
    theme = themes.load_theme(themes.DEFAULT_THEME)
    assert theme is not None
    known = {*themes.SEMANTIC, *theme.to_color_system().generate()}
    for state in (each for table in TABLES for each in table.values()):
        assert cell_len(state.glyph) == 1 and state.word, state
        assert not state.role or state.role in known, state


def test_a_glyph_means_one_thing() -> None:
    # a cross is what went wrong or does not fit, a tick what is done or fits: never the colour of the other
    roles = {
        "✓": {"state-finished", "text-success"},
        "✗": {"state-failed", "text-error"},
        "▶": {"state-running"},
        "■": {"state-finished"},
    }
    for table in TABLES:
        for one, other in combinations(table.values(), 2):
            assert one.word != other.word
        for state in table.values():
            assert state.role in roles.get(state.glyph, {state.role}), state
    assert set(FIT_STATES) == {remedies.FITS, remedies.TIGHT, remedies.OVER, remedies.UNKNOWN}
    glyphs = {state.word: state.glyph for table in TABLES for state in table.values()}
    assert {name: glyphs[word] for word, name in (("fits", "green"), ("does not fit", "red"))} == {
        name: VERDICTS[name][0] for name in ("green", "red")
    }


def test_a_state_of_a_newer_version_shows_its_name() -> None:
    assert run_state("cooling_down") == ("·", "cooling down", "")
    assert state_text("cooling_down") == "· cooling down"
    assert {name: state_text(name) for name in ("running", "paused", "crashed")} == {
        "running": "▶ running",
        "paused": "‖ paused",
        "crashed": "✗ crashed",
    }
    assert all(state.word == name for name, state in RUN_STATES.items())
