"""Learn in the lab: pages turn, values change, and what a page needs of the model comes from a job."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ui.helpers import screen_text, until
from tui_lab.core import job_client
from tui_lab.core.errors import LabError
from tui_lab.evaluation.learn_records import PAGES, LearnAnswer, LearnRequest, PageText
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.learn import LearnScreen


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[LearnRequest]:
    requests: list[LearnRequest] = []

    async def run_job(module: str, request: LearnRequest, *_: Any, **__: Any) -> LearnAnswer:
        requests.append(request)
        if request.text == "bad":
            raise LabError("the text is too short: write a sentence")
        return LearnAnswer(request.page, "pocket", [PageText(f"page {request.page}\x1b[2J {request.values}")])

    monkeypatch.setattr(job_client, "run_job", run_job)
    return requests


async def test_pages_values_and_texts(asked: list[LearnRequest]) -> None:
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("L")
        await until(lambda: isinstance(app.screen, LearnScreen) and "page next-token" in screen_text(app))
        await pilot.press("t")
        await until(lambda: "page decoding" in screen_text(app))
        await pilot.press("right")
        await until(lambda: asked[-1].values == {"top_p": 0.95} and "0.95}" in screen_text(app))
        await pilot.press("enter", "home")
        await pilot.press(*"Hi. ", "enter")
        await until(lambda: asked[-1].text.startswith("Hi. "))
        assert "\x1b" not in screen_text(app)
        # scaling needs no weights: it is computed here, without a job
        count = len(asked)
        await pilot.press("t")
        await until(lambda: "Kaplan" in screen_text(app))
        before = screen_text(app)
        await pilot.press("space", "right", "right")
        await until(lambda: "300" in screen_text(app) and screen_text(app) != before)
        assert len(asked) == count
        for _ in range(len(PAGES) - 2):
            await pilot.press("t")
        await until(lambda: "Learn 1/" in screen_text(app))
        # a page that was seen is not computed again
        count = len(asked)
        await pilot.press("t")
        await until(lambda: "page decoding" in screen_text(app) and "0.95}" in screen_text(app))
        assert len(asked) == count
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, LearnScreen))


async def test_an_error_is_one_sentence_on_the_page(asked: list[LearnRequest]) -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("L")
        await until(lambda: isinstance(app.screen, LearnScreen))
        await pilot.press("enter", "ctrl+u")
        await pilot.press(*"bad", "enter")
        await until(lambda: "too short: write a sentence" in screen_text(app))


async def test_the_keys_of_every_page_fit_a_small_window(asked: list[LearnRequest]) -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("L")
        await until(lambda: isinstance(app.screen, LearnScreen))
        for number in range(1, len(PAGES) + 1):
            await until(lambda number=number: f"Learn {number}/" in screen_text(app))
            top, *_, bottom = screen_text(app).splitlines()
            assert "on pocket" in top and "closes" in bottom
            await pilot.press("t")
