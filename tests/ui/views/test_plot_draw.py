"""Drawing: rows of exact width, visible spikes and gaps, legends, no state left in plotext's figure."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.ui.views.plot_draw import draw, draw_plot
from tui_lab.ui.views.plot_series import (
    STYLES,
    LineWeight,
    Marker,
    PlotMark,
    PlotOptions,
    PlotRow,
    PlotSeries,
    plain,
)

values = st.one_of(st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf))


def test_rows_have_the_requested_size() -> None:
    series = [PlotSeries("train", "train", range(50), [float(i) for i in range(50)])]
    for width, height in ((16, 5), (80, 20), (200, 50)):
        rows = draw(series, width, height, PlotOptions("loss"))
        assert len(rows) == height
        assert all(sum(len(text) for text, _ in row) == width for row in rows)


@settings(max_examples=60, deadline=None)
@given(
    ys=st.lists(values, max_size=40),
    width=st.integers(1, 120),
    height=st.integers(1, 30),
    log=st.booleans(),
    marker=st.sampled_from(["braille", "block", "ascii"]),
    from_zero=st.booleans(),
)
def test_any_data_and_any_size_draw(
    ys: list[float], width: int, height: int, log: bool, marker: str, from_zero: bool
) -> None:
    options = PlotOptions("loss", marker=marker, log=log, from_zero=from_zero)  # type: ignore[arg-type]
    rows = draw([PlotSeries("train", "train", range(len(ys)), ys)], width, height, options)
    assert [sum(len(text) for text, _ in row) for row in rows] == [width] * height
    if marker == "ascii":
        assert plain(rows).isascii()
    assert "\x1b" not in plain(rows)


def cells(rows: list[list[tuple[str, str]]], role: str) -> set[tuple[int, int]]:
    """(row, column) of every drawn cell of a role, below the heading."""
    found = set()
    for y, row in enumerate(rows[1:], 1):
        x = 0
        for text, name in row:
            found |= {(y, x + i) for i, char in enumerate(text) if name == role and char != " "}
            x += len(text)
    return found


def test_a_spike_reaches_the_top_and_the_rest_stays_low() -> None:
    ys = [1.0] * 10_000
    ys[5_000] = 50.0
    rows = draw(
        [PlotSeries("train", "train", range(10_000), ys)], 80, 20, PlotOptions("loss", from_zero=True)
    )
    drawn = cells(rows, "train")
    top = [x for y, x in drawn if y == min(y for y, _ in drawn)]
    assert min(y for y, _ in drawn) <= 2
    assert all(36 <= x <= 46 for x in top), "in the middle, where the spike is"


def test_points_are_drawn_over_thresholds_and_lines() -> None:
    points = PlotSeries("retention", "retained", [0.0, 50.0, 100.0], [0.9] * 3, "points")
    threshold = PlotSeries("threshold", "forgotten", [0.0, 100.0], [0.9] * 2, "dashed")
    line = PlotSeries("its lower end", "undecided", [0.0, 100.0], [0.9] * 2)
    for series in ([points, threshold], [threshold, points], [points, line]):
        assert plain(draw(series, 60, 10)[1:]).count("●") == 3


def test_a_curve_that_begins_at_the_first_step_has_the_axis_of_one_that_begins_at_zero() -> None:
    first, zero = ([float(step) for step in range(begin, 101)] for begin in (1, 0))
    axes = [plain(draw([PlotSeries("train", "train", xs, xs)], 60, 10)[-1:]) for xs in (first, zero)]
    assert axes[0] == axes[1] and axes[0].split()[0] == "0"
    late = [float(step) for step in range(60, 101)]
    assert plain(draw([PlotSeries("train", "train", late, late)], 60, 10)[-1:]).split()[0] == "60"


def test_a_gap_stays_empty() -> None:
    ys = [1.0] * 40 + [math.nan] * 20 + [1.0] * 40
    rows = draw([PlotSeries("train", "train", range(100), ys)], 100, 10, PlotOptions("loss"))
    columns = {x for _, x in cells(rows, "train")}
    assert columns & set(range(10, 35)) and columns & set(range(70, 95))
    assert not columns & set(range(46, 58))


def test_the_legend_names_every_series_with_a_distinct_mark() -> None:
    series = [
        PlotSeries("train", "train", [1, 2], [3.0, 2.0]),
        PlotSeries("smoothed", "smoothed", [1, 2], [3.0, 2.5], "thick"),
        PlotSeries("validation", "validation", [1, 2], [3.5, 2.25], "points"),
    ]
    for marker in ("braille", "block", "ascii"):
        heading = plain(draw(series, 80, 12, PlotOptions("loss", marker=marker))[:1])  # type: ignore[arg-type]
        assert "train 2" in heading and "smoothed 2.5" in heading and "validation 2.25" in heading
        glyphs = [STYLES[marker][one.style][1] for one in series]
        assert len(set(glyphs)) == 3
        assert all(glyph in heading for glyph in glyphs)


def test_an_empty_plot_shows_its_text() -> None:
    text = plain(draw([], 60, 8, PlotOptions("loss", empty="The loss appears here after the first step.")))
    assert "The loss appears here after the first step." in text
    nothing = PlotSeries("train", "train", [1, 2], [math.nan, math.nan])
    assert "appears here" in plain(draw([nothing], 60, 8, PlotOptions("loss", "appears here")))


def test_memory_is_counted_in_binary_units() -> None:
    series = [PlotSeries("resident", "memory", range(10), [(500 + i) * 2.0**20 for i in range(10)])]
    text = plain(draw(series, 60, 10, PlotOptions("memory", unit="bytes", from_zero=True)))
    assert "MiB" in text and "509 MiB" in text and "500┤" in text


def test_two_plots_are_independent() -> None:
    first = [PlotSeries("a", "train", range(20), [float(i) for i in range(20)])]
    second = [PlotSeries("b", "memory", range(20), [100.0 + i for i in range(20)])]
    alone = draw(first, 60, 12, PlotOptions("one"))
    draw(second, 100, 30, PlotOptions("two", log=True))
    assert draw(first, 60, 12, PlotOptions("one")) == alone
    import plotext

    assert "100" not in plotext.build(), "the global figure is left empty"


@pytest.mark.parametrize("steps", [1, 2])
def test_few_points_are_visible(steps: int) -> None:
    rows = draw(
        [PlotSeries("train", "train", range(1, steps + 1), [2.0] * steps)], 40, 8, PlotOptions("loss")
    )
    assert cells(rows, "train")


def test_a_series_with_a_letter_and_one_without_a_name() -> None:
    series = [
        PlotSeries("", "run-1", [0, 1, 2], [1.0, 2.0, 3.0]),
        PlotSeries("", "run-1", [1], [2.0], mark="K"),
        PlotSeries("named", "run-2", [0, 2], [3.0, 1.0], mark="L"),
    ]
    rows = draw(series, 60, 12, PlotOptions("title"))
    heading, figure = plain(rows).split("\n", 1)
    assert "K" in figure and "K" not in heading
    assert "L named" in heading and figure.count("L") == 2


@pytest.mark.parametrize("marker", ["braille", "block"])
def test_thick_lines_cover_more_cells_inside_the_plot(marker: Marker) -> None:
    curve = PlotSeries("train", "train", range(60), [60.0 - step for step in range(60)])
    weights: tuple[LineWeight, LineWeight] = ("normal", "thick")
    thin, thick = (draw([curve], 60, 14, PlotOptions(marker=marker, weight=weight)) for weight in weights)

    def dots(rows: list[PlotRow]) -> int:
        """Dots of a dot pattern, quarters of a block: how much of the canvas is inked."""
        inked = "".join(text for row in rows[1:] for text, role in row if role == "train")
        quarters = {"▖": 1, "▗": 1, "▘": 1, "▝": 1, "█": 4, "▙": 3, "▛": 3, "▜": 3, "▟": 3}
        return sum(
            (ord(char) - 0x2800).bit_count() if "⠀" <= char <= "⣿" else quarters.get(char, 2)
            for char in inked
            if char != " "
        )

    assert dots(thick) > 1.5 * dots(thin)
    assert [sum(len(text) for text, _ in row) for row in thick] == [60] * 14


@pytest.mark.parametrize(
    ("width", "heading"),
    [
        (60, "KL  ⠶⠶ general 0.25  ● task 0.25  ⠒⠒ 95% interval"),
        (40, "KL ⠶⠶ text 0.25 ● task 0.25 ⠒⠒ 95%"),
        (25, "KL ⠶⠶ text ● task ⠒⠒ 95%"),
        (20, "KL ⠶⠶ text ● task…"),
    ],
)
def test_a_narrow_legend_uses_shorter_names_and_then_an_ellipsis(width: int, heading: str) -> None:
    xs, ys = [0.0, 1.0], [0.5, 0.25]
    series = [
        PlotSeries("general", "retained", xs, ys, "thick", brief="text"),
        PlotSeries("task", "tuned-model", xs, ys, "points"),
        PlotSeries("95% interval", "axis", xs, ys, shows_last=False, brief="95%"),
    ]
    assert plain(draw(series, width, 6, PlotOptions("KL"))[:1]).rstrip() == heading


def retention(threshold: float = 0.9) -> list[PlotSeries]:
    return [
        PlotSeries("retention", "retained", [0, 50, 100], [1.0, 0.95, 0.8], "points"),
        PlotSeries("threshold", "forgotten", [0.0, 500.0], [threshold] * 2, "dashed"),
    ]


def test_a_threshold_stands_in_the_row_of_its_tick_with_its_name_on_it() -> None:
    for height in range(8, 30):
        rows = plain(draw(retention(), 60, height)).split("\n")
        [line] = [row for row in rows if "threshold 0.9" in row]
        ticks = [row.split("┤")[0].strip() for row in rows if "┤" in row]
        if any(float(tick) == 0.9 for tick in ticks):
            assert float(line.split("┤")[0]) == 0.9, f"{height} rows: {line}"
        labelled = [number for number, row in enumerate(rows) if "┤" in row]
        assert len({after - before for before, after in pairwise(labelled)}) <= 1, "even ticks"


def test_the_scale_leaves_out_a_steep_start_and_says_so() -> None:
    ys = [float(12 - step) for step in range(1, 11)] + [1.0 + 0.1 * (step % 5) for step in range(11, 101)]
    series = [PlotSeries("train", "train", range(1, 101), ys)]
    drawing = draw_plot(series, 80, 16, PlotOptions(settle=True))
    assert drawing.note == "scale without the first 10 steps"
    ticks = [float(row.split("┤")[0]) for row in plain(drawing.rows).split("\n") if "┤" in row]
    assert max(ticks) <= 1.6
    assert draw_plot(series, 80, 16, PlotOptions()).note == ""
    inside = plain(draw_plot(series, 80, 16, PlotOptions(settle=True, note_inside=True)).rows[:2])
    assert inside.rstrip().endswith(drawing.note), "where no border says it"
    # who zooms in on the start wants to see it
    near = draw_plot(series, 80, 16, PlotOptions(settle=True, view=(0.0, 20.0)))
    assert near.note == "" and "10┤" in plain(near.rows)


def test_a_cursor_reads_all_series_and_a_click_finds_its_step() -> None:
    xs = range(101)
    series = [
        PlotSeries("train", "train", xs, [5.0 - x / 25 for x in xs]),
        PlotSeries("validation", "validation", [0, 50, 100], [5.5, 3.5, 2.5], "points"),
    ]
    drawing = draw_plot(series, 80, 16, PlotOptions(cursor=75.0))
    heading = plain(drawing.rows[:1])
    assert "step 75" in heading and "train 2" in heading and "validation 3.5" in heading
    [column] = {row.index("│", drawing.left) for row in plain(drawing.rows[2:6]).split("\n")}
    assert drawing.x_at(column) == pytest.approx(75, abs=1)
    assert math.isnan(drawing.x_at(0)) and math.isnan(drawing.x_at(79 + 2))


def test_marks_stand_above_the_axis_at_their_steps() -> None:
    series = [PlotSeries("train", "train", range(101), [1.0] * 101)]
    marks = [PlotMark(50, "○", "retained", "probe"), PlotMark(50, "◆", "validation", "checkpoint")]
    drawing = draw_plot(series, 80, 12, PlotOptions(), [*marks, PlotMark(90, "!", "state-failed", "spikes")])
    row = plain(drawing.rows[-3:-2])
    assert drawing.x_at(row.index("◆")) == pytest.approx(50, abs=1) and "○" not in row
    assert drawing.x_at(row.index("!")) == pytest.approx(90, abs=1)
    plainly = draw_plot(series, 80, 12, PlotOptions(marker="ascii"), marks)
    assert plain(plainly.rows[-3:-2]).strip("| ") == "*"
    pointed = plain(draw_plot(series, 80, 12, PlotOptions(cursor=50.0), marks).rows[:1])
    assert "◆ checkpoint" in pointed and "○ probe" in pointed and "!" not in pointed
    assert "◆" not in plain(draw_plot(series, 80, 8, PlotOptions(), marks).rows), "no row for it"


def test_marks_stay_distinct_in_ascii() -> None:
    series = [PlotSeries("a", "train", range(101), [1.0] * 101)]
    marks = [PlotMark(20, "○", "retained", "probe"), PlotMark(60, "◆", "validation", "checkpoint")]
    marks.append(PlotMark(90, "!", "state-failed", "spikes"))
    shown = plain(draw_plot(series, 80, 12, PlotOptions(marker="ascii"), marks).rows)
    assert shown.isascii() and "?" not in shown
    [row] = [line for line in shown.splitlines() if "!" in line]
    assert len({*row} - {" ", "|"}) == 3, row


def test_a_view_shows_only_its_part() -> None:
    ys = [float(x) for x in range(1_000)]
    rows = draw([PlotSeries("train", "train", range(1_000), ys)], 80, 12, PlotOptions(view=(400.0, 500.0)))
    text = plain(rows)
    ticks = [float(row.split("┤")[0]) for row in text.split("\n") if "┤" in row]
    assert min(ticks) >= 400 and max(ticks) <= 500
    assert text.split("\n")[-1].split()[0] == "400"


def test_a_small_plot_is_a_sparkline_with_its_last_lowest_and_highest_value() -> None:
    series = [PlotSeries("train", "train", range(5), [4.0, 3.0, 2.0, 1.0, 1.5])]
    rows = plain(draw(series, 18, 3, PlotOptions("loss"))).split("\n")
    assert [row.rstrip() for row in rows] == ["loss 1.5", "█▆▃▁▂", "min 1  max 4"]
    assert plain(draw(series, 18, 1, PlotOptions("loss"))).rstrip() == "loss 1.5 █▆▃▁▂"
    assert plain(draw(series, 18, 3, PlotOptions("loss", marker="ascii"))).isascii()
    threshold = draw(retention(), 18, 3)
    assert "retention 0.8" in plain(threshold), "the curve and not its threshold"


def test_a_long_legend_gets_a_second_row_and_is_not_cut() -> None:
    series = [PlotSeries(f"series number {n}", "train", [0, 1], [1.0, float(n)]) for n in range(4)]
    heading = plain(draw(series, 50, 14, PlotOptions("loss"))[:2])
    assert all(f"series number {n} {n}" in heading for n in range(4)) and "…" not in heading
