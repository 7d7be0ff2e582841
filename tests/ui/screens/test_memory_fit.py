"""Memory on the Setup pane, driven by keys: the bar follows every change, one key makes a recipe fit and
takes that back, the exact probe is counted and dropped, and a run that does not fit is asked about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.records import probe_answer
from tests.ui.conftest import Child
from tests.ui.helpers import said, screen_text, until
from tui_lab.core import job_client
from tui_lab.forecast import remedies
from tui_lab.forecast.jobs import CalibrationRequest, MemoryProbeAnswer, MemoryProbeRequest
from tui_lab.hardware import memory_budget
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.runs import launch
from tui_lab.runs.folder import Run
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.setup import SetupPane
from tui_lab.ui.views.forecast import ForecastView
from tui_lab.ui.widgets.dialogs import RemedyDialog

MIB, GIB = 1 << 20, 1 << 30
CPU = DeviceFacts("cpu", "the CPU", 16 * GIB, False, 2)
L4 = DeviceFacts("cuda", "NVIDIA L4", 24 * GIB, True, 8)


def ram(free_bytes: int) -> MemoryBudget:
    return MemoryBudget(CPU, free_bytes, "main memory", "free now in")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Run, dict[str, Any]]]:
    """Runs that were launched, with what launching was told."""
    runs: list[tuple[Run, dict[str, Any]]] = []

    def start(run: Run, **options: Any) -> Any:
        runs.append((run, options))
        return Child()

    monkeypatch.setattr(launch, "start", start)
    return runs


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets where a run could go."""

    def put(*rooms: MemoryBudget) -> None:
        monkeypatch.setattr(memory_budget, "detect", lambda: list(rooms))

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    put(ram(12 * GIB))
    return put


@pytest.fixture(autouse=True)
def no_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any, **__: Any) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(job_client, "run_job", never)


def pane(app: LabApp) -> SetupPane:
    found = next(screen for screen in app.screen_stack if isinstance(screen, SetupPane))
    return found


def shown(app: LabApp) -> ForecastView:
    found = pane(app).summary_view.forecast
    assert found is not None
    return found


def words(app: LabApp) -> str:
    """What the panel of the summary shows, or a modal over it."""
    if not isinstance(app.screen, SetupPane):
        return " ".join(screen_text(app).split())
    area = pane(app).summary_view.region
    rows = screen_text(app).splitlines()[area.y : area.bottom]
    return " ".join(" ".join(row[area.x : area.right].strip("│ ") for row in rows).split())


async def ready(app: LabApp) -> None:
    await until(lambda: pane(app).is_filled and pane(app).summary_view.forecast is not None)
    await until(lambda: "▶" in screen_text(app) or "✗" in screen_text(app), what=screen_text(app))


async def worked_out(app: LabApp) -> tuple[remedies.Remedy, ...]:
    await until(lambda: shown(app).remedies is not None)
    found = shown(app).remedies
    assert found is not None
    return found


async def test_the_bar_follows_every_change_at_once(places: Callable[..., None]) -> None:
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        before = shown(app).estimate.memory
        assert before is not None
        await until(lambda: "✓ fits" in words(app) and "main memory" in words(app), what=words(app))
        pane(app).form.set_value("max_length", 512)
        await pilot.pause()
        after = shown(app).estimate.memory
        assert after is not None and after.total_bytes > before.total_bytes
        pane(app).form.set_value("method", "full")  # refused beside nf4: there is nothing to forecast
        await pilot.pause()
        assert pane(app).summary_view.forecast is None


