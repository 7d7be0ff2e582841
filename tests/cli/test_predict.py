"""``tui-lab predict``: what people and programs read, and mistakes as one sentence. The answers themselves:
tests/evaluation/test_predict.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.playground.conftest import adapters, built
from tui_lab.cli import main
from tui_lab.evaluation.prediction_file import default_name

__all__ = ["adapters", "built"]


def test_programs_get_one_record_and_people_a_table(
    runs_dir: Path, adapters: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    words = ["predict", "support", "--limit", "3", "--max-new-tokens", "4", "--dtype", "float32"]
    words += ["--model", "pocket", "--adapter", str(adapters["own"]), "--out", str(out)]
    assert main.main([*words, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out, parse_constant=pytest.fail)
    assert found["kind"] == "predictions" and (found["rows"], found["resumed"]) == (3, 0)
    assert found["settings"]["lane"] == "greedy" and found["path"] == str(out)
    assert "answering rows" in shown.err and "Traceback" not in shown.err
    kinds = [json.loads(line)["kind"] for line in out.read_text().splitlines()]
    assert kinds == ["prediction_settings", *["prediction"] * 3]

    assert main.main(words) == 0
    text = capsys.readouterr().out
    assert text.startswith("support: 3 rows, 3 of them from before · pocket → ")
    metric = next(iter(found["metrics"]))
    each, printed = found["metrics"][metric], text.splitlines()
    first = next(number for number, line in enumerate(printed) if line.startswith(metric))
    for line, of in zip(printed[first:], ("base", "tuned", "difference"), strict=False):
        assert f"{of}  " in line and f"{each[of]['value']:.3f} ({each[of]['low']:.3f} to" in line
    assert f"written to {out}" in text


def test_mistakes_are_one_sentence(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, sentence in (
        (("no-such-file.jsonl",), "no-such-file.jsonl"),
        (("support", "--run", "a", "--adapter", "b"), "use one of them"),
        (("support", "--batch", "0"), "--batch must be at least 1"),
        (("support", "--run", "none"), "none"),
        (("support", "--lane", "toppp"), "toppp"),
    ):
        assert main.main(["predict", *words, "--out", str(tmp_path / "out.jsonl")]) == 2
        error = capsys.readouterr().err
        assert sentence in error and "Traceback" not in error
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("support", "predictions-support.jsonl"),
        ("my data/rows.jsonl.gz", "predictions-rows.jsonl"),
        ("owner/name:part", "predictions-name-part.jsonl"),
        ("..", "predictions-data.jsonl"),
    ],
)
def test_the_default_file_is_named_after_the_data(data: str, name: str) -> None:
    assert default_name(data) == name
