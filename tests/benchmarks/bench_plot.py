"""What a plot costs: drawing curves of 100 to 500,000 points that grow by one, beside plotext given all of
them; and what the widget sends to the terminal while a run grows."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Iterator
from statistics import median

from textual.app import App, ComposeResult

from tests.benchmarks.figures import Figure
from tui_lab.runs.curves import Curve
from tui_lab.ui.terminal.output import PLOT
from tui_lab.ui.views.plot_draw import draw
from tui_lab.ui.views.plot_series import PlotOptions, PlotSeries
from tui_lab.ui.widgets.plot import Plot

WIDTH, HEIGHT = 100, 25
GROW_S = 8.0


def loss(count: int) -> PlotSeries:
    """A loss curve with noise, from a seed."""
    noise = random.Random(0)
    ys = [0.3 + 3 * math.exp(-i / (count / 5)) + 0.2 * noise.random() for i in range(count)]
    return PlotSeries("train", "train", range(count), ys)


def growing(count: int) -> Curve:
    """The same as a run's curve."""
    curve = Curve()
    for step, value in enumerate(loss(count).ys, start=1):
        curve.add(step, value)
    return curve


def draw_seconds(curve: Curve) -> float:
    """Seconds of a core to draw a curve and its average after one more point, as the Train pane does."""
    curve.add(curve.steps[-1] + 1, 0.4)
    began = time.process_time()
    smoothed = curve.smoothed(0.8)
    raw = PlotSeries("train", "train", curve.steps, curve.values, outline=curve.outline)
    average = PlotSeries(
        "smoothed", "smoothed", smoothed.steps, smoothed.values, "thick", outline=smoothed.outline
    )
    draw([raw, average], WIDTH, HEIGHT, PlotOptions("loss", settle=True))
    return time.process_time() - began


def plain_plotext_seconds(series: PlotSeries) -> float:
    """The obvious way: every point given to plotext."""
    import plotext

    plotext.clear_figure()
    plotext.limit_size(False, False)
    plotext.plot_size(WIDTH, HEIGHT)
    began = time.perf_counter()
    plotext.plot(list(series.xs), list(series.ys), marker="braille")
    plotext.build()
    seconds = time.perf_counter() - began
    plotext.clear_figure()
    return seconds


class PlotApp(App[None]):
    def compose(self) -> ComposeResult:
        yield Plot(PlotOptions("loss", from_zero=True))


async def rows_sent() -> tuple[int, int, int]:
    """(rows sent, redraws, rows of the widget) while a curve of 1,000 points grows ten times a second."""
    app = PlotApp()
    async with app.run_test(size=(80, 24)):
        plot = app.query_one(Plot)
        whole = loss(1_000)
        plot.show(lambda: [PlotSeries("train", "train", whole.xs[:200], whole.ys[:200])], 0)
        await asyncio.sleep(PLOT.usual_s * 2)
        sent, builds = plot.rows_sent, plot.builds
        count, began = 200, time.monotonic()
        while time.monotonic() - began < GROW_S:
            count += 1
            plot.show(lambda n=count: [PlotSeries("train", "train", whole.xs[:n], whole.ys[:n])], count)  # type: ignore[misc]
            await asyncio.sleep(0.1)
        return plot.rows_sent - sent, plot.builds - builds, plot.size.height


def run() -> Iterator[Figure]:
    draw_seconds(growing(100))  # imports plotext
    for count in (100, 1_000, 10_000, 100_000, 500_000):
        curve = growing(count)
        draw_seconds(curve)  # an opened run reads its curve once
        ours = median(draw_seconds(curve) for _ in range(9))
        yield Figure(f"draw {count:,} points, {WIDTH}x{HEIGHT}", 1000 * ours, "ms", 15)
        if 1_000 <= count <= 10_000:  # with more it takes many seconds
            theirs = plain_plotext_seconds(loss(count))
            yield Figure(f"plotext given all {count:,} points", 1000 * theirs, "ms")
            yield Figure("plain plotext against ours", theirs / ours, "times")
    sent, builds, height = asyncio.run(rows_sent())
    yield Figure("redraws a second while data comes ten times a second", builds / GROW_S, "1/s", 4)
    yield Figure("rows sent a redraw", sent / max(1, builds), f"of {height}")
