"""Strategies: ranges, reading and writing, all mistakes at once, nothing heavy imported."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.decoding.strategies import (
    FAMILIES,
    PARAMETERS,
    PRESETS,
    Beam,
    Contrastive,
    Greedy,
    Lane,
    Sample,
    build,
    meaning,
    parameters,
    parse,
    with_seeds,
)


@pytest.mark.parametrize(
    ("text", "lane"),
    [
        ("greedy", Lane(Greedy())),
        ("top-p p=0.9 seed=1", Lane(Sample("top-p", top_p=0.9), 1)),
        ("top_p top_p=0.5, temperature=1.2", Lane(Sample("top-p", top_p=0.5, temperature=1.2))),
        ("TOP-K k=7", Lane(Sample("top-k", top_k=7))),
        ("temperature t=0", Lane(Sample("temperature", temperature=0))),
        ("sample t=0.8 k=40 p=0.95 min_p=0.01 penalty=1.1", Lane(Sample("sample", 0.8, 40, 0.95, 0.01, 1.1))),
        ("beam", Lane(Beam(4))),
        ("beam n=6 length_penalty=-1 early_stopping=never", Lane(Beam(6, -1, "never"))),
        ("beam early_stopping=true on=base", Lane(Beam(4, early_stopping=True), on="base")),
        ("contrastive alpha=0.5 k=8", Lane(Contrastive(0.5, 8))),
    ],
)
def test_reads(text: str, lane: Lane) -> None:
    assert parse(text) == lane
    assert parse(lane.text) == lane


values = {
    "temperature": st.floats(0, 100),
    "top_k": st.integers(1, 64),
    "top_p": st.floats(0.001, 1),
    "min_p": st.floats(0, 1),
    "repetition_penalty": st.floats(0.01, 100),
    "num_beams": st.integers(1, 64),
    "length_penalty": st.floats(-100, 100),
    "penalty_alpha": st.floats(0, 1),
    "early_stopping": st.sampled_from([True, False, "never"]),
}


@given(st.data(), st.sampled_from(list(FAMILIES)), st.none() | st.integers(0, 2**63 - 1))
def test_text_and_back(data: Any, name: str, seed: int | None) -> None:
    chosen = {key: data.draw(values[key]) for key in FAMILIES[name].parameters if data.draw(st.booleans())}
    lane = Lane(build(name, chosen), seed)
    assert parse(lane.text) == lane
    assert lane.strategy.rows >= 1 and meaning(lane.strategy)
    assert set(parameters(lane.strategy)) == set(FAMILIES[name].parameters)


@settings(max_examples=30)
@given(st.text(max_size=60))
def test_any_text_gives_a_lane_or_an_error(text: str) -> None:
    try:
        parse(text)
    except LabError as error:
        assert len(str(error).splitlines()) <= 1 or "\n" in text or not text.isprintable()


def test_all_mistakes_at_once() -> None:
    with pytest.raises(LabError) as caught:
        parse("top-p p=3 temperature=-1 q=1 min_p=x seed=-4 junk k=2.5")
    for part in (
        "top_p is above 0 and at most 1, not 3",
        "temperature is at least 0 and at most 100, not -1",
        "'q' is no parameter",
        "min_p is a number, not 'x'",
        "seed is a whole number",
        "'junk' is not of the form name=value",
        "top_k is a whole number, not 2.5",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e9, True, None, "1"])
@pytest.mark.parametrize("name", list(PARAMETERS))
def test_impossible_values(name: str, value: Any) -> None:
    assert PARAMETERS[name].problem(value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("gredy", "did you mean greedy?"),
        ("nucleus", "there are greedy"),
        ("greedy seed=99999999999999999999", "seed is a whole number"),
        ("top-p p=0.5 p=0.6", "given twice"),
        ("top-p p=0.5 top_p=0.6", "given twice"),
        ("contrastive k=0", "top_k of contrastive search"),
        ("beam early_stopping=maybe", "true, false or never"),
        ("beam num_beams=65", "at most 64"),
    ],
)
def test_refusals(text: str, part: str) -> None:
    with pytest.raises(LabError, match=part):
        parse(text)


def test_strategies_validate_their_parameters() -> None:
    with pytest.raises(LabError, match="top_p"):
        Sample(top_p=0)
    with pytest.raises(LabError, match="name is one of"):
        Sample("nucleus")  # type: ignore[arg-type]
    with pytest.raises(LabError, match="seed"):
        Lane(seed=-1)


def test_presets() -> None:
    assert len(PRESETS["six classics"]) == 6
    assert sum(lane.strategy.rows for lane in PRESETS["six classics"]) == 12
    for lanes in PRESETS.values():
        assert all(parse(lane.text) == lane for lane in lanes)
        assert all(lane.seed is not None for lane in lanes if lane.strategy.random)
    seeded = with_seeds((Lane(Sample()), Lane(Greedy()), Lane(Sample(), 5), Lane(Sample())), 10)
    assert [lane.seed for lane in seeded] == [10, None, 5, 13]


def test_imports_nothing_heavy() -> None:
    code = (
        "import sys, tui_lab.decoding.strategies, tui_lab.decoding.records, tui_lab.cli.generate; "
        "print([m for m in ('torch', 'transformers', 'peft', 'numpy', 'textual') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
