"""Predictions in the lab: a job answers, its file is listed, read whole and voted on. The job itself is
tested in tests/evaluation; here it is a function that writes the file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from tests.ui.helpers import said, screen_text, until
from tests.ui.sample_runs import make_run
from tui_lab.core.errors import LabError
from tui_lab.evaluation.prediction_file import (
    PredictedAnswer,
    Prediction,
    PredictionFile,
    PredictionSettings,
    is_predictions,
    read_predictions,
)
from tui_lab.playground import vote_rows, votes
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.blind import Blind
from tui_lab.ui.screens.item_view import ItemView
from tui_lab.ui.screens.predictions import FileAnswers, PredictionList
from tui_lab.ui.screens.runs import RunsPane
from tui_lab.ui.widgets.dialogs import AskText

SETTINGS = PredictionSettings(
    model="pocket", tuned="a", data="support", lane="greedy", max_new_tokens=8, metric="exact", loaded="",
    base_sha256="", tuned_sha256="", data_sha256="",
)  # fmt: skip
LONG = "\n".join(f"line {number}" for number in range(9))


def answer(text: str, score: float | None) -> PredictedAnswer:
    return PredictedAnswer(text, 3, "stop_token", score, {} if score is None else {"exact": score})


def prediction(
    row: int, base: tuple[str, float | None], tuned: tuple[str, float | None], **more: Any
) -> Prediction:
    expected = None if base[1] is None else "Ahoy"
    texts = answer(*base), answer(*tuned)
    return Prediction(
        row=row, place=f"row {row}", prompt=f"prompt {row}", prompt_tokens=2, expected=expected,
        base=texts[0], tuned=texts[1], **more,
    )  # fmt: skip


ROWS = [
    prediction(1, ("no", 0.0), (f"Ahoy {LONG}", 1.0)),
    prediction(2, ("Ahoy", 1.0), ("nope", 0.0)),
    prediction(3, ("same", 0.0), ("same", 0.0)),
    prediction(4, ("this", None), ("that", None)),
    prediction(5, ("one", 0.0), ("two", 1.0), turns=2),
    Prediction(
        row=6, place="row 6", prompt="prompt 6", prompt_tokens=9999, expected="x", skipped="it is too long"
    ),
]


def write(path: Path, rows: list[Prediction]) -> Path:
    with PredictionFile(path, SETTINGS) as file:
        for row in rows:
            file.add(row)
    return path


async def opened(app: LabApp, pilot: Any, name: str) -> PredictionList:
    await until(lambda: isinstance(app.screen, RunsPane) and app.screen.current is not None)
    await pilot.press("P")
    await until(lambda: isinstance(app.screen, AskText))
    assert app.screen.query_one(Input).value == "support", "the data of the run"
    app.screen.query_one(Input).value = name
    await pilot.press("enter")
    await until(lambda: isinstance(app.screen, PredictionList))
    assert isinstance(app.screen, PredictionList)
    return app.screen


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_a_file_is_listed_read_and_voted_on(
    own_folders: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    run, path = make_run(), write(tmp_path / "out.jsonl", ROWS)
    app = LabApp(pane="runs")
    async with app.run_test(size=size) as pilot:
        table = await opened(app, pilot, str(path))
        await until(lambda: "4 rows that differ of 6 rows" in screen_text(app))
        # over the rows with a reference: base 1 of 4, tuned 2 of 4
        assert "exact match 0.250 → 0.500, difference" in screen_text(app)
        assert "0.000 → 1.000  better    prompt 1" in screen_text(app)
        await until(lambda: "line 2…" in screen_text(app))
        assert "line 8" not in screen_text(app)
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, ItemView) and "Answers 1 of 4" in screen_text(app))
        assert "line 8" in screen_text(app) and "tuned, exact match 1.000" in screen_text(app)
        await pilot.press("right")
        await until(lambda: "prompt 2" in screen_text(app))
        await pilot.press("escape", "t")
        assert [row.row for row in table.listed] == [1, 5]
        await pilot.press("t")
        assert [row.row for row in table.listed] == [2]
        await pilot.press("t", "end")
        await until(lambda: "no answer" in screen_text(app) and "it is too long" in screen_text(app))
        await pilot.press("t", "v")
        await until(lambda: isinstance(app.screen, Blind) and app.screen.shown is not None)
        blind = app.screen
        assert isinstance(blind, Blind)
        assert blind.session.settings.prompts == ("prompt 1", "prompt 2", "prompt 4"), "5 has earlier turns"
        await pilot.press("2" if blind.session.left(0) == 0 else "1")  # the tuned one
        await pilot.press("escape")
        await until(lambda: "B was preferred 1 of 1 times" in screen_text(app))
        await pilot.press("escape", "escape")
        await until(lambda: isinstance(app.screen, RunsPane))
    [vote] = vote_rows.votes_of(run.path / votes.FILE_NAME)
    assert (vote.chosen, vote.rejected) == (f"Ahoy {LONG}", "no") and vote.run == run.id


async def test_the_job_answers_and_what_it_answered_is_shown_when_it_is_stopped(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = make_run(), []
    go_on = asyncio.Event()

    async def run_job(module: str, request: dict[str, Any], progress: Any, **_: Any) -> dict[str, Any]:
        asked.append((module, request))
        if len(asked) == 3:
            raise LabError("the GPU is gone")
        write(Path(request["out"]), ROWS[:2])
        progress("answering rows", 2, 6)
        await go_on.wait()
        write(Path(request["out"]), ROWS[2:])
        return {}

    monkeypatch.setattr("tui_lab.core.job_client.run_job", run_job)
    app = LabApp(pane="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, "support")
        await until(lambda: "answering rows" in screen_text(app))
        await pilot.press("x")
        await until(lambda: "2 rows that differ" in screen_text(app))
        await pilot.press("escape")
        go_on.set()
        await opened(app, pilot, "support")
        await until(lambda: "4 rows that differ of 6 rows" in screen_text(app))
        await pilot.press("escape")
        await opened(app, pilot, "support")
        await until(lambda: said(app, "the GPU is gone") and "of 6 rows" in screen_text(app))
    out = run.path / "predictions" / "predictions-support.jsonl"
    request = {"data": "support", "target": {"run": str(run.path)}, "out": str(out), "split": "validation"}
    assert asked == [("tui_lab.evaluation.predict", request)] * 3


async def test_a_file_that_cannot_be_read_closes_the_list(own_folders: Path, tmp_path: Path) -> None:
    make_run()
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, RunsPane))
        await app.push_screen(PredictionList(tmp_path / "none.jsonl", None))
        await until(lambda: said(app, "cannot be read") and isinstance(app.screen, RunsPane))
        del pilot


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", ROWS[:3])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "{}\n", lines[3], lines[1], lines[2][:9]]))
    settings, rows = read_predictions(path)
    assert settings == SETTINGS and rows == [ROWS[0], ROWS[2]]
    assert is_predictions(path) and not is_predictions(tmp_path) and not is_predictions(tmp_path / "x")


def test_plain_texts_are_voted_on_as_such() -> None:
    plain = [prediction(row, ("a", None), ("b", None), raw=True) for row in (1, 2)]
    assert FileAnswers.of(SETTINGS, plain, "").raw
    mixed = FileAnswers.of(SETTINGS, [*plain, prediction(3, ("a", None), ("b", None))], "")
    assert not mixed.raw and list(mixed.texts) == ["prompt 3"]
