"""Blind A/B with a fake client that a test controls, and once with the real process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.widgets import Input

from tests.ui.helpers import lane_done, screen_text, until
from tui_lab.core.errors import LabError
from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.messages import GenerateRequest, GenerationEvent, LaneDone, PlaygroundStatus
from tui_lab.playground.votes import BlindSettings, VoteSummary
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes import recipe
from tui_lab.runs import folder
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.blind import Blind, start_blind, two_lanes
from tui_lab.ui.views.playground_settings import PlaygroundSettings
from tui_lab.ui.widgets.dialogs import AskText

LANES = ("greedy on=base", "greedy on=tuned")
SIZES = [(60, 18), (80, 24), (120, 40), (200, 60)]


def done(lane: int, text: str) -> LaneDone:
    return lane_done(lane, LANES[lane], text, on="")


class PaperClient:
    """Answers at once, or when it is let; remembers what it was asked."""

    wants = "pocket"

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fails = ""
        self.run = ""
        self.status = PlaygroundStatus("ready", names=("base", "tuned"))

    @property
    def names(self) -> tuple[str, ...]:
        return self.status.names

    def location(self, name: str) -> str:
        return self.run if name == "tuned" else ""

    async def generate(
        self, ask: GenerateRequest, on_event: Callable[[GenerationEvent], None]
    ) -> list[LaneDone]:
        self.requests.append(ask.prompt)
        await self.open.wait()
        if self.fails:
            raise LabError(self.fails)
        return [done(0, f"base says of {ask.prompt}"), done(1, f"tuned says of {ask.prompt}")]


def prompts(count: int) -> list[str]:
    return [f"question {n}" for n in range(count)]


def screen(client: Any, path: Path, count: int = 4, **how: Any) -> Blind:
    settings = BlindSettings(LANES, tuple(prompts(count)), **how)
    return Blind(client, settings, path / "votes.jsonl", seed=5)


@pytest.mark.parametrize("size", SIZES)
async def test_two_texts_unnamed_then_the_outcome(tmp_path: Path, size: tuple[int, int]) -> None:
    client, outcome = PaperClient(), []
    app: App[None] = App()
    async with app.run_test(size=size) as pilot:
        blind = screen(client, tmp_path)
        await app.push_screen(blind, outcome.append)
        for n in range(4):
            await until(lambda n=n: f"base says of question {n}" in screen_text(app))  # type: ignore[misc]
            text = screen_text(app)
            assert f"tuned says of question {n}" in text and f"prompt {n + 1} of 4" in text
            assert "greedy" not in text and "on=" not in text  # nothing tells which is which
            first = text.index("base says") < text.index("tuned says")
            assert first == (blind.session.left(n) == 0)
            # always for the tuned one, wherever it stands
            await pilot.press("2" if first else "left")
        await until(lambda: "A was greedy" in screen_text(app))
        text = " ".join(screen_text(app).split())
        assert "A was greedy on=base, B was greedy on=tuned" in text
        assert "B was preferred 4 of 4 times: 100%, 95% Wilson interval 51% to 100%" in text
        await pilot.press("enter")
        await until(lambda: not isinstance(app.screen, Blind))
    summary = outcome[0]
    assert isinstance(summary, VoteSummary) and summary.wins == (0, 4)


async def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    app: App[None] = App()
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(screen(PaperClient(), tmp_path))
        await until(lambda: "base says of question 0" in screen_text(app))
        await pilot.press("0")
        await until(lambda: "base says of question 1" in screen_text(app))
        await pilot.press("1", "escape")
        await until(lambda: "A was greedy" in screen_text(app))
        assert "2 prompts are left" in " ".join(screen_text(app).split())
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, Blind))
        client = PaperClient()
        again = screen(client, tmp_path)
        await app.push_screen(again)
        await until(lambda: "base says of question 2" in screen_text(app))
        assert client.requests[0] == "question 2" and "2 voted on" in screen_text(app)
        assert again.session.summary.ties == 1


async def test_answers_are_made_ahead_but_shown_whole(tmp_path: Path) -> None:
    client = PaperClient()
    client.open.clear()
    app: App[None] = App()
    async with app.run_test(size=(80, 24)) as pilot:
        blind = screen(client, tmp_path, 10)
        await app.push_screen(blind)
        await until(lambda: "Generating" in screen_text(app))
        await pilot.press("1", "0", "2")  # nothing to vote on yet
        assert not blind.session.votes
        client.open.set()
        await until(lambda: len(client.requests) == 3)  # the one on the screen and the next two
        await until(lambda: "base says of question 0" in screen_text(app))
        await pilot.press("2")
        await until(lambda: len(client.requests) == 4 and "base says of question 1" in screen_text(app))
        assert client.requests == prompts(4)


async def test_a_playground_that_dies_is_one_sentence_and_can_be_asked_again(tmp_path: Path) -> None:
    client = PaperClient()
    client.fails = "the process was killed by SIGKILL\x1b[2J"
    app: App[None] = App()
    async with app.run_test(size=(80, 24)) as pilot:
        blind = screen(client, tmp_path)
        await app.push_screen(blind)
        await until(lambda: "was killed by SIGKILL" in screen_text(app) and "Press r" in screen_text(app))
        client.fails = ""
        await pilot.press("r")
        await until(lambda: "base says of question 0" in screen_text(app))
        await pilot.press("s")
        await until(lambda: "base says of question 1" in screen_text(app))
        assert blind.session.summary.skipped == 1


async def test_hostile_text_and_long_text(tmp_path: Path) -> None:
    class Hostile(PaperClient):
        async def generate(
            self, ask: GenerateRequest, on_event: Callable[[GenerationEvent], None]
        ) -> list[LaneDone]:
            return [done(0, "\x1b[31mred [bold]x[/bold] \u202eabc " + "y" * 10_000), done(1, "")]

    app: App[None] = App()
    async with app.run_test(size=(80, 24)) as pilot:
        blind = Blind(Hostile(), BlindSettings(LANES, ("[red]p[/red]\x07",)), tmp_path / "v.jsonl", seed=5)  # type: ignore[arg-type]
        await app.push_screen(blind)
        await until(lambda: "[bold]x[/bold]" in screen_text(app))
        text = screen_text(app)
        assert not set("\x1b\x07\u202e") & set(text) and "[red]p[/red]" in text and "(no text)" in text
        await pilot.press("pagedown", "pagedown", "pageup", "left")
        await until(lambda: "A was greedy" in screen_text(app))


async def test_leaving_without_a_vote_says_nothing(tmp_path: Path) -> None:
    outcome: list[VoteSummary | None] = []
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await app.push_screen(screen(PaperClient(), tmp_path), outcome.append)
        await until(lambda: "question 0" in screen_text(app))
        await pilot.press("f1")
        await until(lambda: "Vote for a tie." in screen_text(app))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, Blind))
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, Blind))
    assert outcome == [None]


async def test_from_compare_votes_lie_with_the_run(tmp_path: Path, own_folders: Path) -> None:
    run = folder.create(recipe.Recipe(model="pocket"), own_folders)
    client = PaperClient()
    client.run = run.id
    app: App[None] = App()
    async with app.run_test(size=(80, 24)) as pilot:
        start_blind(app, client, ["greedy", "beam", "contrastive"], PlaygroundSettings())  # type: ignore[arg-type]
        await until(lambda: isinstance(app.screen, AskText) and app.screen.query(Input))
        await pilot.press(*"none", "enter")
        await until(lambda: any("there is no file" in note.message for note in app._notifications))
        await until(lambda: isinstance(app.screen, AskText) and app.screen.query(Input))
        assert app.screen.query_one(Input).value == "none", "what was typed can be corrected"
        (tmp_path / "p.txt").write_text("question 0\nquestion 1\n")
        app.screen.query_one(Input).value = str(tmp_path / "p.txt")
        await pilot.press("enter")
        await until(lambda: "base says of question 0" in screen_text(app))
        await pilot.press("1")
        await until(lambda: "base says of question 1" in screen_text(app))
    kept = [json.loads(line) for line in (run.path / "votes.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in kept] == ["session", "vote"]
    assert kept[0]["lanes"] == list(LANES) and kept[0]["places"] == ["", run.id]


async def test_other_adapters_under_the_same_name_are_another_session(tmp_path: Path) -> None:
    app: App[None] = App()
    async with app.run_test(size=(80, 24)) as pilot:
        client = PaperClient()
        client.run = "one"
        await app.push_screen(screen(client, tmp_path))
        await until(lambda: "base says of question 0" in screen_text(app))
        await pilot.press("1", "escape", "escape")
        client.run = "two"
        assert not screen(client, tmp_path).session.votes
        client.run = "one"
        assert len(screen(client, tmp_path).session.votes) == 1


def test_which_two() -> None:
    assert two_lanes(["greedy", "beam"], ["base", "run"]) == ("greedy", "beam")
    assert two_lanes(["greedy", "beam", "sample"], ["base", "run"]) == ("greedy on=base", "greedy on=run")
    assert two_lanes(["greedy", "beam", "sample"], ["base"]) == ("greedy", "beam")
    assert two_lanes(["greedy", "greedy"], ["base"]) is None


@pytest.mark.skipif(not (MODEL_DIR / "model.safetensors").is_file(), reason="the model is not built yet")
async def test_with_the_bundled_model(tmp_path: Path, playground_in_process: None) -> None:
    client = PlaygroundClient()
    try:
        await client.load("pocket")
        app: App[None] = App()
        async with app.run_test(size=(120, 40)) as pilot:
            settings = BlindSettings(("greedy", "sample seed=3"), ("What is the capital of France?",))
            blind = Blind(client, settings, tmp_path / "v")
            await app.push_screen(blind)
            await until(lambda: blind.shown is not None)
            assert blind.shown is not None and all(done.text for done in blind.shown)
            assert blind.shown[0].text.split()[0] in screen_text(app)
            await pilot.press("1")
            await until(lambda: "A was greedy" in screen_text(app))
            assert sum(blind.session.summary.wins) == 1
    finally:
        await client.close()


async def test_a_vote_is_taken_back_also_from_the_outcome(tmp_path: Path) -> None:
    client = PaperClient()
    app: App[None] = App()
    async with app.run_test(size=(120, 40)) as pilot:
        blind = screen(client, tmp_path, 2)
        await app.push_screen(blind)
        await until(lambda: "base says of question 0" in screen_text(app))
        await pilot.press("u")
        await until(lambda: not blind.session.votes)
        await pilot.press("1")
        await until(lambda: "base says of question 1" in screen_text(app))
        await pilot.press("u")
        await until(lambda: "base says of question 0" in screen_text(app))
        assert client.requests == prompts(2), "answers are not made again"
        await pilot.press("2")
        await until(lambda: "base says of question 1" in screen_text(app))
        await pilot.press("0")
        await until(lambda: "A was greedy" in screen_text(app))
        await pilot.press("u")
        await until(lambda: "base says of question 1" in screen_text(app))
        await pilot.press("1")
        await until(lambda: "A was greedy" in screen_text(app))
        assert [vote.choice for vote in blind.session.votes.values()] == ["right", "left"]


async def test_the_turns_of_a_chat_are_voted_on_one_by_one(tmp_path: Path) -> None:
    client = PaperClient()
    seen: list[GenerateRequest] = []
    real = client.generate

    async def generate(ask: GenerateRequest, on_event: Callable[[GenerationEvent], None]) -> list[LaneDone]:
        seen.append(ask)
        return await real(ask, on_event)

    client.generate = generate  # type: ignore[method-assign]
    app: App[None] = App()
    async with app.run_test(size=(120, 40)) as pilot:
        start_blind(app, client, LANES, PlaygroundSettings(chat=True), prompts(2))  # type: ignore[arg-type]
        await until(lambda: isinstance(app.screen, AskText) and app.screen.query(Input))
        assert app.screen.query_one(Input).value == "conversation"
        await pilot.press("enter")
        await until(lambda: "base says of question 0" in screen_text(app))
        await pilot.press("1")
        await until(lambda: "base says of question 1" in screen_text(app))
        text = screen_text(app)
        assert text.count("› question 0") == 2
        assert "base says of question 0" in text
        assert seen[0].turns == ((), ())
        assert [turns[0].answer for turns in seen[1].turns] == [
            "base says of question 0",
            "tuned says of question 0",
        ]
