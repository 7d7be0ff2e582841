"""Sparklines, worked by hand."""

from __future__ import annotations

import math

from tui_lab.ui.views.plot_spark import sparkline


def test_levels_from_lowest_to_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([3.0, 3.0], 8) == "▅▅", "a constant is in the middle"
    assert sparkline([0.0, 7.0], 8, ascii_only=True) == "_#"


def test_a_spike_survives_and_a_gap_is_a_blank() -> None:
    values = [1.0] * 1_000
    values[500] = 9.0
    assert sparkline(values, 10) == "▁▁▁▁▁█▁▁▁▁"
    assert sparkline([1.0, math.nan, 2.0], 3) == "▁ █"
    assert sparkline([math.nan], 3) == "" and sparkline([], 3) == ""
