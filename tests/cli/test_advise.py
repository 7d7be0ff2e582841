"""``tui-lab advise``: what people and programs read, and mistakes as one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.playground.conftest import built
from tui_lab.cli import main

__all__ = ["built"]


def test_programs_get_one_record_and_people_a_table(
    runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["advise", "--model", "pocket", "--data", "support", "--limit", "2", "--max-new-tokens", "2"]
    words += ["--shots", "1", "--dtype", "float32"]
    assert main.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["kind"] == "advice" and found["rows"] == 2 and found["verdict"]["text"]
    assert main.main(words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("support: 2 held-out rows · pocket")
    assert [line.split("  ")[0] for line in shown[2:5]] == [method["name"] for method in found["methods"]]
    assert found["verdict"]["text"] in shown


def test_mistakes_are_one_sentence(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        ((), "no data was named"),
        (("--data", "support", "--shots", "0"), "--shots"),
        (("--data", "support", "--goal", "2"), "--goal is a score"),
        (("--data", "support", "--run", "a", "--adapter", "b"), "use one of them"),
        (("--data", "support", "--run", "none"), "none"),
    ):
        assert main.main(["advise", *words]) == 2
        error = capsys.readouterr().err
        assert sentence in error and "Traceback" not in error
