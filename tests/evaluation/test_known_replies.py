"""Replies in the cache: asked once, damaged lines, bounds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tui_lab.evaluation import known_replies
from tui_lab.evaluation.known_replies import KnownReplies


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_CACHE_DIR", str(tmp_path))


def test_a_line_that_was_cut_off_is_asked_again() -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return question.upper()

    with KnownReplies("rule") as known:
        assert known.reply("one", ask) == known.reply("one", ask) == "ONE"
    known.path.write_bytes(known.path.read_bytes() + b'{"of')
    with KnownReplies("rule") as known:
        assert (known.reply("one", ask), known.reply("two", ask)) == ("ONE", "TWO")
    with KnownReplies("rule") as known, KnownReplies("another") as other:
        assert known.reply("two", ask) == "TWO" and other.find("two") is None
    assert asked == ["one", "two"]


def test_a_line_of_an_earlier_version_is_read() -> None:
    with KnownReplies("rule") as known:
        pass
    key = hashlib.sha256(b"one").hexdigest()
    known.path.write_text(f'{{"of": "{key}", "letter": "A"}}\n')
    with KnownReplies("rule") as known:
        assert known.find("one") == "A"


def test_files_and_replies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_replies, "CACHED_FILES", 2)
    paths = []
    for age, name in enumerate(("old", "older", "newest")):
        with KnownReplies(name) as known:
            known.add("q", "r")
        paths.append(known.path)
        os.utime(known.path, (1000 - age, 1000 - age)) if name != "newest" else None
    assert [path.exists() for path in paths] == [True, False, True]

    monkeypatch.setattr(known_replies, "FILE_BYTES", 500)
    with KnownReplies("newest") as known:
        for number in range(9):
            known.add(str(number), "r")
    with KnownReplies("newest") as known:
        assert known.find("8") == "r" and known.find("q") is None
