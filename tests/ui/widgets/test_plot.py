"""The plot widget draws only changes, at its pace, never while hidden, and redraws only changed rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from textual.app import App, ComposeResult
from textual.containers import Vertical

from tests.ui.helpers import screen_text, until
from tui_lab.ui.terminal import themes
from tui_lab.ui.terminal.output import PLOT
from tui_lab.ui.views.plot_series import PlotOptions, PlotSeries
from tui_lab.ui.widgets.plot import Plot


def curve(count: int, last: float = 1.0) -> Sequence[PlotSeries]:
    ys = [3.0 - i / 50 for i in range(count - 1)] + [last]
    return [PlotSeries("train", "train", range(count), ys)]


class PlotApp(App[None]):
    def compose(self) -> ComposeResult:
        with Vertical(id="holder"):
            yield Plot(PlotOptions("loss", empty="nothing yet", from_zero=True))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return themes.fallbacks(self.current_theme)


async def test_only_changes_are_drawn() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 20)) as pilot:
        plot = app.query_one(Plot)
        await until(lambda: "nothing yet" in plot.text)
        await asyncio.sleep(PLOT.usual_s)
        plot.show(lambda: curve(100), 100)
        await until(lambda: "train" in plot.text)
        await pilot.pause()
        assert "train 1" in screen_text(app)
        builds, sent = plot.builds, plot.rows_sent
        plot.show(lambda: curve(100), 100)  # the same stamp
        await asyncio.sleep(PLOT.usual_s * 1.5)
        assert (plot.builds, plot.rows_sent) == (builds, sent)
        plot.show(lambda: curve(100), 101)  # another stamp, the same picture
        await until(lambda: plot.builds == builds + 1)
        assert plot.rows_sent == sent
        await asyncio.sleep(PLOT.usual_s)
        plot.show(lambda: curve(100, 1.02), 102)  # one point moved a little: the legend and a row or two
        await until(lambda: plot.builds == builds + 2)
        assert 0 < plot.rows_sent - sent < 6


async def test_bursts_are_drawn_once() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 20)):
        plot = app.query_one(Plot)
        await asyncio.sleep(PLOT.usual_s)
        before = plot.builds
        for count in range(20, 70):
            plot.show(lambda count=count: curve(count), count)  # type: ignore[misc]
            await asyncio.sleep(0.004)
        await asyncio.sleep(PLOT.usual_s * 1.5)
        assert 1 <= plot.builds - before <= 3
        assert "50" in plot.text, "the newest data is what is drawn in the end"


async def test_nothing_is_computed_while_hidden() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 20)) as pilot:
        plot = app.query_one(Plot)
        app.query_one("#holder").display = False
        await pilot.pause()
        before = plot.builds
        asked = []
        plot.show(lambda: asked.append(1) or curve(30), 30)  # type: ignore[func-returns-value]
        await asyncio.sleep(PLOT.usual_s * 1.5)
        assert plot.builds == before and not asked
        app.query_one("#holder").display = True
        await until(lambda: plot.builds > before, what="drawn when shown again")
        assert asked and "train" in plot.text


async def test_size_and_marker_changes_draw_again() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 20)) as pilot:
        plot = app.query_one(Plot)
        plot.show(lambda: curve(60), 60)
        await until(lambda: "train" in plot.text)
        await pilot.resize_terminal(120, 30)
        await until(lambda: plot.text.count("\n") == 29 and len(plot.text.split("\n")[0]) == 120)
        plot.set_options(marker="ascii")
        await until(lambda: plot.text.isascii())
        assert ".." in plot.text


async def test_a_theme_change_recolours_without_drawing() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 20)) as pilot:
        plot = app.query_one(Plot)
        plot.show(lambda: curve(60), 60)
        await until(lambda: "train" in plot.text)

        def colours() -> set[str]:
            return {
                str(segment.style.color)
                for y in range(plot.size.height)
                for segment in plot.render_line(y)
                if segment.style
            }

        builds, before = plot.builds, colours()
        app.theme = "gruvbox"
        await pilot.pause(0.1)
        assert colours() != before
        assert plot.builds == builds


async def test_a_panel_says_what_the_scale_leaves_out_and_keeps_its_own_words_otherwise() -> None:
    steep = [float(12 - step) for step in range(1, 11)] + [1.0 + 0.1 * (step % 5) for step in range(11, 101)]
    app = PlotApp()
    async with app.run_test(size=(80, 20)):
        plot, panel = app.query_one(Plot), app.query_one("#holder")
        panel.add_class("panel")
        panel.styles.border = ("round", "white")
        panel.border_subtitle = "2 runs"
        plot.set_options(settle=True, from_zero=False)
        plot.show(lambda: curve(100), 1)
        await until(lambda: "train 1" in plot.text)
        assert panel.border_subtitle == "2 runs"
        plot.show(lambda: [PlotSeries("train", "train", range(1, 101), steep)], 2)
        await until(lambda: panel.border_subtitle == "scale without the first 10 steps")
        assert "scale without" not in plot.text
        plot.set_options(view=(0.0, 20.0))
        await until(lambda: not panel.border_subtitle)


async def test_a_plot_has_a_window_of_its_own() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 20)):
        plot = app.query_one(Plot)
        plot.set_options(whole_x=False, values=False)
        xs, ys = (0.0, 0.5, 1.0), (0.1, 0.7, 0.4)
        labels = ("first", "middle", "last")
        plot.show(lambda: [PlotSeries("runs", "train", xs, ys, "points", labels=labels)], 1)
        await until(lambda: "runs" in plot.text)
        plot.move_cursor(-1)
        plot.move_cursor(-1)
        await until(lambda: "at 0.5" in plot.text and "runs middle 0.7" in plot.text)
        plot.zoom(1)
        assert plot.options.view == (0.25, 0.75)
        plot.pan(1)
        assert plot.options.view == (0.375, 0.875)
        plot.show(lambda: [PlotSeries("runs", "train", (*xs, 2.0), (*ys, 0.2), "points")], 2)
        assert plot.options.view == (0.375, 0.875), "more points leave it where it is"
        plot.point_at(0.9)
        assert plot.options.cursor == 1.0, "a click goes to the nearest point"
        plot.zoom(-1)
        assert plot.show_all() and plot.options.view is None and not plot.show_all()
        await until(lambda: "at 1" not in plot.text)
