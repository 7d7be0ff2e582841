"""The verdict on methods, by hand-worked cases."""

from __future__ import annotations

import pytest

from tui_lab.core.errors import LabError
from tui_lab.evaluation import advice
from tui_lab.evaluation.advice import AdviseRequest, decide
from tui_lab.evaluation.records import EvaluationRequest


def right(count: int, of: int = 100) -> list[float]:
    """Scores of which the first ``count`` are right."""
    return [1.0] * count + [0.0] * (of - count)


@pytest.mark.parametrize(
    ("scores", "action", "text"),
    [
        ((99, 99, 99), "keep_prompting", "do not tune"),
        ((20, 99, 99), "few_shot", "3-shot already solves it"),
        ((20, 40, 99), "retrieve", "Retrieval already solves it"),
        # 93 of 100: Wilson's interval is 0.86 to 0.97, which reaches below 0.9
        ((20, 93, 30), "undecided", "may already solve it"),
        ((20, 22, 60), "tune_and_retrieve", "Facts that change"),
        ((20, 60, 60), "tune", "Examples help (3-shot: +0.40"),
        ((20, 21, 19), "tune", "Neither examples nor retrieval"),
        ((20, 40, 40, 90, 90), "tune", "Tuning pays: tuned gains +0.50"),
        ((20, 40, 40, 60, 90), "tune_and_retrieve", "tuned + retrieval gains +0.50"),
        ((20, 99, 40, 99, 99), "few_shot", "not shown to gain anything"),
        ((20, 60, 40, 60, 60), "undecided", "not shown to differ from 3-shot"),
        ((20, 60, 40, 20, 20), "few_shot", "3-shot is better than tuned by +0.40"),
        ((90, 60, 40, 20, 20), "keep_prompting", "zero-shot is better than tuned"),
    ],
)
def test_the_verdict(scores: tuple[int, ...], action: str, text: str) -> None:
    names = ("zero-shot", "3-shot", "retrieval", "tuned", "tuned + retrieval")
    found = decide(dict(zip(names, map(right, scores), strict=False)), 3, 0.9)
    assert found.action == action and text in found.text


def test_scores_of_other_rows_are_paired() -> None:
    """Both have half of the rows right, but never the same: the difference is wide and decides nothing."""
    scores = {"zero-shot": right(50), "3-shot": right(50)[::-1], "retrieval": right(50)}
    assert decide(scores, 3, 0.9).text.startswith("Neither")
    scores["3-shot"] = [1.0 - score * (at % 2) for at, score in enumerate(right(80))]
    assert "Examples help" not in decide(scores, 3, 0.9).text


@pytest.mark.parametrize(
    ("values", "sentence"),
    [({"shots": 0}, "--shots is 1 to 32"), ({"limit": 1}, "at least 2 rows"), ({"goal": 1.5}, "--goal")],
)
def test_impossible_values_are_refused(values: dict[str, float], sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        AdviseRequest(EvaluationRequest(), **values).validated()  # type: ignore[arg-type]


def test_options_are_read_from_the_line_that_shows_them() -> None:
    request = AdviseRequest(EvaluationRequest(), shots=4, retrieved=2, limit=50, goal=0.75)
    assert advice.options_text(request) == "shots=4 retrieved=2 rows=50 tokens=0 goal=0.75"
    assert advice.with_options(AdviseRequest(EvaluationRequest()), advice.options_text(request)) == request
    for text, sentence in (
        ("rows=x", "rows is a number"),
        ("k=3", "there is no option k"),
        ("shots=99", "--shots is 1 to 32"),
        ("retrieved=-1", "--retrieved is 1 to 32"),
        ("tokens=-1", "--max-new-tokens"),
        ("goal=nan", "--goal is a score"),
    ):
        with pytest.raises(LabError, match=sentence):
            advice.with_options(request, text)
