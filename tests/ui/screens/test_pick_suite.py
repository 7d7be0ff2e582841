"""Which suite to measure: a scored one, and a file whose reader is recognised or chosen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.ui import sample_runs as made
from tests.ui.helpers import said, screen_text, until
from tests.ui.screens.test_retention import Jobs, ready
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens import pick_suite
from tui_lab.ui.screens.pick_suite import SuiteChoice
from tui_lab.ui.widgets.dialogs import AskText, Pick


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    found = Jobs()
    monkeypatch.setattr("tui_lab.core.job_client.run_job", found.run_job)
    return found


def abuse(folder: Path) -> Path:
    path = folder / "abuse.jsonl"
    rows = [{"id": n, "tweet": f"message {n}", "abuse": label} for n, label in enumerate(("EXP", "NOTABU"))]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


async def test_a_file_is_read_as_the_benchmark_that_is_recognised(own_folders: Path, jobs: Jobs) -> None:
    made.make_run()
    path = abuse(own_folders)
    app = LabApp(pane="retention")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        await pilot.press("k")
        await until(lambda: isinstance(app.screen, Pick) and "everyday" in screen_text(app))
        await pilot.press("end")
        assert "file…" in screen_text(app)
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, AskText))
        await pilot.press(*str(path), "enter")
        await until(lambda: "Read abuse.jsonl as" in screen_text(app))
        assert "recognised: AbuseEval, 2 items, acc" in screen_text(app)
        await pilot.press("enter")
        await until(lambda: bool(jobs.requests))
        assert jobs.requests[0][1]["suites"] == [str(path)]


async def test_answers_are_scored_by_the_judge_of_the_settings(
    own_folders: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUI_LAB_JUDGE", "endpoint")
    made.make_run()
    app = LabApp(pane="retention")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        await pilot.press("k")
        await until(lambda: isinstance(app.screen, Pick))
        await pilot.press("slash", *"refusals@judge", "enter")
        await until(lambda: bool(jobs.requests) or said(app, "never"))
        request = jobs.requests[0][1]
        assert (request["suites"], request["judge"]) == (["refusals"], "endpoint")


def test_readers_of_files(tmp_path: Path) -> None:
    path = abuse(tmp_path)
    first, *others = pick_suite._readers(str(path))
    assert first == (SuiteChoice(str(path), "abuseeval"), "recognised: AbuseEval, 2 items, acc")
    assert SuiteChoice(f"toxigen:{path}", "toxigen") in [choice for choice, _ in others]
    (folder := tmp_path / "things").mkdir()
    assert pick_suite._readers(str(folder))[0][0].suite == f"mmlu:{folder}"
    own = tmp_path / "own.jsonl"
    own.write_text('{"question": "Which flies?", "choices": ["owl", "cow"]}\n')
    choice, about = pick_suite._readers(str(own))[0]
    assert choice.suite == str(own) and "there is no answer" in about
