"""The card that starts a search, and the search on Runs with the key that stops it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from textual.widgets import Input, Static

from tests.ui.helpers import said, screen_text, until
from tests.ui.sample_runs import make_run
from tests.ui.views.test_search import result
from tui_lab.core.files import FileLock
from tui_lab.core.records import to_json
from tui_lab.data import preflight
from tui_lab.evaluation import search_store
from tui_lab.evaluation.search_settings import SearchSettings
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import stages
from tui_lab.runs.queue import sweep
from tui_lab.runs.searches import LOCK, RESULT, look, root
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.memory_fit import MemoryFit
from tui_lab.ui.screens.runs import RunsPane
from tui_lab.ui.screens.search import SearchCard
from tui_lab.ui.screens.setup import SetupPane


async def test_the_card_checks_what_is_typed_and_starts_a_search(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[SearchSettings] = []

    def start(settings: SearchSettings, **_how: object) -> subprocess.Popen[bytes]:
        started.append(settings)
        return subprocess.Popen(["true"])

    monkeypatch.setattr(search_store, "start", start)
    app = LabApp(pane="setup")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, SetupPane) and app.screen.is_ready)
        await pilot.press("percent_sign")
        await until(lambda: isinstance(app.screen, SearchCard) and "30:00" in screen_text(app))
        keep, budget = app.screen.query(Input)
        keep.value, budget.value = "95", "soon"
        await until(lambda: "--budget is a time such as 40min" in screen_text(app))
        await pilot.press("enter", "enter")
        assert isinstance(app.screen, SearchCard) and budget.has_focus, "a budget that is none starts nothing"
        budget.value = "40min"
        await pilot.press("enter")
        await until(lambda: bool(started))
        await until(lambda: said(app, "has started"))
    assert (started[0].keep, started[0].budget_s, started[0].model) == (0.95, 2400.0, "pocket")
    assert started[0].recipe({"max_steps": 20}).data == started[0].data


async def test_a_search_takes_what_a_run_of_the_same_recipe_takes(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its GPU, large models where they are allowed, and the checks; the playground frees its GPU."""
    started: list[tuple[SearchSettings, object]] = []
    checked: list[Recipe] = []
    freed: list[None] = []

    def start(settings: SearchSettings, *, environment: object) -> subprocess.Popen[bytes]:
        started.append((settings, environment))
        return subprocess.Popen(["true"])

    monkeypatch.setattr(search_store, "start", start)
    monkeypatch.setattr(MemoryFit, "launch_environment", lambda _: {"CUDA_VISIBLE_DEVICES": "GPU-2"})
    monkeypatch.setattr(stages, "check", checked.append)
    monkeypatch.setattr(preflight, "check_rows", lambda *of: checked.append(of[0]))
    app = LabApp(pane="setup")
    monkeypatch.setattr(app.playground, "free_gpu", lambda: freed.append(None))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, SetupPane) and app.screen.is_ready)
        pane = app.screen
        assert isinstance(pane, SetupPane)
        pane.choose(pane.preset, {"allow_large": True})
        await pilot.press("percent_sign")
        await until(lambda: isinstance(app.screen, SearchCard))
        await pilot.press("enter", "enter")
        await until(lambda: bool(freed))
        recipe = pane.starter.valid_recipe("no")
    [(settings, environment)] = started
    assert environment == {"CUDA_VISIBLE_DEVICES": "GPU-2"} and checked == [recipe, settings.data]
    assert settings.recipe({"max_steps": 20}).allow_large


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_runs_shows_a_search_and_a_key_stops_it(
    runs_dir: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    sweep.write_place(run, sweep.SweepPlace("search-1", 1, 0, {"lora_r": 8}))
    place = root(runs_dir) / "search-1"
    place.mkdir(parents=True)
    (place / RESULT).write_text(to_json(result()))
    lock = FileLock.acquire(place / LOCK)
    assert lock is not None
    app = LabApp(pane="runs")
    with lock:
        async with app.run_test(size=size) as pilot:
            await until(lambda: isinstance(app.screen, RunsPane) and app.screen.is_ready)
            if size == (80, 24):
                await pilot.press("T")  # the last tab
            await until(lambda: "pilot 3: 20 steps" in screen_text(app))
            await until(lambda: "0.97 (0.92–1.02)" in screen_text(app), 8, screen_text(app))
            drawn: list[object] = []
            pane, shown = app.screen, app.screen.query_one("#sweep Static", Static)
            assert isinstance(pane, RunsPane)
            monkeypatch.setattr(shown, "update", drawn.append)
            pane._take_search(look(runs_dir, "search-1"))
            assert not drawn, "the same text is not drawn again, though NaN differs from NaN"
            (place / RESULT).write_text(to_json(result(progress="pilot 4: 60 steps")))
            pane._take_search(look(runs_dir, "search-1"))
            assert len(drawn) == 1 and "pilot 4: 60 steps" in str(drawn[0])
            await pilot.press("percent_sign")
            await until((place / search_store.STOP).exists)
            await until(lambda: said(app, "keeps the measured pilots"))
