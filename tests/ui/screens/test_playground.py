"""Playground: what a person does with a prompt and lanes, with a fake client, and with the real process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from tests.ui.helpers import lane_done, said, screen_text, until
from tui_lab.core.errors import LabError
from tui_lab.decoding.records import TokenRecord
from tui_lab.decoding.strategies import parse
from tui_lab.playground.messages import (
    ChatTurn,
    GenerateRequest,
    GenerationEvent,
    LaneDone,
    PlaygroundStatus,
    PromptLength,
    PromptTooLongError,
    Tokens,
    TooLong,
)
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.playground import PlaygroundPane
from tui_lab.ui.widgets.dialogs import Confirm
from tui_lab.ui.widgets.lane_view import LaneView
from tui_lab.ui.widgets.prompt import Prompt

READY = PlaygroundStatus("ready", model="paper", dtype="float32", device="cpu", names=("base",), context=100)


class PaperClient:
    """Answers at once with what the test says; keeps what it was asked."""

    def __init__(self, change: Callable[[PlaygroundStatus], None], text: str = "once upon a time") -> None:
        self.change, self.text = change, text
        self.status, self.wants = READY, "paper"
        self.asks: list[GenerateRequest] = []
        self.fits = True
        self.error = ""
        self.stopped = asyncio.Event()
        self.waits = False
        self.loaded: list[str] = []
        change(self.status)

    @property
    def names(self) -> tuple[str, ...]:
        return self.status.names

    async def load(self, model: str, **how: Any) -> PlaygroundStatus:
        self.loaded.append(model)
        self.wants = model
        return self.status

    async def generate(
        self,
        ask: GenerateRequest,
        hear: Callable[[GenerationEvent], None],
        on_prompt: Callable[[PromptLength], None] = lambda _length: None,
    ) -> list[LaneDone]:
        if not self.fits and not ask.cut:
            raise PromptTooLongError(TooLong(400, 100))
        on_prompt(PromptLength(4, 100))
        self.asks.append(ask)
        if self.error:
            raise LabError(self.error)
        done = []
        for lane, text in enumerate(ask.lanes):
            hear(Tokens(lane, self.text, 4))
            ids = {"token_ids": (1, 2, 3, 4), "prompt_token_ids": (1,)}
            done.append(lane_done(lane, text, self.text, **ids, tok_per_s=4.0, perplexity_base=2.5))
        if self.waits:
            await self.stopped.wait()
        for each in done:
            hear(each)
        return done

    def location(self, name: str) -> str:
        return ""

    def stop(self) -> None:
        self.stopped.set()

    async def close(self) -> None:
        pass


@asynccontextmanager
async def compare(
    size: tuple[int, int] = (120, 40), **client: Any
) -> AsyncIterator[tuple[LabApp, Pilot[None], PlaygroundPane, PaperClient]]:
    app = LabApp(pane="playground")
    async with app.run_test(size=size) as pilot:
        paper = PaperClient(lambda status: setattr(app, "playground_status", status), **client)
        app.playground.client = paper  # type: ignore[assignment]
        await until(lambda: isinstance(app.screen, PlaygroundPane) and app.screen.is_laid_out)
        pane = app.screen
        assert isinstance(pane, PlaygroundPane)
        await until(lambda: bool(pane.query_one("#lanes").size.area))
        yield app, pilot, pane, paper


@pytest.mark.parametrize(("size", "seen"), [((80, 24), 2), ((120, 40), 6), ((200, 60), 6)])
async def test_six_lanes_answer_one_prompt_in_every_window(size: tuple[int, int], seen: int) -> None:
    async with compare(size) as (app, pilot, _pane, paper):
        await pilot.press("h", "i", "enter")
        await until(lambda: screen_text(app).count("once upon a time") == seen)
        assert paper.asks[0].prompt == "hi", "what is typed takes the place of the example"
        assert len(paper.asks[0].lanes) == 6
        assert "ppl 2.50" in screen_text(app)
        if seen == 2:
            await pilot.press("escape", "right_square_bracket", "right_square_bracket")
            await until(lambda: "3 top-k" in screen_text(app).split("\n")[7])


async def test_an_empty_prompt_says_what_to_do() -> None:
    async with compare() as (app, pilot, pane, paper):
        pane.query_one(Prompt).text = "  \n "
        await pilot.press("enter")
        await until(lambda: said(app, "The prompt is empty"))
        assert not paper.asks


async def test_a_prompt_too_long_offers_to_cut() -> None:
    async with compare() as (app, pilot, _pane, paper):
        paper.fits = False
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, Confirm))
        assert "400 tokens" in screen_text(app)
        await pilot.press("n")
        assert not paper.asks
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(lambda: bool(paper.asks))
        assert paper.asks[0].cut


def first_lane(app: LabApp) -> str:
    """The text of the lane at the left of a window of 80 columns."""
    return " ".join(" ".join(line[:39] for line in screen_text(app).split("\n")).split())


async def test_a_lane_is_edited_in_place_and_mistakes_are_told_while_typing() -> None:
    async with compare((80, 24)) as (app, pilot, pane, _paper):
        await pilot.press("escape", "h")
        field = pane.query_one(Input)
        field.value = "top-p p=7 seed=x"
        await until(lambda: "top_p is above 0 and at most 1" in first_lane(app))
        await pilot.press("enter")
        assert pane.query(Input), "a lane that cannot be is not taken"
        field.value = "tpo-p"
        await until(lambda: "did you mean top-p" in first_lane(app))
        field.value = "top-p p=0.5 seed=3"
        await until(lambda: "each as name=value" in first_lane(app))
        await pilot.press("enter")
        await until(lambda: not pane.query(Input))
        assert pane.views[0].lane == parse("top-p p=0.5 seed=3")
        await pilot.press("h")
        pane.query_one(Input).value = "greedy"
        await pilot.press("escape")
        await until(lambda: not pane.query(Input))
        assert pane.views[0].lane.strategy.name == "top-p", "Escape leaves it as it was"


async def test_lanes_are_added_doubled_and_taken_away() -> None:
    async with compare() as (app, pilot, pane, _paper):
        await pilot.press("escape", "A")
        await until(lambda: len(pane.views) == 7)
        assert pane.views[1].lane.text == "greedy"
        await pilot.press("right_square_bracket", "right_square_bracket", "A")
        await until(lambda: len(pane.views) == 8)
        first, second = pane.views[3].lane, pane.views[4].lane
        assert first.strategy == second.strategy
        assert first.seed != second.seed, "another draw of the same"
        await pilot.press("a")
        await until(lambda: bool(pane.query(Input)))
        await pilot.press("escape")
        for left in range(8, -1, -1):
            await pilot.press("delete")
            await until(lambda left=left: len(pane.views) == left)  # type: ignore[misc]
        assert isinstance(app.focused, Prompt)
        await pilot.press("enter")
        await until(lambda: said(app, "There is no lane"))
        assert [view.number for view in pane.query(LaneView)] == []


async def test_seeds_stay_or_are_drawn_anew() -> None:
    async with compare() as (app, pilot, _pane, paper):
        for key in ("enter", "enter"):
            await pilot.press(key)
            await pilot.pause()
        await until(lambda: len(paper.asks) == 2)
        assert paper.asks[0].lanes == paper.asks[1].lanes
        await pilot.press("escape")
        await pilot.press("o", "right", "escape", "s")
        await until(lambda: len(paper.asks) == 3)
        assert paper.asks[2].lanes != paper.asks[1].lanes
        assert paper.asks[2].lanes[0] == "greedy"
        assert "fresh seeds" in screen_text(app)


async def test_settings_reach_the_client() -> None:
    async with compare() as (app, pilot, pane, paper):
        await pilot.press("escape")
        pane.action_options("max_new_tokens")
        await until(lambda: isinstance(app.focused, Input))
        app.screen.query_one("#value", Input).value = "many"
        await pilot.press("enter")
        await until(lambda: "whole number from 1 to 32,768" in screen_text(app))
        app.screen.query_one("#value", Input).value = "7"
        await pilot.press("enter", "down", "down", "down", "right")  # thinking, which this model has not
        await pilot.press("down", "enter")
        await until(lambda: isinstance(app.focused, Input))
        app.screen.query_one("#value", Input).value = "be kind"
        await pilot.press("enter", "escape", "s")
        await until(lambda: bool(paper.asks))
        asked = paper.asks[0]
        assert (asked.thinking, asked.max_new_tokens, asked.system) == ("auto", 7, "be kind")
        await pilot.press("o", "down", "down", "down", "right")
        await until(lambda: "plain text" in screen_text(app))
        await pilot.press("escape", "s")
        await until(lambda: len(paper.asks) == 2)
        assert (paper.asks[1].raw, paper.asks[1].system) == (True, ""), "plain text has no system prompt"


async def test_a_set_of_lanes_replaces_those_that_are_there() -> None:
    async with compare() as (_app, pilot, pane, _paper):
        await pilot.press("escape", "p", "down", "enter")
        await until(lambda: all(v.lane.strategy.name == "temperature" for v in pane.views))
        assert len(pane.views) == 6


async def test_stop_and_run_again() -> None:
    async with compare() as (_app, pilot, pane, paper):
        paper.waits = True
        await pilot.press("enter")
        await until(lambda: pane.views[0].state == "running")
        await pilot.press("escape", "x")
        await until(lambda: pane.views[0].state == "done")
        paper.waits = False
        await pilot.press("s")
        await until(lambda: len(paper.asks) == 2)


async def test_what_the_playground_cannot_do_is_one_sentence_and_nothing_is_lost() -> None:
    async with compare(text="kept") as (app, pilot, pane, paper):
        await pilot.press("enter")
        await until(lambda: pane.views[0].state == "done")
        paper.error = "the [red]process[/red] was killed\x1b[2J"
        await pilot.press("enter")
        await until(lambda: said(app, "[red]process[/red] was killed␛"))
        assert pane.query_one(Prompt).text
        paper.error = ""
        await pilot.press("enter")
        await until(lambda: pane.views[0].state == "done")


async def test_hostile_text_stays_in_its_lane() -> None:
    text = "\x1b[2J[bold]x[/bold] \u202eabc 👩‍👩‍👧 漢字漢字 مرحبا " + "y" * 3_000
    async with compare(text=text) as (app, pilot, pane, _paper):
        await pilot.press("enter")
        await until(lambda: pane.views[5].state == "done")
        await pilot.press("escape")
        for view in pane.views:
            view._text.scroll_home(animate=False)
        await until(lambda: "␛[2J[bold]x[/bold] ⟨U+202E⟩abc" in screen_text(app))
        assert "\x1b" not in screen_text(app)


async def test_a_comparison_is_saved_and_prompts_are_remembered(tmp_path: Path) -> None:
    async with compare() as (app, pilot, pane, _paper):
        await pilot.press("escape", "w")
        await until(lambda: said(app, "nothing to save yet"))
        await pilot.press("i", "enter")
        await until(lambda: pane.views[0].state == "done" and bool(pane.results))
        await pilot.press("escape", "w")
        folder = Path(os.environ["TUI_LAB_DATA_DIR"]) / "comparisons"
        await until(lambda: len(list(folder.glob("*"))) == 2 if folder.exists() else False)
        assert "once upon a time" in next(folder.glob("*.md")).read_text()
        await until(lambda: bool(pane.history.prompts))
        await pilot.press("slash")
        await until(lambda: bool(app.screen.query(OptionList)))
        await pilot.press("enter")
        await until(lambda: isinstance(app.focused, Prompt))


async def test_a_run_that_is_not_there_is_one_sentence() -> None:
    async with compare() as (app, _pilot, pane, _paper):
        pane.compare_run("20200101-000000-nothing")
        await until(lambda: said(app, "20200101-000000-nothing"))
        assert len(pane.views) == 6


@pytest.mark.timeout(600)
async def test_the_real_process_streams_dies_and_comes_back(warm_up: None) -> None:
    app = LabApp(pane="playground")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: app.playground_client.status.loaded, 300)
        pane = app.screen
        assert isinstance(pane, PlaygroundPane)
        await pilot.press("enter")
        await until(lambda: all(view.state == "done" for view in pane.views), 300)
        answers = [view.text for view in pane.views]
        assert all(answers)
        assert len(set(answers)) >= 4, "strategies differ"
        await until(lambda: "steps/s" in screen_text(app) and "tok/s in all lanes" in screen_text(app))
        pane.settings = replace(pane.settings, max_new_tokens=900)
        await pilot.press("enter")
        await until(lambda: pane.views[0].count > 5 and pane.views[0].state == "running", 300)
        assert app.playground_client.pid is not None
        os.kill(app.playground_client.pid, signal.SIGKILL)
        await until(lambda: said(app, "SIGKILL"), 300)
        assert app.playground_client.status.state == "died"
        pane.settings = replace(pane.settings, max_new_tokens=8)
        await pilot.press("enter")
        await until(lambda: all(view.state == "done" for view in pane.views), 300)
        assert (
            next(view.done.text for view in pane.views if view.done) == answers[0][: len(pane.views[0].text)]
        )


async def test_keys_are_offered_while_the_last_lane_is_being_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with compare() as (_app, pilot, pane, _paper):
        idle: list[frozenset[str]] = []
        real = LaneView.remove
        monkeypatch.setattr(LaneView, "remove", lambda view: (idle.append(pane.idle_actions), real(view))[1])
        await pilot.press("escape", "left_square_bracket", "delete")
        await until(lambda: len(pane.views) == 5)
        assert len(idle) == 1 and "inspect" in idle[0]


async def test_a_lane_that_is_being_removed_takes_what_still_comes_for_it() -> None:
    async with compare() as (_app, _pilot, pane, _paper):
        [view, *_] = pane.views
        await view.query_one(".figures").remove()
        view.begin(GenerateRequest("a", ("greedy",)))
        view.finish(lane_done(0, "greedy", "a late word"))
        view.abandon()
        assert view.text == "a late word"


async def test_every_lane_keeps_its_conversation() -> None:
    async with compare() as (app, pilot, pane, paper):
        await pilot.press("h", "i", "enter")
        await until(lambda: bool(pane.results))
        await pilot.press("escape", "C")
        await until(lambda: isinstance(app.focused, Prompt))
        assert pane.query_one(Prompt).text == "", "the next turn is typed"
        paper.text = "the second answer"
        await pilot.press("m", "o", "r", "e", "enter")
        await until(lambda: len(paper.asks) == 2 and bool(pane.results))
        assert paper.asks[1].prompt == "more"
        assert paper.asks[1].turns == ((ChatTurn("hi", "once upon a time"),),) * 6
        text = screen_text(app)
        assert text.count("› hi") == text.count("once upon a time") == text.count("› more") == 6
        assert "Chat, turn 3" in text
        # the last turn once more, and a lane that branches off
        await pilot.press("escape", "s")
        await until(lambda: len(paper.asks) == 3 and bool(pane.results))
        assert (paper.asks[2].prompt, paper.asks[2].turns) == ("more", paper.asks[1].turns)
        await pilot.press("A")
        await until(lambda: len(pane.views) == 7)
        assert [turn.prompt for turn in pane.views[1].turns] == ["hi", "more"]
        # saved with all turns
        await pilot.press("w")
        folder = Path(os.environ["TUI_LAB_DATA_DIR"]) / "comparisons"
        await until(lambda: bool(list(folder.glob("*.json"))))
        assert "once upon a time" in next(folder.glob("*.md")).read_text()
        whole = json.loads(next(folder.glob("*.json")).read_text())
        assert whole["ask"]["turns"][0] == [{"prompt": "hi", "answer": "once upon a time"}]
        # a new conversation, which can be undone
        await pilot.press("ctrl+n")
        await until(lambda: not any(view.memory.conversation for view in pane.views))
        await until(lambda: "Chat, turn 1" in screen_text(app))
        await pilot.press("escape", "u")
        await until(lambda: len(pane.views[0].memory.conversation) == 2)


async def test_a_failed_turn_leaves_the_prompt_and_the_conversation() -> None:
    async with compare() as (app, pilot, pane, paper):
        await pilot.press("h", "i", "enter")
        await until(lambda: bool(pane.results))
        await pilot.press("escape", "C", "x", "enter")
        await until(lambda: len(paper.asks) == 2 and bool(pane.results))
        paper.fits = False
        await pilot.press("y", "enter")
        await until(lambda: isinstance(app.screen, Confirm))
        assert "Leave out the oldest turns" in " ".join(screen_text(app).replace("│", " ").split())
        await pilot.press("n")
        assert pane.query_one(Prompt).text == "y"
        assert [len(view.memory.conversation) for view in pane.views] == [2] * 6


async def test_a_model_without_template_cannot_chat() -> None:
    async with compare() as (app, pilot, pane, paper):
        paper.status = msgspec.structs.replace(READY, has_template=False)
        await pilot.press("escape", "C")
        await until(lambda: said(app, "A chat needs a chat template"))
        assert not pane.settings.chat


async def test_base_both_and_tuned_by_one_key_and_undo() -> None:
    async with compare() as (app, pilot, pane, paper):
        paper.status = msgspec.structs.replace(READY, names=("base", "shop"))
        await pilot.press("enter")
        await until(lambda: bool(pane.results))
        await pilot.press("escape", "b")
        await until(lambda: len(pane.views) == 12)
        assert {view.lane.on for view in pane.views} == {"base", "shop"}
        await pilot.press("b")
        await until(lambda: {view.lane.on for view in pane.views} == {"shop"})
        for expected in (12, 6):
            await pilot.press("u")
            await until(lambda expected=expected: len(pane.views) == expected)  # type: ignore[misc]
        assert pane.views[0].text == "once upon a time", "with their answers"
        await pilot.press("h")
        pane.query_one(Input).value = "sample seed=4"
        await pilot.press("enter")
        await until(lambda: pane.views[0].lane == parse("sample seed=4"))
        await pilot.press("u")
        await until(lambda: pane.views[0].lane == parse("greedy"))
        await pilot.press("u")
        await until(lambda: said(app, "No change of the lanes is left"))


async def test_pairs_show_where_they_differ_and_both_perplexities() -> None:
    async with compare((200, 60)) as (app, _pilot, pane, paper):
        paper.status = msgspec.structs.replace(READY, names=("base", "shop"))
        await pane.set_lanes([parse("greedy on=base"), parse("greedy on=shop")])
        tokens = [
            tuple(TokenRecord(lane, n, 10 * n + (lane if n == 2 else 0), word, -1.0, 1, 1.0)
                  for n, word in enumerate(("once", " upon", (" a", " no")[lane])))
            for lane in (0, 1)
        ]  # fmt: skip
        request = GenerateRequest("hi", ("greedy on=base", "greedy on=shop"))
        for lane, view in enumerate(pane.views):
            view.begin(request)
            ids = tuple(token.token_id for token in tokens[lane])
            text = "".join(token.text for token in tokens[lane])
            view.finish(
                lane_done(lane, view.lane.text, text, on=view.lane.on, tokens=tokens[lane], token_ids=ids,
                          perplexity_base=4396.98, mean_logprob=-1.0)
            )  # fmt: skip
        pane.board.compare()
        await until(lambda: "differs from 2 at token 3" in screen_text(app))
        await until(lambda: "differs from 1 at token 3" in screen_text(app))
        text = screen_text(app)
        assert "ppl under base 4396.98, under shop 2.72" in text
        assert "10 tok/s" in text
        assert pane.views[0]._text._mark == (9, 11)


def test_the_speed_is_known_while_a_lane_runs() -> None:
    view = LaneView(parse("greedy"), 1)
    view._rate.add(4, 10.0)
    assert view._speed == "", "the time of the prompt does not count"
    view._rate.add(104, 12.0)
    assert view._speed == "50 tok/s"


@pytest.mark.parametrize(("size", "below"), [((120, 40), "╰"), ((80, 24), " 4 tokens · 4.0 tok/s")])
async def test_lanes_are_panels_with_their_figures_in_the_border(size: tuple[int, int], below: str) -> None:
    async with compare(size) as (app, pilot, pane, _paper):
        await pilot.press("enter")
        await until(lambda: "4.0 tok/s" in screen_text(app))
        rows = screen_text(app).split("\n")
        top = next(n for n, row in enumerate(rows) if row.startswith("╭─ ✓ 1 greedy ─"))
        assert "─ ✓ 2 beam num_beams=4 ─" in rows[top]
        region = pane.views[0].region
        figures = [row[: region.width] for row in rows[top : top + region.height] if "4.0 tok/s" in row]
        assert len(figures) == 1 and figures[0].startswith(below) and "4 tokens · 4.0 tok/s ·" in figures[0]
        assert pane.views[0].has_class("panel")
        await pilot.press("escape")  # the focused lane alone has the accent
        await until(lambda: pane.views[0].has_focus)
        await pilot.pause()
        accent = app.theme_variables["primary"].lower()
        accented = [view.styles.border_top[1].hex.lower() == accent for view in pane.views if view.display]
        assert accented == [True, *[False] * (len(accented) - 1)]
