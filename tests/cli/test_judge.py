"""``tui-lab judge``: what people and programs read, which votes count, and mistakes as one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.ui import sample_runs as made
from tui_lab.cli import judge as module
from tui_lab.cli import main
from tui_lab.evaluation import judge as job
from tui_lab.evaluation import judging
from tui_lab.evaluation.judging import Judged, JudgePrompt, JudgeRequest
from tui_lab.playground.votes import FILE_NAME
from tui_lab.retention.stored import JudgedPair


def vote(number: int, choice: str, winner: int | None, left: int = 0) -> str:
    answers = [{"text": f"tuned {number}"}, {"text": f"base {number}"}]
    record = {"kind": "vote", "session": "s", "prompt": number, "text": f"question {number}", "left": left}
    return json.dumps({**record, "choice": choice, "winner": winner, "answers": answers})


def test_programs_get_one_record_and_people_a_table(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made.make_run()
    session = {"kind": "session", "session": "s", "key": "k", "seed": 1, "places": ["adapter", ""]}
    lines = [json.dumps(session), vote(0, "left", 0), vote(1, "right", 1), vote(2, "tie", None)]
    lines += [
        vote(3, "skip", None),
        vote(4, "left", 0),
        json.dumps({"kind": "undo", "session": "s", "prompt": 4}),
    ]
    (run.path / FILE_NAME).write_text("\n".join(lines) + "\n")
    asked: list[JudgeRequest] = []

    def judged(request: JudgeRequest, *_: object) -> object:
        asked.append(request)
        pairs = [Judged(JudgedPair(("q",), ("a",), ("b",), 1.0, "code"), ("B", "A"))] * 5
        return judging.result("pocket", request, pairs, [(1.0, 1.0)] * 12)

    monkeypatch.setattr(job, "judge", judged)
    assert main.main(["judge", run.id, "--judge", "pocket", "--limit", "8", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["kind"] == "judge" and found["wins"] == 5 and found["calibrated"]["value"] == 1.0
    [request] = asked
    assert [(pair.prompt, pair.base, pair.win) for pair in request.votes] == [
        ("question 0", "base 0", 1.0),
        ("question 1", "base 1", 0.0),
        ("question 2", "base 2", 0.5),
    ]
    assert len(request.prompts) == 8 and request.target.run == str(run.path)
    assert main.main(["judge", run.id, "--judge", "pocket"]) == 0
    shown = capsys.readouterr().out
    assert "calibrated on 12 votes" in shown and "win rate, code" in shown and found["sentence"] in shown


def test_prompts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"turns": ["a", "b"], "kind": "code"}\n\n{"turns": ["c"]}\n')
    assert module.read_prompts(str(path)) == (JudgePrompt(("a", "b"), "code"), JudgePrompt(("c",)))
    path.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    assert module.read_prompts(str(path)) == (JudgePrompt(("one",)), JudgePrompt(("two",)))


def test_mistakes_are_one_sentence(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TUI_LAB_JUDGE_URL", raising=False)
    run = made.make_run()
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"turns": "one"}\n')
    for words, sentence in (
        ((run.id,), "--judge"),
        (("no-such-run", "--judge", "pocket"), "no-such-run"),
        ((run.id, "--judge", "endpoint"), "no endpoint is set"),
        ((run.id, "--judge", "pocket", "--prompts", str(wrong)), "line 1: turns must be"),
        ((run.id, "--judge", "pocket", "--prompts", "none.jsonl"), "none.jsonl"),
        ((run.id, "--judge", "pocket", "--votes", "none.jsonl"), "no file of votes"),
    ):
        assert main.main(["judge", *words]) == 2
        error = capsys.readouterr().err
        assert sentence in error and "Traceback" not in error
