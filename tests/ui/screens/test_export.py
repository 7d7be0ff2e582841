"""Export from the lab: kinds are offered for the run that is shown, the job is asked for what was chosen, and
what it did, or refused, is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ui import sample_runs as made
from tests.ui.helpers import said, screen_text, until
from tui_lab.core import records
from tui_lab.core.errors import LabError
from tui_lab.export import records as exports
from tui_lab.recipes.recipe import build
from tui_lab.runs.folder import RunLock, create
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.export import ExportScreen
from tui_lab.ui.screens.retention import RetentionPane
from tui_lab.ui.widgets.dialogs import AskText, Confirm, Pick

ANSWER = {
    "title": "merged model (float32) of x", "path": "there", "files": {"a": {"bytes": 2048, "sha256": ""}},
    "checks": [{"name": "alone", "passed": True, "text": "it is \x1b[2J[bold]the run"}], "notes": ["a gap"],
    "use": ["load it"],
}  # fmt: skip


class Job:
    """Stands in for the job: keeps what was asked, answers what the test says."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, exports.ExportRequest]] = []
        self.answer: Callable[[], Any] = lambda: ANSWER
        self.waits = False

    async def run(self, module: str, request: exports.ExportRequest, progress: Any, *, answer: Any) -> Any:
        self.requests.append((module, request))
        progress("merging", None, None)
        if self.waits:
            await asyncio.Event().wait()
        return records.from_plain(self.answer(), answer, "the answer")


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    found = Job()
    monkeypatch.setattr("tui_lab.core.job_client.run_job", found.run)
    return found


async def test_the_type_of_a_gguf_file_is_chosen_by_a_key(job: Job, own_folders: Path) -> None:
    run = made.make_run()
    app = LabApp(pane="retention")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, RetentionPane) and app.screen.report is not None)
        await pilot.press("E")
        await until(lambda: isinstance(app.screen, ExportScreen))
        await pilot.pause()
        await pilot.press("T", "T", "end", "enter")
        await until(lambda: bool(job.requests))
        [(_, request)] = job.requests
        assert request == exports.ExportRequest(run=str(run.path), kind="gguf", gguf_type="q8_0")
        assert "[q8_0]" in screen_text(app)


async def test_a_run_is_exported_from_keep(job: Job, own_folders: Path) -> None:
    run = made.make_run()
    app = LabApp(pane="retention")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, RetentionPane) and app.screen.report is not None)
        await pilot.press("E")
        await until(lambda: isinstance(app.screen, ExportScreen))
        await pilot.pause()
        shown = screen_text(app)
        assert all(kind in shown for kind in exports.KINDS)
        await pilot.press("d", "b", "down", "enter")
        await until(lambda: "load it" in screen_text(app))
        [(module, request)] = job.requests
        assert module == exports.JOB_MODULE
        assert request == exports.ExportRequest(
            run=str(run.path), kind="merged", dtype="float32", with_base=True
        )
        shown = screen_text(app)
        assert "\x1b" not in shown and "[bold]the run" in shown and "note: a gap" in shown

        lines = [line.strip(" │") for line in shown.splitlines()]
        order = [
            next(n for n, line in enumerate(lines) if line.startswith(start)) for start in ("note", "checked")
        ]
        assert order == sorted(order), "what matters comes before the checks that passed"
        await pilot.press("c")
        await until(lambda: said(app, "there"))

        # an export that is there is replaced only when asked
        place = run.path / "exports" / "merged"
        place.mkdir(parents=True)
        (place / "export.json").write_text(json.dumps({}))
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await until(lambda: isinstance(app.screen, ExportScreen))
        assert len(job.requests) == 1

        def refuse() -> Any:
            raise LabError("the disk is full: free some space")

        job.answer = refuse
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(lambda: "the disk is full" in screen_text(app))
        assert job.requests[1][1].force is True

        # Escape ends what goes on, then leaves
        job.waits = True
        await pilot.press("up", "enter")
        await until(lambda: "adapter: merging" in screen_text(app))
        await pilot.press("escape")
        await until(lambda: "nothing was exported" in screen_text(app))
        await until(lambda: "Enter exports" in screen_text(app))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, RetentionPane))


async def test_the_recommended_strength_is_exported_to_a_folder_of_ones_own(
    job: Job, own_folders: Path, tmp_path: Path
) -> None:
    run = made.make_run()
    points = [
        {"strength": s, "acquisition": s, "retention": made.figure(1 - s / 2), "verdict": "amber"}
        for s in (0.0, 0.5, 1.0)
    ]
    recommended = {"strength": 0.5, "reason": "it keeps"}
    made.save(
        run.path / "retention" / "strength.json", {"v": 1, "points": points, "recommended": recommended}
    )
    app = LabApp(pane="retention")
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: isinstance(app.screen, RetentionPane) and app.screen.report is not None)
        await pilot.press("e")
        await until(lambda: isinstance(app.screen, ExportScreen))
        await until(
            lambda: "strength: 0.5" in screen_text(app), what="Retention proposes the recommended one"
        )
        await pilot.press("o")
        await until(lambda: isinstance(app.screen, AskText))
        await pilot.press(*str(tmp_path), "enter")
        await until(lambda: isinstance(app.screen, ExportScreen))
        await pilot.press("enter")
        await until(lambda: len(job.requests) == 1)
        target = tmp_path / f"{run.id}-adapter-strength-0.5"
        assert job.requests[0][1] == exports.ExportRequest(
            run=str(run.path), kind="adapter", strength=0.5, out=str(target)
        )
        await pilot.press("w")
        await until(lambda: isinstance(app.screen, Pick) and "0.5 ★" in screen_text(app))
        await pilot.press("down", "enter")
        await until(lambda: "1, as trained" in screen_text(app))


async def test_without_anything_to_export_it_says_why(job: Job, own_folders: Path) -> None:
    app = LabApp(pane="setup")
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        app.action_open("export")
        await until(lambda: said(app, "no run to export"))
        run = create(build({"model": "pocket"}))
        app.action_open("export")
        await until(lambda: said(app, "saved nothing yet"))
        lock = RunLock.take(run)
        app.action_open("export")
        await until(lambda: said(app, "in progress"))
        lock.release()
        assert not job.requests
