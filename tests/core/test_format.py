"""Words for numbers, by hand-worked cases."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core import format


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (358_400, "358 k"),
        (4_229_888, "4.23 M"),
        (999_885_952, "1 B"),
        (1_543_714_304, "1.54 B"),
        (None, "–"),
        (math.nan, "–"),
        (True, "–"),
        ("12", "–"),
    ],
)
def test_count(value: object, text: str) -> None:
    assert format.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1024, "1 KiB"),
        (1_572_864, "1.5 MiB"),
        (139 * 2**30, "139 GiB"),
        (None, "–"),
    ],
)
def test_size(value: object, text: str) -> None:
    assert format.size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (65, "1:05"), (7384, "2:03:04"), (-1, "–"), (math.inf, "–"), (None, "–")],
)
def test_duration(seconds: object, text: str) -> None:
    assert format.duration(seconds) == text


@given(st.floats() | st.integers(-(10**15), 10**15) | st.text() | st.none())
def test_any_value_has_words_without_exponents(value: object) -> None:
    for words in (format.count(value), format.size(value), format.duration(value)):
        assert words
        if format.finite(value) is not None and abs(float(value)) < 1e15:  # type: ignore[arg-type]
            assert "e+" not in words


def test_unknown_phases_and_memory_are_shown_by_name() -> None:
    assert format.phase("loading_model", "pocket") == "loading the model: pocket"
    assert format.phase("some_new_phase") == "some new phase"
    assert format.memory_name("npu_used") == "npu used"


def test_a_reason_that_names_nothing_is_told_with_its_value() -> None:
    assert (
        format.decision("adamw_torch", "because the recipe sets it")
        == "adamw_torch because the recipe sets it"
    )
    assert format.decision("nf4", "NF4 because the recipe sets it") == "NF4 because the recipe sets it"
    assert format.decision({"a": 1}, "because memory ran out") == "because memory ran out"


@pytest.mark.parametrize(
    ("value", "decimal", "significant", "compact"),
    [
        (0.22945, "0.229", "0.2294", "0.229"),
        (1234.5, "1234.500", "1234", "1234.500"),
        (0.00005, "0.000", "5e-05", "5e-5"),
        (20_000, "20000.000", "2e+04", "2e4"),
        (0, "0.000", "0", "0.000"),
        (math.nan, "–", "–", "–"),
        (-math.inf, "−∞", "−∞", "−∞"),
        ("1", "–", "–", "–"),
        (True, "–", "–", "–"),
        (10**400, "–", "–", "–"),
    ],
)
def test_numbers(value: object, decimal: str, significant: str, compact: str) -> None:
    found = (format.decimal(value), format.significant(value), format.compact(value))
    assert found == (decimal, significant, compact)


def test_no_zero_has_a_sign() -> None:
    assert format.interval(-0.0001, -0.004, 0.004) == "0.00 (0.00 to 0.00)"
    assert format.decimal(-0.006, 2) == "-0.01"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0%"), (9e-5, "<.01%"), (0.0012, "0.12%"), (0.5, "50.0%"), (0.99949, "99.9%"), (1 - 1e-9, ">99.9%"),
     (1, "100%"), (math.nan, "–")],
)  # fmt: skip
def test_percent(share: float, text: str) -> None:
    assert format.percent(share) == text


@given(st.floats(0, 1))
def test_a_percentage_fits_six_cells(share: float) -> None:
    assert len(format.percent(share)) <= 6


def test_an_interval() -> None:
    assert format.interval(0.93, math.nan, math.inf) == "0.93 (– to ∞)"


@pytest.mark.parametrize(("count", "text"), [(1, "1 row"), (0, "0 rows"), (1234, "1,234 rows")])
def test_plural(count: int, text: str) -> None:
    assert format.plural(count, "row") == text


@pytest.mark.parametrize(
    ("share", "blocks", "ascii_only"),
    [
        (0.0, "····", "----"),
        (0.001, "▏···", "#---"),
        (0.53, "██▏·", "##--"),
        (1.0, "████", "####"),
        (7.0, "████", "####"),
        (math.nan, "····", "----"),
    ],
)
def test_bar(share: float, blocks: str, ascii_only: str) -> None:
    assert format.bar(share, 4, empty="·") == blocks
    assert format.bar(share, 4, ascii_only=True, empty="-") == ascii_only
    assert format.bar(share, 0) == ""


@given(st.floats(), st.integers(1, 60), st.booleans())
def test_a_bar_has_its_width(share: float, width: int, ascii_only: bool) -> None:
    assert len(format.bar(share, width, ascii_only=ascii_only)) == width
