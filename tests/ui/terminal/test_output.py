"""The line to the terminal: what the lab sends leaves on a terminal exactly what Textual means to be there,
in few bytes; a slow link draws less often; what is behind another pane draws nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from textual._compositor import CompositorUpdate
from textual.geometry import Size
from textual.widgets import Input

from tests.screen import Screen
from tests.ui.helpers import screen_text, until
from tests.ui.screens.test_train import FakeRun
from tui_lab.playground.messages import GenerateRequest, Tokens
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.playground import PlaygroundPane
from tui_lab.ui.screens.train import TrainPane
from tui_lab.ui.terminal import output
from tui_lab.ui.terminal.output import FIGURES, PLOT, RUN, Pace, Paced
from tui_lab.ui.widgets.feed import Feed
from tui_lab.ui.widgets.lane_view import LaneView
from tui_lab.ui.widgets.plot import Plot
from tui_lab.ui.widgets.stream_text import StreamText


class Watched(LabApp):
    """The lab with a terminal at the end of its line; tests have none otherwise."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.terminal = Screen(80, 24)
        self.sent_bytes = self.textual_bytes = 0

    def _display(self, screen: Any, renderable: Any) -> None:
        if isinstance(renderable, CompositorUpdate) and not self._batch_count:
            meant = renderable.render_segments(self.console)
            sent = self.frame.diff(meant)
            self.textual_bytes += len(meant.encode())
            self.sent_bytes += len(sent.encode())
            self.terminal.feed(sent)
        super()._display(screen, renderable)

    def of_another_size(self, columns: int, rows: int) -> None:
        """As a terminal that was resized: what stood there is lost, or moved."""
        self.terminal = Screen(columns, rows)
        self.terminal.feed("garbage " * 100)

    def meant(self) -> Screen:
        """A terminal that was sent everything that Textual means to be on it."""
        terminal = Screen(*self.size)
        terminal.feed(self.screen._compositor.render_full_update().render_segments(self.console))
        return terminal


@pytest.fixture
def fake() -> Iterator[FakeRun]:
    run = FakeRun()
    yield run
    run.die()


async def agree(app: Watched, pilot: Any, what: str) -> None:
    """The terminal shows what it should, letters and styles."""
    await pilot.pause()
    await until(lambda: app.terminal.cells == app.meant().cells, 5.0, what)
    assert not app.terminal.unknown


async def test_the_terminal_shows_the_screen_after_every_step(fake: FakeRun) -> None:
    fake.begin()
    app = Watched(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "training" in screen_text(app))
        await agree(app, pilot, "the first pane")
        for step in range(1, 4):
            fake.step(step, 8.0 / step)
        await until(lambda: "3/20 steps" in screen_text(app))
        await agree(app, pilot, "steps")
        await pilot.press("f2")
        await until(lambda: "starts the run" in screen_text(app))
        await agree(app, pilot, "another pane")
        app.theme = "lab-light"
        await agree(app, pilot, "another theme")
        app.notify("a message over the pane")
        await agree(app, pilot, "a message")
        app.of_another_size(110, 34)
        await pilot.resize_terminal(110, 34)
        await agree(app, pilot, "another size")
        await pilot.press("f1")
        await agree(app, pilot, "the help")
        await pilot.press("escape", "f3")
        await agree(app, pilot, "back")


async def test_the_screen_is_sent_again_after_another_program_wrote() -> None:
    app = Watched(pane="retention")
    async with app.run_test(size=(80, 24)) as pilot:
        await agree(app, pilot, "the first pane")
        app.terminal.feed("\x1b[5;5Ha broadcast message from somebody\r\n\x1b[12;1Hgoing down now")
        assert app.terminal.cells != app.meant().cells
        await pilot.press("ctrl+l")
        await agree(app, pilot, "anew")
        app.terminal.feed("\x1b[2Ja shell prompt $ fg")
        app.app_resume_signal.publish(app)
        await agree(app, pilot, "after a suspension")


async def test_twenty_steps_cost_a_few_kilobytes(fake: FakeRun) -> None:
    fake.begin()
    app = Watched(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "training" in screen_text(app))
        assert isinstance(app.screen, TrainPane)
        await agree(app, pilot, "the first frame")
        before, plain = app.sent_bytes, app.textual_bytes
        for step in range(1, 20):
            fake.step(step, 8.0 / step)
            app.screen._poll()
            await pilot.pause()
        sent, plain = app.sent_bytes - before, app.textual_bytes - plain
        assert "19/20 steps" in app.terminal.text, "what was counted was shown"
        assert sent < 19 * 500, f"{sent} bytes"
        assert sent * 3 < plain, f"{sent} bytes where Textual alone writes {plain}"


