"""The judge on Retention: asked with the user's votes, the sentence and the pairs, stopped, and not set."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.ui import sample_runs as made
from tests.ui.helpers import said, screen_text, until
from tui_lab.core.errors import LabError
from tui_lab.core.records import to_json
from tui_lab.evaluation import judging
from tui_lab.evaluation.judging import Judged, JudgeRequest
from tui_lab.playground.votes import FILE_NAME
from tui_lab.retention.stored import FOLDER, JUDGE, JudgedPair, JudgeResult
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.item_view import ItemView
from tui_lab.ui.screens.judged import JudgedPairs
from tui_lab.ui.screens.retention import RetentionPane


def result_of(request: JudgeRequest) -> JudgeResult:
    pairs = [JudgedPair(("How far?",), ("near",), ("quite far",), 1.0, "advice")] * 6
    pairs += [JudgedPair(("Who?",), ("a man",), ("she",), 0.0, "writing")]
    letters = {1.0: ("B", "A"), 0.0: ("A", "B")}
    return judging.result("rule", request, [Judged(each, letters[each.win or 0.0]) for each in pairs], [])


class Jobs:
    """Stands in for the job: keeps what was asked."""

    def __init__(self) -> None:
        self.requests: list[JudgeRequest] = []
        self.error, self.waits = "", False

    async def run_job(self, module: str, request: JudgeRequest, progress: Any, **_: Any) -> JudgeResult:
        assert module == "tui_lab.evaluation.judge"
        self.requests.append(request)
        progress("judging prompts", 3, 48)
        if self.waits:
            await asyncio.Event().wait()
        if self.error:
            raise LabError(self.error)
        return result_of(request)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    monkeypatch.setenv("TUI_LAB_JUDGE", "some-judge")
    found = Jobs()
    monkeypatch.setattr("tui_lab.core.job_client.run_job", found.run_job)
    return found


async def ready(app: LabApp) -> None:
    await until(lambda: isinstance(app.screen, RetentionPane) and app.screen.is_ready)


async def test_the_judge_is_asked_with_the_votes_and_the_pairs_are_paged_through(
    own_folders: Path, jobs: Jobs
) -> None:
    run = made.make_run()
    vote = {"kind": "vote", "session": "s", "prompt": 0, "text": "question", "left": 0, "choice": "left",
            "winner": 0, "answers": [{"text": "tuned"}, {"text": "base"}]}  # fmt: skip
    session = {"kind": "session", "session": "s", "key": "k", "seed": 1, "places": ["adapter", ""]}
    (run.path / FILE_NAME).write_text(f"{json.dumps(session)}\n{json.dumps(vote)}\n")
    app = LabApp(pane="retention")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        await pilot.press("J")
        await until(lambda: "the tuned model wins 0.86" in screen_text(app))
        [request] = jobs.requests
        assert (request.judge, request.target.run) == ("some-judge", str(run.path))
        assert [(each.base, each.tuned, each.win) for each in request.votes] == [("base", "tuned", 1.0)]
        shown = screen_text(app)
        assert "Judges are biased" in shown and "advice" in shown and "How far?" in shown
        await pilot.press("end", "enter")
        await until(lambda: isinstance(app.screen, ItemView))
        await until(lambda: "The judge prefers: base" in screen_text(app) and "a man" in screen_text(app))
        await pilot.press("escape", "escape")
        await until(lambda: isinstance(app.screen, RetentionPane))


async def test_what_was_judged_before_is_shown_and_a_judgement_can_be_stopped(
    own_folders: Path, jobs: Jobs
) -> None:
    run = made.make_run()
    found = result_of(JudgeRequest(target=judging.EvaluationRequest()))
    (run.path / FOLDER).mkdir(exist_ok=True)
    (run.path / FOLDER / JUDGE).write_text(to_json(found))
    jobs.waits = True
    app = LabApp(pane="retention")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        await pilot.press("J")
        await until(lambda: isinstance(app.screen, JudgedPairs) and "wins 0.86" in screen_text(app))
        assert not jobs.requests
        await pilot.press("k")
        await until(lambda: "judging prompts: 3 of 48" in screen_text(app))
        await pilot.press("escape")
        await until(lambda: "wins 0.86" in screen_text(app))
        jobs.waits, jobs.error = False, "the judge [b]x[/b] cannot be asked"
        await pilot.press("k")
        await until(lambda: said(app, "the judge [b]x[/b] cannot be asked"))


async def test_without_a_judge_the_dialog_says_which_setting_names_one(
    own_folders: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUI_LAB_JUDGE")
    made.make_run()
    app = LabApp(pane="retention")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        await pilot.press("J")
        await until(lambda: "No judge is set: , sets judge" in screen_text(app))
        assert not jobs.requests
