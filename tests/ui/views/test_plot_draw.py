"""Drawing: rows of exact width, visible spikes and gaps, legends, no state left in plotext's figure."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.ui.views.plot_draw import (
    STYLES,
    LineWeight,
    Marker,
    PlotOptions,
    PlotRow,
    PlotSeries,
    draw,
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
    assert min(y for y, _ in drawn) == 1
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
    assert "MiB" in text and "509 MiB" in text and "600┤" in text


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
        (40, "KL  ▀▀ general  ● task  ⠒⠒ 95% interval"),
        (25, "KL ▀▀ text ● task ⠒⠒ 95%"),
        (20, "KL ▀▀ text ● task…"),
        (4, "KL…"),
        (2, "K…"),
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
