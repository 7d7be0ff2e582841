"""What a judge is asked, what its replies mean, and the result, by hand-worked cases."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from tui_lab.core.errors import LabError
from tui_lab.evaluation import judging
from tui_lab.evaluation.judging import Judged, JudgePrompt, JudgeRequest
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.retention.stored import JudgedPair

REQUEST = JudgeRequest(EvaluationRequest(), judge="j")


def test_the_bundled_prompts() -> None:
    prompts = judging.two_turn()
    kinds = Counter(prompt.kind for prompt in prompts)
    assert set(kinds) == set(judging.RUBRICS) and set(kinds.values()) == {6}
    assert all(len(prompt.turns) == 2 for prompt in prompts)
    assert len({turn for prompt in prompts for turn in prompt.turns}) == 96
    few = judging.spread(prompts, 8)
    assert len({prompt.kind for prompt in few}) == 8
    assert judging.spread(prompts, 99) == prompts


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("A", "A"), (" B.", "B"), ("[[C]]", "C"), ("**A** is better", "A"),
        ("Both are fine, but I prefer B", "B"), ("A good try by both. [[B]]", "B"), ("Neither", ""), ("", ""),
        ("Apples", ""),
    ],
)  # fmt: skip
def test_letters_of_replies(reply: str, letter: str) -> None:
    assert judging.letter_of(reply) == letter


@pytest.mark.parametrize(
    ("letters", "win"),
    [("BA", 1.0), ("AB", 0.0), ("AA", 0.5), ("BB", 0.5), ("CC", 0.5), ("BC", 0.5), (("", "A"), None)],
)
def test_only_the_same_choice_in_both_orders_wins(letters: tuple[str, str], win: float | None) -> None:
    assert judging.win_of(*letters) == win


def test_the_question_has_both_conversations_in_the_order_given() -> None:
    text = judging.question(("Hi?", "And?"), ("a1", "a2"), ("b1", "b2"), "Prefer x.")
    assert text.index("a1") < text.index("a2") < text.index("b1") < text.index("b2")
    assert text.count("User: Hi?") == 2 and "Prefer x." in text
    assert judging.rubric_of("code", "") == judging.RUBRICS["code"]
    assert judging.rubric_of("code", " Mine. ") == "Mine."
    assert judging.rubric_of("", "") == judging.GENERAL_RUBRIC
    long = judging.question(("q",), ("x" * 99_999,), ("y",), "")
    assert long.count("x") < judging.MAX_ANSWER_CHARS + 100


def judged(letters: str, tuned: str = "bb", kind: str = "k") -> Judged:
    win = judging.win_of(*letters)
    return Judged(JudgedPair(("q",), ("aa",), (tuned,), win, kind), (letters[0], letters[1]))


def test_the_figures_of_a_result() -> None:
    pairs = [judged("BA")] * 6 + [judged("AB", kind="l")] * 2 + [judged("AA")] * 2
    found = judging.result("j", REQUEST, pairs, [(1.0, 1.0), (0.0, 1.0)])
    assert (found.pairs, found.wins, found.losses, found.ties) == (10, 6, 2, 2)
    assert found.rate.value == 0.7 and found.kinds == {"k": 7 / 8, "l": 0.0}
    # first: 6 × (B, A), 2 × (A, B), 2 × (A, A) are 12 A of 20 letters
    assert found.first.value == 0.6 and found.consistent == 0.8
    assert (found.votes, found.agreement, found.calibrated) == (2, 0.5, None)
    assert found.equal_length.value == pytest.approx(0.7, abs=0.05), "all are of one length"
    assert "in the eyes of j alone" in found.sentence and "10 blind votes" in found.sentence


def test_votes_overrule_a_judge_who_favours_the_tuned_model() -> None:
    """It prefers the tuned model always; a person does in 4 of 20."""
    pairs = [judged("BA")] * 40
    votes = [(1.0, 1.0)] * 4 + [(0.0, 1.0)] * 16
    found = judging.result("j", REQUEST, pairs, votes)
    assert found.rate.value == 1.0 and found.calibrated is not None
    assert found.calibrated.value == pytest.approx(0.2) and found.verdict == "worse"
    assert "calibrated on 20 votes" in found.sentence and found.agreement == 0.2


def test_a_judge_who_chooses_by_position_is_named() -> None:
    found = judging.result("j", REQUEST, [judged("AA")] * 10, [])
    assert (found.ties, found.consistent, found.first.value) == (10, 0.0, 1.0)
    assert "chooses by position: both orders agree in 0% of the pairs" in found.sentence
    assert "by position" not in judging.result("j", REQUEST, [judged("BA")] * 10, []).sentence


def test_replies_that_cannot_be_read() -> None:
    unread = Judged(JudgedPair(("q",), ("a",), ("b",), None), ("", "A"))
    found = judging.result("j", REQUEST, [unread, judged("BA")], [(1.0, None)])
    assert (found.pairs, found.unreadable, found.votes) == (1, 1, 0)
    assert math.isnan(found.equal_length.value) and found.verdict == "undecided"
    with pytest.raises(LabError, match="names A, B or C"):
        judging.result("j", REQUEST, [unread], [])


def test_requests_are_checked() -> None:
    assert len(JudgeRequest(EvaluationRequest(), limit=5).validated().prompts) == 5
    own = JudgeRequest(EvaluationRequest(), prompts=(JudgePrompt(("x",)),)).validated()
    assert own.prompts == (JudgePrompt(("x",)),)
    for request in (
        JudgeRequest(EvaluationRequest(), limit=-1),
        JudgeRequest(EvaluationRequest(), rubric="x" * 3000),
    ):
        with pytest.raises(LabError):
            request.validated()