async def test_one_key_makes_it_fit_and_takes_it_back(places: Callable[..., None]) -> None:
    places(ram(1500 * MIB))
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        best = (await worked_out(app))[0]
        assert shown(app).estimate.verdict == remedies.OVER
        await until(lambda: "✗ does not fit" in words(app), what=words(app))
        await until(lambda: f"f makes it fit: {best.text}" in words(app), what=words(app))
        before = dict(pane(app).values)
        await pilot.press("f")
        await until(lambda: shown(app).estimate.verdict == remedies.FITS)
        assert {key: pane(app).values[key] for key in best.changes} == best.changes
        assert (
            pane(app).form.values["per_device_train_batch_size"]
            == best.changes["per_device_train_batch_size"]
        )
        assert "--set per_device_train_batch_size=" in pane(app).summary.command  # type: ignore[union-attr]
        await until(lambda: "f undoes it" in words(app), what=words(app))
        await pilot.press("f")
        await until(lambda: shown(app).estimate.verdict == remedies.OVER)
        assert pane(app).values == before


async def test_every_way_has_a_key(places: Callable[..., None]) -> None:
    places(ram(1500 * MIB))
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app)
        ways = await worked_out(app)
        assert len(ways) >= 2
        await pilot.press("F")
        await until(lambda: isinstance(app.screen, RemedyDialog))
        await until(lambda: "[2]" in words(app) and "exact" in words(app))
        await pilot.press("2")
        await until(lambda: not isinstance(app.screen, RemedyDialog))
        assert {key: pane(app).values[key] for key in ways[1].changes} == ways[1].changes


async def test_a_digit_takes_what_was_listed_whatever_is_worked_out_meanwhile(
    places: Callable[..., None],
) -> None:
    places(ram(1500 * MIB))
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app)
        ways = await worked_out(app)
        await pilot.press("F")
        await until(lambda: isinstance(app.screen, RemedyDialog))
        pane(app).memory._remedies = None  # the preview's figures arrive: it is worked out anew
        await pilot.press("2")
        await until(lambda: not isinstance(app.screen, RemedyDialog))
        assert {key: pane(app).values[key] for key in ways[1].changes} == ways[1].changes


async def test_a_run_that_does_not_fit_is_asked_about_and_never_refused(
    places: Callable[..., None], started: list[tuple[Run, dict[str, Any]]]
) -> None:
    places(ram(1500 * MIB))
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app)
        await worked_out(app)
        await _asked(app, pilot)
        await pilot.press("escape")
        await until(lambda: app.screen is pane(app))
        assert not started
        await _asked(app, pilot)
        await pilot.press("s")
        await until(lambda: len(started) == 1)
        assert started[0][0].recipe().per_device_train_batch_size == 16


async def _asked(app: LabApp, pilot: Pilot[Any]) -> None:
    await pilot.press("s")
    await until(lambda: isinstance(app.screen, RemedyDialog) and "start anyway" in words(app))


async def test_the_remedy_that_the_question_offers_is_applied_and_starts_at_the_next_press(
    places: Callable[..., None], started: list[tuple[Run, dict[str, Any]]]
) -> None:
    places(ram(1500 * MIB))
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app)
        await worked_out(app)
        await _asked(app, pilot)
        await pilot.press("1")
        await until(lambda: shown(app).estimate.verdict == remedies.FITS)
        assert not started
        await pilot.press("s")
        await until(lambda: len(started) == 1)
        recipe = started[0][0].recipe()
        assert recipe.per_device_train_batch_size < 16 and recipe.effective_batch_size == 16


async def test_the_exact_count_is_shown_and_dropped_with_a_change(
    places: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, MemoryProbeRequest]] = []

    async def job(
        module: str, request: MemoryProbeRequest, progress: Any, *, answer: object
    ) -> MemoryProbeAnswer:
        asked.append((module, request))
        progress("counting what two steps hold")
        await asyncio.sleep(0)
        return probe_answer(3 * GIB, 2.5, "loss")

    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        monkeypatch.setattr(job_client, "run_job", job)
        await pilot.press("K")
        await until(lambda: "counted exactly" in words(app), what=words(app))
        [(module, request)] = asked
        assert module == "tui_lab.training.memory_probe" and request.device.name == "the CPU"
        assert request.recipe == pane(app).summary.recipe.model_dump()  # type: ignore[union-attr]
        memory = shown(app).estimate.memory
        assert memory is not None
        assert shown(app).estimate.needed_bytes == 3 * GIB + memory.part("context")
        pane(app).form.set_value("lora_r", 64)
        await until(lambda: "counted exactly" not in words(app))


