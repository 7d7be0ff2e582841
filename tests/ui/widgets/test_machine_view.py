"""The memory part of Train over runs that tell of GPUs: drawn against the forecast, in words beside it, at
every size, and without waste."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from textual.widgets import Static

from tests.records import parse
from tests.ui.gpu_run import GIB, MACHINES, write
from tests.ui.helpers import screen_text, until
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock, create
from tui_lab.runs.schema import TelemetryEvent
from tui_lab.runs.state import RunState, Watcher
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.train import TrainPane
from tui_lab.ui.views.plot_draw import draw
from tui_lab.ui.views.plot_series import plain
from tui_lab.ui.views.run_plots import PLOTS, memory_series
from tui_lab.ui.widgets.machine_view import MemoryView
from tui_lab.ui.widgets.run_plots import RunPlot


@pytest.fixture
def run() -> Iterator[Run]:
    """A run that lives as long as the test."""
    made = create(Recipe(preset="minute"))
    lock = RunLock.take(made)
    yield made
    lock.release()


def state_of(run: Run, kind: str, **changes: Any) -> RunState:
    write(run, MACHINES[kind], **changes)
    return Watcher(run).read_all()


async def show_memory(app: LabApp, pilot: Any) -> None:
    """Opens the Memory tab; at a size with everything at once there is nothing to open."""
    await until(lambda: "40/60" in screen_text(app))
    assert isinstance(app.screen, TrainPane)
    if not app.screen.grid:
        await pilot.press("t", "t", "t")


# --------------------------------------------------------------------------------------------------
# the curves


def test_curves_of_a_gpu_and_the_forecast_under_them(run: Run) -> None:
    series = memory_series(state_of(run, "notebook"))
    assert [one.name for one in series] == ["forecast", "allocated", "reserved", "device"]
    forecast, allocated, _, device = series
    assert (list(forecast.xs), list(forecast.ys)) == ([0.0, 60.0], [float(int(7.4 * GIB))] * 2)
    assert allocated.last == pytest.approx(6.5 * GIB, rel=0.01)
    assert list(device.xs) == list(range(5, 41, 5)) and device.last == 15 * GIB  # telemetry's, by all
    assert len({one.style for one in series}) == 4  # told apart without colour


def test_curves_without_a_gpu_or_a_forecast(run: Run) -> None:
    [resident] = memory_series(state_of(run, "cpu", forecast=False))
    assert (resident.name, resident.last) == ("resident memory", 2.0 * GIB)
    assert memory_series(RunState()) == []


def test_only_the_forecast_is_drawn_before_the_first_step() -> None:
    state = RunState()
    state.apply(parse([{"kind": "forecast", "total": 5 * GIB}, {"kind": "plan", "total_steps": 10}]))
    [line] = memory_series(state)
    assert (line.name, line.style, list(line.xs)) == ("forecast", "dashed", [0.0, 10.0])


def test_a_loading_run_shows_its_memory() -> None:
    state = RunState()
    process = {"resident_bytes": GIB, "cpu_percent": 9.0}
    state.apply(parse([{"kind": "telemetry", "step": 0, "gpus": [], "process": process}]))
    assert [(one.name, one.last) for one in memory_series(state)] == [("resident memory", GIB)]


@pytest.mark.parametrize("marker", ["braille", "block", "ascii"])
def test_the_forecast_is_drawn_as_a_dashed_line(run: Run, marker: Any) -> None:
    options = PLOTS["memory"][0]
    series = memory_series(state_of(run, "notebook", steps=20))
    rows = draw(series, 78, 16, type(options)(unit="bytes", from_zero=True, marker=marker, x_high=60.0))
    dash = "-" if marker == "ascii" else "╌"
    [line] = [row for row in rows[1:-2] if any(dash in text and role == "forecast" for text, role in row)]
    # beyond the newest step nothing hides it
    assert sum(text.count(dash) for text, role in line if role == "forecast") > 25
    assert plain(rows).count("forecast") == 1


# --------------------------------------------------------------------------------------------------
# the part on the screen


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
@pytest.mark.parametrize("kind", list(MACHINES))
async def test_every_kind_of_machine_fits_every_size(run: Run, kind: str, size: tuple[int, int]) -> None:
    write(run, MACHINES[kind])
    app = LabApp(run_id=run.id)
    wanted = {
        "notebook": ["other processes hold 6 GiB", "slowed down by power limit"],
        "two": ["GPU 0 other processes hold 6 GiB", "GPU 1 other processes hold 5.5 GiB"],
        "container": ["others' share unknown", "97% busy"],
        "slice": ["a slice"],
        "silent": ["others' share unknown"],
        "cpu": ["no GPU: resident memory 2 GiB"],
    }[kind]
    async with app.run_test(size=size) as pilot:
        await show_memory(app, pilot)
        await until(lambda: all(words in screen_text(app) for words in wanted), what=f"{kind}: {wanted}")
        part = app.screen.query_one(MemoryView)
        words = part.query_one(Static)
        await until(lambda: part.query_one(RunPlot).builds > 0)
        assert part.query_one(RunPlot).size.height >= 5
        assert words.region.bottom <= part.region.bottom and words.size.height <= 4
        assert "╌" in screen_text(app)  # the forecast
        await until(lambda: words.size.height == len(part._drawn), what="no line is wrapped")


async def test_lines_appear_with_the_first_record_and_show_the_newest(run: Run) -> None:
    events = write(run, MACHINES["notebook"], steps=4)  # the first record comes at step 5
    app = LabApp(run_id=run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "4/60" in screen_text(app))
        await pilot.press("t", "t", "t")
        part = app.screen.query_one(MemoryView)
        await until(lambda: part.size.area)
        assert not part.query_one(Static).display
        tell(events, "heat")
        await until(lambda: "slowed down by heat" in screen_text(app))
        tell(events, "power brake")
        await until(lambda: "slowed down by power brake" in screen_text(app))
        await pilot.resize_terminal(120, 40)
        await until(lambda: "slowed down by power brake" in screen_text(app))


def tell(events: EventWriter, reason: str) -> None:
    gpu = {"uuid": "GPU-1", "index": 0, "name": "a card", "throttle": [reason], "used_bytes": GIB}
    events.write(TelemetryEvent(step=4, gpus=[gpu], process={}, energy_j=None, seconds=5.0))


async def test_another_run_shows_its_lines(run: Run) -> None:
    write(run, MACHINES["notebook"])
    other = create(Recipe(preset="minute"))
    write(other, MACHINES["cpu"])
    app = LabApp(run_id=run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await show_memory(app, pilot)
        await until(lambda: "other processes hold" in screen_text(app))
        app.run_id = other.id
        app.screen._open(other.id)  # type: ignore[attr-defined]
        await until(lambda: "no GPU; at the end: resident memory" in screen_text(app))
        assert "other processes hold" not in screen_text(app)
