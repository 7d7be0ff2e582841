"""The dialog that measures whether to tune at all: what it asks the job, and what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ui import sample_runs as made
from tests.ui.helpers import said, screen_text, until
from tui_lab.core.errors import LabError
from tui_lab.evaluation.advice import AdviseRequest, Method, TuningAdvice, TuningVerdict
from tui_lab.recipes.recipe import build
from tui_lab.retention.statistics import Interval
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens import advise as module
from tui_lab.ui.screens.advise import AdviseScreen, advice_content, newest_run
from tui_lab.ui.screens.setup import SetupPane


def method(name: str, cost: float | None = None) -> Method:
    return Method(
        name=name, score=Interval(0.5, 0.4, 0.6), gain=Interval(0.1, -0.05, 0.25), rows=9, skipped=0,
        prompt_tokens=1234.4, answer_tokens=3.2, seconds=0.1234, cost=cost, file="",
    )  # fmt: skip


FOUND = TuningAdvice(
    model="pocket", tuned="", data="support", metric="exact", rows=9, shots=3, goal=0.9, currency="$",
    methods=[method("zero-shot"), method("3-shot", 0.002), method("retrieval")],
    verdict=TuningVerdict("few_shot", "3-shot already solves it: do not tune."),
    notes=["9 rows are \x1b[2Jfew"],
)  # fmt: skip


async def test_setup_measures_the_recipe_and_shows_the_verdict(
    monkeypatch: pytest.MonkeyPatch, own_folders: Path
) -> None:
    asked: list[tuple[str, AdviseRequest]] = []
    answers: list[Any] = [LabError("the data has no held-out rows"), FOUND]

    async def run(name: str, request: AdviseRequest, progress: Any, *, answer: Any) -> Any:
        asked.append((name, request))
        progress("zero-shot: answering rows", 1, 9)
        if isinstance(found := answers.pop(0), LabError):
            raise found
        return found

    monkeypatch.setattr("tui_lab.core.job_client.run_job", run)
    app = LabApp(pane="setup")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: isinstance(app.screen, SetupPane) and app.screen.summary is not None)
        await pilot.press("M")
        await until(lambda: isinstance(app.screen, AdviseScreen) and "held-out rows" in screen_text(app))
        await pilot.press("o", *" rows=0", "enter")
        await until(lambda: said(app, "--limit must be at least 2 rows"))
        await pilot.press("o", *" rows=20 shots=5 tokens=160", "enter")
        await until(lambda: "up to 20 held-out rows" in screen_text(app) and "5-shot" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: "no held-out rows" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: "already solves it" in screen_text(app))
        shown = screen_text(app)
        assert "1,234" in shown and "0.50 (0.40 to 0.60)" in shown and "\x1b" not in shown
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, SetupPane))
        name, request = asked[-1]
        recipe = app.screen.summary.recipe
        assert name == module.JOB_MODULE and request.data == recipe.data
        assert request.target.model == recipe.model and not request.target.run
        assert (request.limit, request.shots, request.max_new_tokens) == (20, 5, 160)


def test_a_table_loses_its_last_columns_first() -> None:
    wide, narrow = (str(advice_content(FOUND, width)) for width in (120, 60))
    assert "cost/1,000" in wide and "$2.00" in wide
    assert "cost/1,000" not in narrow and "0.50 (0.40 to 0.60)" in narrow
    assert max(map(len, narrow.splitlines()[2:6])) <= 60


def test_the_newest_run_of_the_same_model_and_data(own_folders: Path) -> None:
    run = made.make_run()
    recipe = run.recipe()
    run.adapter_path.mkdir(parents=True, exist_ok=True)
    assert newest_run(recipe) == run.id
    assert newest_run(recipe.changed(data="json" if recipe.data != "json" else "pirate")) == ""
    assert newest_run(build({"model": "another/model", "data": recipe.data})) == ""
