"""Votes of a blind comparison: what is written is what is read, the outcome is the Wilson interval's, and
prompts come out of every kind of file."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.playground import votes
from tui_lab.playground.messages import ChatTurn
from tui_lab.playground.votes import (
    BlindSettings,
    Vote,
    VoteChoice,
    open_session,
    read_prompts,
    sentences,
    summary,
)

LANES = ("greedy on=base", "greedy on=tuned")


def settings(count: int = 6, lanes: tuple[str, str] = LANES) -> BlindSettings:
    return BlindSettings(lanes, tuple(f"Prompt {n}?" for n in range(count)), "pocket")


def test_votes_go_on_where_they_stopped(tmp_path: Path) -> None:
    path = tmp_path / "new" / "votes.jsonl"
    session = open_session(settings(), path)
    assert not session.resumed and session.next == 0
    session.vote(0, "left", [{"lane": "a", "text": "\x1b[2J"}])
    session.vote(1, "tie")
    assert path.stat().st_mode & 0o77 == 0 and path.parent.stat().st_mode & 0o77 == 0
    with path.open("ab") as file:
        file.write(b'{"kind": "vote", "prompt"')  # the lab was killed while it wrote
    again = open_session(settings(), path)
    assert again.resumed and (again.id, again.seed, again.votes) == (session.id, session.seed, session.votes)
    assert again.next == 2 and again.upcoming(3) == [2, 3, 4]
    for prompt in (2, 3, 4, 5):
        again.vote(prompt, "right")
    assert again.next is None
    fresh = open_session(settings(), path)  # all was voted on: a new sitting
    assert not fresh.votes and fresh.id != session.id
    kept = [json.loads(line) for line in path.read_text().splitlines() if '"choice"' in line]
    assert kept[0]["text"] == "Prompt 0?" and kept[0]["answers"][0]["text"] == "\x1b[2J"
    assert [record["winner"] is None for record in kept] == [False, True, False, False, False, False]


def test_other_settings_are_another_session(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    first = open_session(settings(), path)
    first.vote(0, "left")
    for other in (
        settings(5),
        settings(lanes=("greedy", "beam")),
        BlindSettings(LANES, settings().prompts, "gpt2"),
    ):
        assert open_session(other, path).votes == {}
    assert open_session(settings(), path).votes == first.votes


def test_sides_are_drawn_from_the_seed(tmp_path: Path) -> None:
    many = settings(1000)
    session = open_session(many, tmp_path / "votes.jsonl", seed=7)
    sides = [session.left(n) for n in range(1000)]
    again = open_session(many, tmp_path / "votes.jsonl")
    assert sides == [again.left(n) for n in range(1000)]
    # a fair coin leaves 430 to 570 but once in a hundred thousand times
    assert 430 < sum(sides) < 570
    changes = sum(a != b for a, b in itertools.pairwise(sides))
    assert 430 < changes < 570
    other = open_session(many, tmp_path / "other.jsonl", seed=8)
    assert 400 < sum(other.left(n) == sides[n] for n in range(1000)) < 600


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(get_args(VoteChoice))), max_size=60))
def test_the_outcome_is_counted_and_its_interval_is_wilsons(
    given_votes: list[tuple[int, VoteChoice]],
) -> None:
    found = summary([Vote(n, left, choice) for n, (left, choice) in enumerate(given_votes)])
    wins_b = sum(
        (choice == "left") == (left == 1) for left, choice in given_votes if choice in ("left", "right")
    )
    decided = sum(choice in ("left", "right") for _, choice in given_votes)
    assert found.wins == (decided - wins_b, wins_b) and found.voted == len(given_votes)
    if not decided:
        assert found.rate is None
        return
    assert found.rate is not None and found.rate.value == pytest.approx(wins_b / decided)
    # Wilson's bounds are the shares p at which the observed one lies 1.96 standard errors away
    for bound in (found.rate.low, found.rate.high):
        if 1e-9 < bound < 1 - 1e-9:
            distance = abs(wins_b / decided - bound) / math.sqrt(bound * (1 - bound) / decided)
            assert distance == pytest.approx(1.959964, abs=1e-3)
    assert 0 <= found.rate.low <= found.rate.value <= found.rate.high + 1e-12 <= 1 + 1e-9


@pytest.mark.parametrize(
    ("wins", "losses", "said"),
    [(19, 1, "B is better"), (1, 19, "A is better"), (6, 4, "do not show a difference")],
)
def test_the_outcome_in_words(tmp_path: Path, wins: int, losses: int, said: str) -> None:
    session = open_session(settings(wins + losses + 2), tmp_path / "votes.jsonl", seed=1)
    for n in range(wins + losses):
        b_left = session.left(n) == 1
        session.vote(n, "left" if b_left == (n < wins) else "right")
    session.vote(wins + losses, "tie")
    text = " ".join(sentences(session))
    assert said in text and f"B was preferred {wins} of {wins + losses} times" in text
    assert "A was greedy on=base, B was greedy on=tuned" in text and "1 tie, 0 skipped" in text


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="two lanes that differ"):
        open_session(settings(lanes=("greedy", "greedy")), tmp_path / "v.jsonl")
    with pytest.raises(LabError, match="at least one prompt"):
        open_session(settings(0), tmp_path / "v.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot be written"):
        open_session(settings(), tmp_path / "file" / "v.jsonl")


def test_wild_files_hold_no_votes(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    session = open_session(settings(), path)
    lines = [
        {"kind": "vote", "session": session.id, "prompt": 99, "left": 0, "choice": "left"},
        {"kind": "vote", "session": session.id, "prompt": "0", "left": 0, "choice": "left"},
        {"kind": "vote", "session": session.id, "prompt": 0, "left": 2, "choice": "left"},
        {"kind": "vote", "session": session.id, "prompt": 0, "left": 0, "choice": "middle"},
        {"kind": "vote", "session": session.id, "prompt": 0, "left": 0, "choice": ["left"]},
        {"kind": "vote", "session": ["x"], "prompt": 0, "left": 0, "choice": "left"},
        {"kind": "session", "session": "x", "key": settings().key, "seed": "no"},
    ]
    with path.open("a") as file:
        file.write("\n".join(json.dumps(line) for line in lines) + "\nnonsense\n[1]\n")
    assert open_session(settings(), path).votes == {}


def test_where_votes_are_kept(tmp_path: Path, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui_lab.recipes import recipe
    from tui_lab.runs import folder

    monkeypatch.setenv("TUI_LAB_DATA_DIR", str(tmp_path / "data"))
    assert votes.votes_path() == tmp_path / "data" / "votes" / "votes.jsonl"
    assert votes.votes_path("no-such-run") == votes.votes_path()
    run = folder.create(recipe.Recipe(model="pocket"), runs_dir)
    assert votes.votes_path(run.id) == run.path / "votes.jsonl"


# ------------------------------------------------------------------ prompts


def test_prompts_from_files(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
    files = {
        "a.txt": "What is this?\n\n  And that?  \nWhat is this?\n",
        "b.jsonl": '{"prompt": "One?"}\n{"question": "Two?", "answer": "2"}\n'
        'nonsense\n"Three?"\n{"prompt": 4}\n',
        "c.json": json.dumps([{"instruction": "Do it.", "output": "Done."}]),
        "d.csv": "question,answer\nWhy?,Because.\n",
        "e.jsonl": json.dumps({"messages": turns}),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = {name: read_prompts(str(tmp_path / name)) for name in files}
    assert found == {
        "a.txt": ["What is this?", "And that?"],
        "b.jsonl": ["One?", "Two?", "Three?"],
        "c.json": ["Do it."],
        "d.csv": ["Why?"],
        "e.jsonl": ["Hi?"],
    }


def test_prompts_of_a_bundled_set_are_its_held_out_questions() -> None:
    from tui_lab.data import bundled

    asked = read_prompts("pirate")
    held_out = [row["messages"][-2]["content"] for row in bundled.load("pirate").validation]
    assert asked == list(dict.fromkeys(text.strip() for text in held_out)) and asked


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.txt", None, "there is no file"),
        ("empty.txt", b"\n \n", "has no prompt"),
        ("bad.txt", b"\xff\xfe\x00", "is not UTF-8"),
        ("bad.json", b"{", "bad.json"),
        ("other.csv", b"a,b\n1,2\n", "no format known"),
    ],
)
def test_files_without_prompts_are_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabError, match=said) as error:
        read_prompts(str(path))
    assert "\n" not in str(error.value)


def test_the_lab_reads_prompts_without_the_libraries_of_training(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": "Do it.", "output": "Done."}]))
    code = (
        "import sys; from tui_lab.playground.votes import read_prompts; "
        f"read_prompts({str(tmp_path / 'a.json')!r}); read_prompts('support'); "
        "print(*(n for n in ('torch', 'transformers', 'datasets', 'textual') if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_all_prompts_of_a_long_file_are_used(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(f"question {number}" for number in range(10_000)))
    assert len(read_prompts(str(path))) == 10_000


def test_a_vote_is_taken_back_here_and_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    session = open_session(settings(), path)
    assert session.undo() is None
    for prompt, choice in ((0, "left"), (1, "skip"), (2, "tie")):
        session.vote(prompt, choice)  # type: ignore[arg-type]
    assert session.undo() == 2
    assert session.undo() == 1
    assert session.next == 1
    again = open_session(settings(), path)
    assert again.votes == session.votes
    again.vote(1, "right")
    assert open_session(settings(), path).votes[1].choice == "right"
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds == ["session", "vote", "vote", "vote", "undo", "undo", "vote"]


def test_a_chat_goes_on_with_the_answers_of_each_lane(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    plain = settings(3)
    chat = replace(plain, chat=True)
    assert chat.key != plain.key
    session = open_session(chat, path)
    session.vote(0, "left", [{"text": "a0"}, {"text": "b0"}])
    session.vote(1, "skip")
    for each in (session, open_session(chat, path)):
        assert each.turns(2, 0) == (ChatTurn("Prompt 0?", "a0"),), "a skipped prompt has no answer"
        assert each.turns(2, 1) == (ChatTurn("Prompt 0?", "b0"),)
    assert open_session(plain, path).turns(2, 0) == ()
