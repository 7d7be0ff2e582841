"""The options of the Playground as plain data."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tui_lab.playground.messages import ChatTurn, PlaygroundStatus
from tui_lab.ui.views.playground_settings import (
    OPTIONS,
    PlaygroundSettings,
    shown,
    status_line,
    turned,
    typed,
)


def test_every_option_is_shown_and_turns_back() -> None:
    settings = PlaygroundSettings(system="be kind")
    for name, row in OPTIONS.items():
        assert shown(settings, name)
        once = turned(settings, name)
        assert (once == settings) == row.is_text
        assert turned(once, name, -1) == settings
    assert turned(turned(turned(settings, "thinking"), "thinking"), "thinking") == settings


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("1,024", 1024), ("32768", 32768)])
def test_a_length_is_typed(text: str, value: int) -> None:
    assert typed(PlaygroundSettings(), "max_new_tokens", text) == PlaygroundSettings(max_new_tokens=value)


@pytest.mark.parametrize("text", ["", "0", "32769", "many", "-3", "9" * 30])
def test_a_length_out_of_range_is_one_sentence(text: str) -> None:
    problem = typed(PlaygroundSettings(), "max_new_tokens", text)
    assert isinstance(problem, str)
    assert "from 1 to 32,768" in problem


def test_the_request_has_what_the_options_say() -> None:
    settings = PlaygroundSettings(max_new_tokens=9, chat=True, system="be kind", thinking="on")
    turns = ((ChatTurn("a", "b"),),)
    asked = settings.request("c", ("greedy",), turns)
    assert (asked.system, asked.max_new_tokens, asked.thinking, asked.turns) == ("be kind", 9, "on", turns)
    assert settings.is_chat
    assert "chat" in settings.summary
    raw = turned(settings, "raw")
    assert not raw.is_chat, "plain text has no turns"
    assert raw.request("c", ("greedy",)).system == ""
    assert "plain text" in raw.summary


def test_the_status_has_its_state_and_what_is_loaded_or_what_to_do() -> None:
    settings = PlaygroundSettings(thinking="on")
    assert status_line(PlaygroundStatus(), settings, "press enter").plain.endswith("  press enter")
    loaded = PlaygroundStatus(
        "ready", names=("base",), model="tiny\x1b[31m", dtype="float32", device="cpu", can_think=True
    )
    line = status_line(loaded, settings, "")
    assert line.plain.startswith("✓ ready  tiny")
    assert "\x1b" not in line.plain
    assert line.plain.endswith("thinking on")
    assert str(line.spans[0].style) == "bold $state-finished"
    # while another model is loaded, what was loaded before is not shown, and no word twice
    loading = replace(loaded, state="loading", text="loading gemma: 3 of 10 weights")
    assert status_line(loading, settings, "").plain == "◌ loading  gemma: 3 of 10 weights"
    died = status_line(PlaygroundStatus("died", text="out of memory"), settings, "").plain
    assert died == "✗ died  out of memory; the next start brings it back"
