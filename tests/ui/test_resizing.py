"""Random window sizes while a run trains and six lanes stream: no exception,
and the typed prompt, the focus, the text of the lanes and the metrics of the run are unchanged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.ui.helpers import lane_done, screen_text, until
from tui_lab.playground.messages import (
    GenerateRequest,
    GenerationEvent,
    LaneDone,
    PlaygroundStatus,
    PromptLength,
    Tokens,
)
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import launch
from tui_lab.runs.folder import create
from tui_lab.runs.state import Watcher
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.playground import PlaygroundPane
from tui_lab.ui.screens.run_pane import RunPane
from tui_lab.ui.screens.too_small import TooSmall
from tui_lab.ui.widgets.prompt import Prompt

SIZES = 20
STEPS = 60
READY = PlaygroundStatus(
    "ready", model="paper", dtype="float32", device="cpu", names=("base",), context=10_000
)


class StreamingClient:
    """Streams words into every lane until it is told to end."""

    def __init__(self) -> None:
        self.status, self.wants = READY, "paper"
        self.texts: list[str] = []
        self.ends = asyncio.Event()

    async def generate(
        self,
        ask: GenerateRequest,
        hear: Callable[[GenerationEvent], None],
        on_prompt: Callable[[PromptLength], None] = lambda _length: None,
    ) -> list[LaneDone]:
        on_prompt(PromptLength(4, 10_000))
        self.texts = [""] * len(ask.lanes)
        number = 0
        while not self.ends.is_set():
            number += 1
            for lane in range(len(ask.lanes)):
                word = f" {number}·{lane}" + "\n" * (number % 17 == lane)
                self.texts[lane] += word
                hear(Tokens(lane, word, number))
            await asyncio.sleep(0.02)
        done = [lane_done(lane, ask.lanes[lane], text) for lane, text in enumerate(self.texts)]
        for each in done:
            hear(each)
        return done

    async def close(self) -> None:
        self.ends.set()


async def test_resizing_loses_nothing(fake_worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.03")
    run = create(Recipe(max_steps=STEPS))
    process = launch.start(run)
    chance = random.Random(50)
    app, client = LabApp(pane="playground"), StreamingClient()
    app.playground.client = client  # type: ignore[assignment]
    try:
        async with app.run_test(size=(120, 40)) as pilot:
            await until(lambda: isinstance(app.screen, PlaygroundPane) and app.screen.is_laid_out)
            compare: Any = app.screen
            await until(lambda: isinstance(app.focused, Prompt))
            await pilot.press(*"hello", "enter")
            await until(lambda: bool(client.texts and client.texts[0]))
            for number in range(SIZES):
                if key := {7: "f3", 13: "f6", 17: "f4"}.get(number):
                    await pilot.press(key)
                small = number % 5 == 4
                size = (chance.randint(1, 59), chance.randint(1, 17)) if small else None
                await pilot.resize_terminal(*(size or (chance.randint(60, 160), chance.randint(18, 50))))
                assert app._exception is None
                assert isinstance(app.screen, TooSmall) is small
                for view, text in zip(compare.views, client.texts, strict=True):
                    assert text.startswith(view.text) and len(text) - len(view.text) < 200
            await pilot.resize_terminal(120, 40)
            await until(lambda: app.screen is compare)
            assert compare.query_one(Prompt).text == "hello"
            assert app.focused is compare.query_one(Prompt)
            client.ends.set()
            await until(lambda: all(view.state == "done" for view in compare.views))
            assert [view.text for view in compare.views] == client.texts

            await pilot.press("f3")
            await until(lambda: "✓ finished" in screen_text(app), 60)
            tune = app.screen
            assert isinstance(tune, RunPane) and tune.watcher is not None
            assert tune.watcher.state.loss.steps == list(range(1, STEPS + 1))
            assert repr(tune.watcher.state.loss.values) == repr(
                Watcher(run).read_all().loss.values
            )  # has a nan
    finally:
        process.kill()
        process.wait()
