"""The options of the Playground as plain data."""

from __future__ import annotations

import pytest

from tui_lab.playground.messages import ChatTurn
from tui_lab.ui.views.playground_settings import OPTIONS, PlaygroundSettings, shown, turned, typed


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