async def test_measuring_the_speed_asks_the_job_and_says_what_it_found(
    places: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[CalibrationRequest, dict[str, str]]] = []
    places(
        MemoryBudget(L4, 4 * GIB, "GPU 0: NVIDIA L4", "free now on", "GPU-aa"),
        MemoryBudget(L4, 20 * GIB, "GPU 1: NVIDIA L4", "free now on", "GPU-bb"),
    )

    async def job(
        module: str, request: CalibrationRequest, progress: Any, environment: Any, *, answer: object
    ) -> SimpleNamespace:
        assert module == "tui_lab.training.calibrate"
        asked.append((request, environment))
        progress("measuring steps", 3, 10)
        return SimpleNamespace(text="measured on this machine: 900 tok/s")

    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        monkeypatch.setattr(job_client, "run_job", job)
        await pilot.press("k")
        await until(lambda: said(app, "900 tok/s"))
        [(request, environment)] = asked
        assert request.values["preset"] == "minute"
        assert environment == {"CUDA_VISIBLE_DEVICES": "GPU-bb"}  # the one that the forecast is about


async def test_the_freest_gpu_is_taken_and_another_by_key_and_the_run_sees_it(
    places: Callable[..., None], started: list[tuple[Run, dict[str, Any]]]
) -> None:
    places(
        MemoryBudget(L4, 4 * GIB, "GPU 0: NVIDIA L4", "free now on", "GPU-aa"),
        MemoryBudget(L4, 20 * GIB, "GPU 1: NVIDIA L4", "free now on", "GPU-bb"),
    )
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        await until(lambda: "20 GiB free now on GPU 1: NVIDIA L4" in words(app), what=words(app))
        await until(lambda: "g takes another GPU of 2" in words(app))
        await pilot.press("g")
        await until(lambda: "4 GiB free now on GPU 0: NVIDIA L4" in words(app))
        assert app.playground_client.environment == {"CUDA_VISIBLE_DEVICES": "GPU-aa"}
        pane(app).memory._read_memory()  # the freest is another one: the choice stays
        await pilot.pause(0.2)
        assert shown(app).estimate.budget.uuid == "GPU-aa"
        await pilot.press("s")
        await until(lambda: len(started) == 1)
        assert started[0][1] == {"environment": {"CUDA_VISIBLE_DEVICES": "GPU-aa"}}


async def test_free_memory_is_looked_at_again(places: Callable[..., None]) -> None:
    app = LabApp()
    async with app.run_test(size=(120, 40)):
        await ready(app)
        places(ram(1500 * MIB))
        pane(app).memory._read_memory()
        await until(lambda: "does not fit" in words(app))


async def test_without_another_gpu_the_key_says_so(places: Callable[..., None]) -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app)
        await pilot.press("g")
        await until(lambda: said(app, "can only be on main memory"))


async def test_a_gpu_that_torch_cannot_use_is_said_and_no_run_starts_on_it(
    places: Callable[..., None], started: list[tuple[Run, dict[str, Any]]]
) -> None:
    problem = "the NVIDIA driver 550.54 supports CUDA up to 12.4"
    places(MemoryBudget(L4, 20 * GIB, "NVIDIA L4", "free now on", "GPU-aa", problem))
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        await until(lambda: "No run can start here" in words(app), what=words(app))
        await pilot.press("s")
        await until(lambda: any(problem in note.message for note in app._notifications))
        assert not started and pane(app).memory.device == L4
        pane(app).form.set_value("device", "cpu")
        await until(lambda: "No run can start here" not in words(app))
        assert pane(app).memory.device != L4 and not pane(app).memory.refusal()