async def test_a_pane_behind_another_neither_draws_nor_reads_the_whole_log(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.begin()
    fake.step(1, 4.0)
    app = Watched(run_id=fake.run.id)
    async with app.run_test(size=(110, 34)) as pilot:
        await until(lambda: "1/20 steps" in screen_text(app))
        tune = app.screen
        assert isinstance(tune, TrainPane)
        await pilot.press("f5")
        await until(lambda: app.pane == "retention")
        await pilot.pause()
        builds = {plot: plot.builds for plot in tune.query(Plot)}
        done: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(TrainPane, "_draw_state", lambda self: done.append("state"))
            patch.setattr(TrainPane, "draw_run", lambda self, key, state: done.append("run"))
            patch.setattr(Feed, "write", lambda self, *a, **k: done.append("feed"))
            for step in range(2, 9):
                fake.step(step, 4.0 / step)
                tune._poll()
                await pilot.pause()
            assert not done
            assert {plot: plot.builds for plot in tune.query(Plot)} == builds
            assert "8/20" in screen_text(app), "the header tells how the run stands"
        await pilot.press("f3")
        await until(lambda: "8/20 steps" in screen_text(app) and "loss 0.5" in screen_text(app))


async def test_nothing_is_sent_while_nothing_happens(fake: FakeRun) -> None:
    fake.begin()
    fake.step(1, 4.0)
    fake.end()
    app = Watched(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "finished" in screen_text(app))
        await agree(app, pilot, "the ended run")
        before = app.sent_bytes
        for _ in range(5):
            assert isinstance(app.screen, TrainPane)
            app.screen._poll()
            await pilot.pause()
        assert app.sent_bytes == before


# --------------------------------------------------------------------------------------------------
# a slow link


class Clock:
    """A widget's timers, by hand."""

    def __init__(self, slow: bool) -> None:
        self.app = type("App", (), {"slow_link": slow})()
        self.time_s = 100.0
        self.waits: list[tuple[float, Any]] = []

    def set_timer(self, wait_s: float, callback: Any) -> Clock:
        self.waits.append((wait_s, callback))
        return self

    def stop(self) -> None:
        self.waits.clear()


@pytest.mark.parametrize(("slow", "wait_s"), [(False, 0.5), (True, 2.0)])
def test_bursts_become_one_drawing_at_the_pace_of_the_link(
    slow: bool, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(slow)
    monkeypatch.setattr(output.time, "monotonic", lambda: clock.time_s)
    drawn: list[float] = []
    paced = Paced(clock, Pace(0.5, 2.0), lambda: drawn.append(clock.time_s))  # type: ignore[arg-type]
    paced.want()
    assert drawn == [100.0], "the first comes at once"
    clock.time_s += 0.1
    for _ in range(5):
        paced.want()
    assert drawn == [100.0] and [round(wait, 3) for wait, _ in clock.waits] == [wait_s - 0.1]
    clock.time_s += wait_s
    clock.waits[0][1]()
    assert len(drawn) == 2 and not clock.waits
    clock.time_s += wait_s
    paced.want()
    assert len(drawn) == 3


async def test_a_slow_link_draws_less_often_and_is_named(fake: FakeRun) -> None:
    fake.begin()
    app = Watched(run_id=fake.run.id)
    async with app.run_test(size=(110, 34)) as pilot:
        await until(lambda: "training" in screen_text(app))
        tune = app.screen
        assert isinstance(tune, TrainPane) and "slow link" not in screen_text(app)
        tune._poll()
        assert tune._timer is not None and tune._timer._interval == RUN.usual_s
        await pilot.press("f12")
        await until(lambda: "slow link" in screen_text(app).splitlines()[0])
        assert app.animation_level == "none"
        tune._poll()
        assert tune._timer is not None and tune._timer._interval == RUN.slow_link_s
        assert PLOT.of(app) == PLOT.slow_link_s >= 2
        assert FIGURES.of(app) == FIGURES.slow_link_s
        await pilot.press("f6", "slash")
        await until(lambda: isinstance(app.focused, Input))
        assert app.focused is not None and not app.focused.cursor_blink  # type: ignore[attr-defined]
        await pilot.press("f12")
        assert app.focused.cursor_blink and app.animation_level == "full"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("slow", "least", "most"), [(False, 15, 31), (True, 3, 5)])
async def test_a_slow_link_scrolls_by_half_a_page(slow: bool, least: int, most: int) -> None:
    from textual.app import App, ComposeResult

    class StreamApp(App[None]):
        slow_link = slow

        def compose(self) -> ComposeResult:
            yield StreamText("hint")

    app = StreamApp()
    async with app.run_test(size=(40, 20)) as pilot:
        stream = app.query_one(StreamText)
        stream.grows = True
        offsets = set()
        for number in range(50):
            stream.append(f"line {number}\n")
            stream.catch_up()
            await pilot.pause()
            offsets.add(stream.scroll_offset.y)
            assert f"line {number}" in screen_text(app)
        assert least <= len(offsets) - 1 <= most
        stream.grows = False
        await pilot.pause()
        assert stream.virtual_size == Size(stream.virtual_size.width, 51), "in the end no blank rows"
        assert "line 49" in screen_text(app)


async def test_a_lane_counts_at_the_pace_of_figures_and_not_behind_another_pane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Watched(pane="playground")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, PlaygroundPane))
        view = next(view for view in app.screen.query(LaneView) if view.display)
        view.begin(GenerateRequest("Hello", ("greedy",)))
        drawn: list[int] = []
        usual = LaneView._draw_figures
        monkeypatch.setattr(LaneView, "_draw_figures", lambda self: (drawn.append(self.count), usual(self)))
        view._paced_figures._draw = view._draw_figures
        for count in range(1, 20):
            view.handle(Tokens(view.number - 1, "word ", count))
        assert drawn == [1], "the rest comes together, in half a second"
        await pilot.press("f5")
        await until(lambda: app.pane == "retention")
        drawn.clear()
        view.handle(Tokens(view.number - 1, "unseen", 20))
        assert not drawn and "unseen" not in "".join(view._text._lines)
        await pilot.press("f4")
        await until(lambda: "unseen" in screen_text(app), what="what came meanwhile is shown")
