"""Votes of blind comparisons as preference data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ui.helpers import lane_done
from tui_lab.cli import main
from tui_lab.core.errors import LabError
from tui_lab.data import formats
from tui_lab.playground import votes
from tui_lab.playground.messages import ChatTurn, GenerateRequest, LaneDone
from tui_lab.playground.vote_rows import rows_of, votes_of, write_rows

LANES = ("base: greedy", "tuned: greedy")


def session(path: Path, **more: Any) -> votes.VotingSession:
    settings = votes.BlindSettings(lanes=LANES, prompts=("Hi?", "Why?", "Who?", "When?"), **more)
    return votes.open_session(settings, path, seed=1)


def vote(made: votes.VotingSession, prompt: int, lane: int | None, texts: tuple[str, str]) -> None:
    """A vote for a lane, whatever side it is on."""
    choice: votes.VoteChoice = "tie" if lane is None else "left" if made.left(prompt) == lane else "right"
    made.vote(prompt, choice, [{"text": text} for text in texts])


def test_the_preferred_answer_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    made = session(path, system="Be short.")
    vote(made, 0, 1, ("Hello.", "Ahoy!"))
    vote(made, 1, 0, ("So.", "Arr."))
    vote(made, 2, None, ("I.", "Me."))
    vote(made, 3, 1, ("Now.", "Now. "))
    path.write_text(path.read_text() + "damaged\n")
    first, second = rows_of(path)
    assert first["prompt"] == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi?"}]
    assert first["chosen"] == [{"role": "assistant", "content": "Ahoy!"}]
    assert first["rejected"] == [{"role": "assistant", "content": "Hello."}]
    assert second["chosen"] == [{"role": "assistant", "content": "So."}]


def test_a_vote_that_was_taken_back_gives_no_row(tmp_path: Path) -> None:
    made = session(tmp_path / "votes.jsonl")
    vote(made, 0, 1, ("Hello.", "Ahoy!"))
    made.undo()
    assert rows_of(made.path) == []


def test_rows_are_read_as_pairs(tmp_path: Path) -> None:
    chat, raw = session(tmp_path / "a.jsonl", chat=True), session(tmp_path / "b.jsonl", raw=True)
    vote(chat, 0, 1, ("Hello.", "Ahoy!"))
    vote(chat, 1, 1, ("So.", "Arr."))
    vote(raw, 0, 0, (" there", " you"))
    write_rows(rows_of(chat.path) + rows_of(raw.path), tmp_path / "pairs.jsonl")
    source = formats.read(str(tmp_path / "pairs.jsonl"))
    assert source.format == "preference" and not source.rows_bad
    _, follow_up, plain = source.rows
    assert [turn["content"] for turn in follow_up.messages or ()] == ["Hi?", "Ahoy!", "Why?", "Arr."]
    assert (plain.prompt, plain.completion, plain.rejected) == ("Hi?", " there", " you")


def test_votes_are_listed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUI_LAB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TUI_LAB_RUNS_DIR", str(tmp_path / "runs"))
    assert main.main(["votes", "--out", str(tmp_path / "pairs.jsonl")]) == 2
    assert "no vote has decided" in capsys.readouterr().err
    vote(session(votes.votes_path()), 0, 1, ("Hello.", "Ahoy!"))
    assert main.main(["votes", "--out", str(tmp_path / "pairs.jsonl")]) == 0
    assert "1 pair written" in capsys.readouterr().out
    assert main.main(["votes", "--out", str(tmp_path / "pairs.jsonl")]) == 2
    assert "--force" in capsys.readouterr().err


def answered(text: str, prompt: str = "Why?", **more: Any) -> tuple[GenerateRequest, LaneDone]:
    return GenerateRequest(prompt, ("greedy",), **more), lane_done(0, "greedy on=tuned", text, on="tuned")


def test_an_edited_answer_is_chosen_and_the_answer_as_it_was_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    made = session(path)
    vote(made, 0, 1, ("Hello.", "Ahoy!"))
    request, done = answered("So.", system="Be short.")
    votes.save_edit(path, request, [ChatTurn("Hi?", "Ho.")], done, "Arr, so.\n")
    plain, continued = answered(" there", "Hi", raw=True)
    votes.save_edit(path, plain, (), continued, " matey")
    voted, edited, raw = votes_of(path)
    assert (voted.edited, edited.edited, edited.question) == (False, True, "Why?")
    assert [turn["content"] for turn in edited.row["prompt"]] == ["Be short.", "Hi?", "Ho.", "Why?"]  # type: ignore[index]
    assert edited.row["chosen"] == [{"role": "assistant", "content": "Arr, so.\n"}]
    assert edited.row["rejected"] == [{"role": "assistant", "content": "So."}]
    assert raw.row == {"prompt": "Hi", "chosen": "Hi matey", "rejected": "Hi there"}
    assert votes.read_sessions(path, made.settings)[0].votes.keys() == {0}, "edits are no votes of a session"
    votes.take_back(path, edited.session, edited.prompt)
    votes.take_back(path, voted.session, voted.prompt)
    assert rows_of(path) == [raw.row]
    assert not votes.read_sessions(path, made.settings)[0].votes
    for unchanged in ("", " So. "):
        with pytest.raises(LabError, match="empty or unchanged"):
            votes.save_edit(path, request, (), done, unchanged)
