"""The result object: figures against hand-worked cases, what is written is what is read, damaged files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.core.records import to_json
from tui_lab.retention import results
from tui_lab.retention.results import MeasurementInfo
from tui_lab.retention.scoring.metrics import ItemScore, choice_score, document_score
from tui_lab.retention.suites.records import Item, Suite, chance_of, fingerprint

INFO = MeasurementInfo("pocket", dtype="float32", adapter="run-1", versions={"torch": "2"}, seconds=1.5)


def suite_of(n: int, metric: str = "acc", choices: int = 4, **changes: Any) -> Suite:
    items = tuple(
        Item(
            f"i{at}",
            f"Question: {at}\nAnswer:",
            tuple(f" {word}" for word in "abcd"[:choices]),
            (at % choices,),
            category="odd" if at % 2 else "even",
            question=str(at),
            choices=tuple("abcd"[:choices]),
        )
        for at in range(n)
    )
    sha = fingerprint("choice", metric, items)
    suite = Suite("own", "1", "Own", "", "choice", metric, items, chance_of(items), "", "", sha)
    return replace(suite, **changes)


def scores(suite: Suite, right: list[bool]) -> list[ItemScore]:
    """Scores with which exactly these items are answered rightly."""
    found = []
    for item, good in zip(suite.items, right, strict=True):
        count = len(item.continuations)
        best = item.answers[0] if good else (item.answers[0] + 1) % count
        values = [-1.0 if at == best else -3.0 for at in range(count)]
        found.append(choice_score(item, values, [1] * count, 0))
    return found


def test_a_hand_worked_case() -> None:
    suite = suite_of(200, held_back=("odd",))
    before = [at < 180 for at in range(200)]  # 180 right
    after = [10 <= at < 185 for at in range(200)]  # 10 lost, 5 gained
    result = results.build(suite, INFO, scores(suite, before), scores(suite, after), warnings=["said"])
    compared = result.comparison
    assert (compared.a, compared.b, compared.c, compared.d) == (170, 10, 5, 15)
    assert compared.pre == 0.9 and compared.post == 0.875 and compared.n == 200
    assert compared.retention.value == pytest.approx(175 / 180)
    assert compared.above_chance.value == pytest.approx((0.875 - 0.25) / (0.9 - 0.25))
    assert compared.difference.value == pytest.approx(-0.025)
    # 15 flips, at most 5 one way: 2 · Σ C(15, k≤5) / 2^15
    assert compared.mcnemar_p == pytest.approx(2 * (1 + 15 + 105 + 455 + 1365 + 3003) / 2**15)
    assert compared.verdict in ("green", "amber") and compared.sentence
    assert set(result.categories) == {"odd", "even"}
    assert sum(each.n for each in result.categories.values()) == 200
    assert result.held_back.categories == ["odd"]
    assert result.held_back.comparison == result.categories["odd"]
    first = result.items[0]
    assert first.is_lost and not first.is_gained and first.answer == [0]
    assert result.base["acc"].value == 0.9 and result.tuned["acc"].value == 0.875
    assert result.warnings == ["said"] and result.model == "pocket" and result.seconds == 1.5


def test_a_base_at_chance_gives_the_verdict_cannot_tell() -> None:
    suite = suite_of(100)
    right = [at % 4 == 0 for at in range(100)]
    compared = results.build(suite, INFO, scores(suite, right), scores(suite, right)).comparison
    assert compared.verdict == "cannot_tell" and compared.retention.value == 1
    assert math.isnan(compared.above_chance.value) and "guessing" in compared.sentence


def test_without_an_adapter_there_is_nothing_to_compare() -> None:
    suite = suite_of(8)
    result = results.build(suite, INFO, scores(suite, [True] * 8))
    assert result.tuned is result.comparison is result.held_back is None
    assert result.categories == {} and result.items[0].tuned is None


def test_perplexity_retention_is_weighted_by_tokens() -> None:
    items = tuple(Item(f"d{at}", "", ("some words here",), ()) for at in range(30))
    sha = fingerprint("perplexity", "perplexity", items)
    suite = Suite("text", "1", "", "", "perplexity", "perplexity", items, None, "", "", sha)
    before = [document_score(item, -10.0 - at % 3, 5) for at, item in enumerate(items)]
    after = [document_score(item, -11.0 - at % 3, 5) for at, item in enumerate(items)]
    compared = results.build(suite, INFO, before, after).comparison
    assert compared.pre == pytest.approx(math.exp(11 / 5)) and compared.post > compared.pre
    assert compared.retention.value == pytest.approx(math.exp(-1 / 5))
    assert compared.difference.value == pytest.approx(0.2)  # nats a token
    assert compared.above_chance is None and compared.verdict == "red"


@pytest.mark.parametrize(("metric", "choices"), [("mc2", 4), ("mcc", 2), ("f1", 2), ("acc_norm", 4)])
def test_every_metric_is_compared(metric: str, choices: int) -> None:
    suite = suite_of(120, metric, choices)
    before, after = ([at % 10 != 0 for at in range(120)], [at % 10 > 3 for at in range(120)])
    result = results.build(suite, INFO, scores(suite, before), scores(suite, after))
    compared = result.comparison
    assert compared.metric == metric and compared.verdict == "red", compared
    assert compared.pre == result.base[metric].value > compared.post
    kept = compared.retention
    assert kept.low < kept.value < kept.high < 0.9
    if metric != "acc_norm":
        assert kept.value == pytest.approx(compared.post / compared.pre)


def test_truncated_items_and_non_finite_scores_are_warned_about() -> None:
    suite = suite_of(4)
    found = scores(suite, [True] * 4)
    found[1] = replace(found[1], extra={"cut": 12})
    found[2] = choice_score(suite.items[2], [math.nan] * 4, [1] * 4, 0)
    said = results.build(suite, INFO, found).warnings
    assert "1 of 4 items of own are longer than the model's context" in said[0] and "i1" in said[0]
    assert "not finite" in said[1]


def test_results_round_trip_through_json(tmp_path: Path) -> None:
    suite = suite_of(20)
    found = scores(suite, [at % 4 == 0 for at in range(20)])
    found[3] = choice_score(suite.items[3], [-math.inf, math.nan, -1.0, -2.0], [1] * 4, 0)
    result = results.build(suite, INFO, found, found)
    path = tmp_path / "own.json"
    path.write_text(to_json(result))
    json.loads(path.read_text(), parse_constant=pytest.fail)  # strict JSON
    again = results.read(path)
    assert repr(again) == repr(result)  # nan is not equal to itself, its text is


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "no retention result of this version"),
        ('{"v": 99}', "no retention result of this version"),
        ('{"v": 1, "suite": "x"}', "version is missing"),
    ],
)
def test_damaged_files_are_one_sentence(text: str, part: str, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(LabError, match=part):
        results.read(path)
    with pytest.raises(LabError, match="cannot be read"):
        results.read(tmp_path / "missing.json")


@given(st.data())
def test_any_damaged_file_raises_lab_error_or_is_read(data: st.DataObject) -> None:
    import tempfile

    suite = suite_of(2)
    found = scores(suite, [True, False])
    text = to_json(results.build(suite, INFO, found, found))
    at = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(at, min(len(text), at + 40)))
    damaged = text[:at] + data.draw(st.sampled_from(["", "null", "7", '"x"', "{}", "[]"])) + text[end:]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(damaged)
        file.flush()
        try:
            assert isinstance(results.read(Path(file.name)), results.SuiteResult)
        except LabError as error:
            assert "\n" not in str(error)


def test_scores_round_trip_through_lines() -> None:
    suite = suite_of(2)
    one, other = scores(suite, [True, False])
    lines = [json.loads(json.dumps(results.score_record(score))) for score in (one, other)]
    back = {str(line["id"]): results.score_of(line) for line in lines}
    assert back == {"i0": one, "i1": other}
    for damaged in (None, 7, {}, {**lines[0], "tokens": 3}, {**lines[0], "predicted": "x"}):
        assert results.score_of(damaged) is None
    stray = replace(one, id="no such item")
    short = replace(other, loglikelihoods=(-1.0,))
    assert results.valid_scores(suite, {"i0": one, "i1": short, stray.id: stray}) == {"i0": one}
