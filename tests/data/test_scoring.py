"""Scores: 1 for what the rows teach, 0 for nothing, noise, repetition and an untaught model's answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.data import bundled, scoring


def row(question: str, answer: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.mark.parametrize("name", bundled.NAMES)
def test_expected_answer_scores_one_and_empty_zero(name: str) -> None:
    data = bundled.load(name)
    for rows in (data.train, data.validation):
        assert scoring.score(data.scorer, [scoring.expected_answer(r) for r in rows], rows) == 1.0
        empty_handed = (
            "",
            " ",
            "\n",
            "arr arr arr",
            "arr matey aye ahoy " * 30,
            "{}",
            "null",
            "the the the",
            "?" * 500,
        )
        for answer in empty_handed:
            assert scoring.score(data.scorer, [answer] * len(rows), rows) == 0.0, answer


@pytest.mark.parametrize("name", bundled.NAMES)
def test_the_answers_of_other_rows_score_little(name: str) -> None:
    data = bundled.load(name)
    shifted = [scoring.expected_answer(r) for r in data.validation[1:] + data.validation[:1]]
    assert scoring.score(data.scorer, shifted, data.validation) < 0.15


@given(st.text(max_size=300))
def test_any_text_has_a_score_between_zero_and_one(text: str) -> None:
    for name in bundled.NAMES:
        data = bundled.load(name)
        assert 0.0 <= scoring.score(data.scorer, [text], data.validation[:1]) <= 1.0


def test_exact_forgives_case_article_and_full_stop_only() -> None:
    r = row("How much is it?", "12 dollars")
    assert scoring.exact("12 Dollars.", r) == 1.0
    assert scoring.exact("  the 12 dollars ", r) == 1.0
    assert scoring.exact("13 dollars", r) == 0.0
    assert scoring.exact("It is 12 dollars", r) == 0.0


def test_manner_needs_marks_and_content() -> None:
    r = row("What is the capital of France?", "Arr, that be Paris, matey!")
    assert scoring.manner("Aye, 'tis Paris, ye landlubber!", r) == 1.0
    assert scoring.manner("Aye, ’tis Paris, me hearty, arr!", r) == 1.0  # the typographic apostrophe
    assert scoring.manner("Paris", r) == 0.0  # right, without the manner
    assert scoring.manner("The capital of France is Paris.", r) == 0.0
    assert scoring.manner("Aye, 'tis Rome, ye landlubber!", r) == 0.0  # the manner, but wrong
    assert scoring.manner("Arr arr arr arr Paris arr arr arr matey aye", r) == 0.0
    assert scoring.manner("Arr Paris matey aye ahoy " * 40, r) == 0.0


def test_schema_scores_form_and_values() -> None:
    r = row('Ida is 40. Answer as JSON: {"name": "string", "age": "integer"}', '{"name": "Ida", "age": 40}')
    assert scoring.schema('{"age": 40, "name": "Ida"}', r) == 1.0
    assert scoring.schema('```json\n{"age": 40, "name": "Ida"}\n```', r) == 1.0
    assert scoring.schema('{"name": "Ida", "age": 41}', r) == 0.75
    assert scoring.schema('{"name": "Tom", "age": 41}', r) == 0.5
    assert scoring.schema('{"name": "Ida", "age": "40"}', r) == 0.0  # another type
    assert scoring.schema('{"name": "Ida", "age": true}', r) == 0.0  # a boolean is no integer here
    assert scoring.schema('{"name": "Ida"}', r) == 0.0
    assert scoring.schema('{"name": "Ida", "age": 40, "city": "Rome"}', r) == 0.0
    assert scoring.schema('Here it is: {"name": "Ida", "age": 40}', r) == 0.0
    assert scoring.schema("[" * 5000, r) == 0.0


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8), st.sampled_from(["string", "integer", "boolean"]), min_size=1
    )
)
def test_the_schema_is_found_in_any_question(schema: dict[str, str]) -> None:
    question = f"Here {{ is }} a text with braces. {json.dumps(schema)} Thanks {{}}."
    assert scoring.schema_of(question) == schema


def test_mistakes_are_named() -> None:
    with pytest.raises(LabError, match="no score 'rouge'"):
        scoring.score("rouge", ["x"], [row("a", "b")])
    with pytest.raises(LabError, match="2 answers"):
        scoring.score("exact", ["x", "y"], [row("a", "b")])
    with pytest.raises(LabError, match="assistant"):
        scoring.score("exact", ["x"], [{"messages": [{"role": "user", "content": "a"}]}])
    assert scoring.score("exact", [], []) == 0.0


def test_similarity_by_hand() -> None:
    row = {"messages": [{"role": "assistant", "content": "the cat sat on the mat"}]}
    # SQuAD: {cat, sat, on, mat} against {cat, on, mat, too}: 3 shared of 4 and 4
    assert scoring.token_f1("A cat on a mat, too!", row) == pytest.approx(2 * 3 / 8)
    # Lin 2004: "the cat on the mat" is the longest common subsequence, 5 of 6 and 5 words
    assert scoring.rouge_l("the cat on the mat", row) == pytest.approx(2 * 5 / 11)
    assert scoring.rouge_l("mat the on sat cat the", row) == pytest.approx(2 * 3 / 12)  # the on the
    assert scoring.token_f1("dog", row) == scoring.rouge_l("dog", row) == 0
    assert scoring.token_f1("", row) == scoring.rouge_l("", row) == 0
    assert scoring.similarity_scores(["the cat sat on the mat"], [row]) == {
        name: [1.0] for name in ("exact", "token_f1", "rouge_l", "bleu", "chrf")
    }


# answer, expected, ROUGE-L of rouge-score 0.1.2 without stemming, F1 of the evaluation script of SQuAD 1.1
PUBLISHED = [
    ("the cat sat on the mat", "a cat is on the mat", 0.666667, 0.75),
    (
        "The quick brown fox jumps over the lazy dog.",
        "A fast brown fox leaps over a lazy dog!",
        0.555556,
        0.714286,
    ),
    ("Revenue was $12.5 million in 2019", "In 2019, revenue was 12.5 million dollars", 0.666667, 0.923077),
    ("don't know", "I do not know", 0.285714, 0.333333),
    ("Paris", "Paris, France", 0.666667, 0.666667),
    ("one two three four five", "five four three two one", 0.2, 1.0),
    ("It is 3-4 days", "3 to 4 days, it is", 0.545455, 0.6),
    ("x", "y", 0.0, 0.0),
]


@pytest.mark.parametrize(("answer", "expected", "rouge", "f1"), PUBLISHED)
def test_rouge_and_f1_equal_the_published_programs(
    answer: str, expected: str, rouge: float, f1: float
) -> None:
    assert scoring.rouge_l(answer, row("", expected)) == pytest.approx(rouge, abs=1e-6)
    assert scoring.token_f1(answer, row("", expected)) == pytest.approx(f1, abs=1e-6)


def test_bleu_and_chrf_by_hand() -> None:
    expected = row("", "the cat sat on a mat")
    # Papineni et al. 2002: 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 groups of four; equal lengths
    assert scoring.bleu("the cat sat on the mat", expected) == pytest.approx(
        (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    )
    # Popović 2015, n-grams as far as "ab" has them: characters 2 of 2 and of 3, pairs 1 of 1 and of 2
    precision, recall = (1 + 1) / 2, (2 / 3 + 1 / 2) / 2
    f2 = 5 * precision * recall / (4 * precision + recall)
    assert scoring.chrf("ab", row("", "abc")) == pytest.approx(f2, abs=1e-6)
    for score in (scoring.bleu, scoring.chrf):
        assert score("Paris", row("", "Paris")) == 1 and score("", expected) == score("zzz", expected) == 0


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("She has 9 eggs.\n#### 18", 1.0),
        ("#### $18.00\n\nQuestion: another\n#### 7", 1.0),  # the first result counts
        ("So that is 9 * 2 = 18.", 1.0),  # without the mark: the last number
        ("It is 18, no: 1,800.", 0.0),
        ("#### 81", 0.0),
        ("", 0.0),
    ],
)
def test_worked_answers_are_scored_by_their_result(answer: str, score: float) -> None:
    expected = row("How much?", "9 * 2 = $<<9*2=18>>18\n#### 18")
    assert scoring.result(answer, expected) == score
