"""Backward transfer and forgetting, worked by hand."""

from __future__ import annotations

import math

import pytest

from tui_lab.retention.stage_transfer import backward_transfer, forgetting

NAN = math.nan
#: After each of three stages the scores on three tasks.
SCORES = [[0.9, 0.2, 0.1], [0.95, 0.8, 0.3], [0.5, 0.7, 0.9]]


def test_three_stages_by_hand() -> None:
    # ((0.5 - 0.9) + (0.7 - 0.8)) / 2
    assert backward_transfer(SCORES) == pytest.approx(-0.25)
    # the first task was best after the second stage: 0.95 - 0.5; the second: 0.8 - 0.7
    assert forgetting(SCORES) == pytest.approx([0.45, 0.1])


def test_a_task_that_gets_better_has_negative_forgetting() -> None:
    better = [[0.5, 0.0], [0.75, 1.0]]
    assert backward_transfer(better) == 0.25 and forgetting(better) == [-0.25]


def test_what_is_unknown_stays_unknown() -> None:
    gap = [[0.9, NAN, NAN], [NAN, 0.8, NAN], [0.5, 0.7, 0.9]]
    assert backward_transfer(gap) == pytest.approx(-0.25), "it needs the diagonal and the last row"
    first, second = forgetting(gap)
    assert math.isnan(first) and second == pytest.approx(0.1)
    assert math.isnan(backward_transfer([[0.9, 0.1], [NAN, 0.8]]))


def test_one_stage_has_neither() -> None:
    assert math.isnan(backward_transfer([[0.9]])) and forgetting([[0.9]]) == []
