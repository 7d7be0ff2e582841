"""Playground: one prompt or a conversation, decoded in several lanes at once, on the base model and on tuned
ones. The pane has the prompt, the lanes and the answers; the playground process decodes and streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from tui_lab.core.errors import LabError
from tui_lab.decoding.strategies import FAMILIES, PRESETS, Lane
from tui_lab.hardware.precision import QUANTIZATIONS
from tui_lab.playground.messages import (
    ChatTurn,
    GenerateRequest,
    GenerationEvent,
    LaneDone,
    PlaygroundStatus,
    PromptTooLongError,
)
from tui_lab.ui.actions.registry import ACTIONS, bindings
from tui_lab.ui.screens.ask_changes import asking
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.views import empty, lane_models
from tui_lab.ui.views import lane_layout as places
from tui_lab.ui.views.playground_settings import PlaygroundSettings, status_line
from tui_lab.ui.views.saved_comparison import History, save
from tui_lab.ui.widgets.lane_board import LaneBoard
from tui_lab.ui.widgets.lane_view import LaneMemory, LaneView
from tui_lab.ui.widgets.panel import as_panel, panel_title
from tui_lab.ui.widgets.prompt import Prompt
from tui_lab.ui.widgets.tab_bar import TabBar

if TYPE_CHECKING:
    from tui_lab.playground.client import PlaygroundClient

FIRST_PROMPT = "Tell me a story about a cat."
FIRST_SET = "six classics"
#: Strategies of the lanes that compare a tuned model with its base: two lanes each.
STRATEGIES_COMPARED = 3
MIDDLE = "Leave out its middle and keep beginning and end"
LANE_ACTIONS = {
    each.action.partition("(")[0]
    for each in ACTIONS
    if each.group == "playground" and each.id not in ("playground.run", "playground.stop", "playground.fresh")
}


class PlaygroundPane(Pane):
    """The pane."""

    GROUP = "playground"
    AUTO_FOCUS = "#prompt"
    BINDINGS = bindings("playground")
    DEFAULT_CSS = """
    PlaygroundPane.-short #prompt { height: 4; }
    PlaygroundPane #model-status {
        height: 1; padding: 0 1; background: $surface; text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.board = LaneBoard(PRESETS[FIRST_SET])
        self.settings = PlaygroundSettings()
        self.history = History()
        self.request: GenerateRequest | None = None  # of the answers on the screen
        self.results: list[LaneDone] = []
        self._status_shown: Content | None = None

    @property
    def client(self) -> PlaygroundClient:
        return self.lab.playground_client

    @property
    def views(self) -> list[LaneView]:
        """The lanes."""
        return self.board.views

    @property
    def grid(self) -> places.LaneGrid:
        """How many lanes are in view."""
        return self.board.grid

    def compose_body(self) -> ComposeResult:
        prompts = self.history.prompts
        yield Prompt(prompts[-1] if prompts else FIRST_PROMPT, id="prompt")
        yield Static(id="model-status")
        yield TabBar()
        yield self.board

    def on_mount(self) -> None:
        as_panel(self.query_one(Prompt), "Prompt")
        self.query_one(Prompt).select_all()
        self.watch(self.app, "playground_status", self._draw_status)
        self._draw_settings()
        self.lab.after_first_frame(self._warm_up)

    @work(group="playground", exit_on_error=False)
    async def _warm_up(self) -> None:
        """The bundled model is small: it is there before the first prompt is typed."""
        try:
            if not self.client.wants:
                await self.client.load("pocket")
        except LabError as error:
            self.notice(error, "error")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # in the prompt letters are text: the footer must not offer them
        if isinstance(self.focused, Prompt) and action in LANE_ACTIONS:
            return False
        return super().check_action(action, parameters)

    @property
    def situation(self) -> str:
        if isinstance(self.focused, Prompt):
            return "prompt"
        if any(each.state == "running" for each in self.views):
            return "running"
        return "answered" if self.results else ""

    @property
    def idle_actions(self) -> frozenset[str]:
        """What has no use now: the line of keys does without it, and the key says why."""
        here, view = isinstance(self.focused, Prompt), self.board.view
        useless = {
            "run": here,  # its own key, which is the prompt's, stands first
            "stop": not any(each.state == "running" for each in self.views),
            "inspect": view is None or view.done is None,
            "save": not self.results,
            "edit_answer": view is None or view.done is None,
            "fresh": not (self.settings.is_chat and self.request is not None),
        }
        return frozenset(action for action, idle in useless.items() if idle)

    # ------------------------------------------------------------------ lay-out

    @on(LaneBoard.Rearranged)
    def _draw_tabs(self) -> None:
        tabs = self.query_one(TabBar)
        tabs.display = self.grid.places < len(self.views)
        self._draw_settings()
        tabs.set_tabs([view.tab for view in self.views], str(self.board.current))
        self.refresh_bindings()  # what a lane offers changes with its state

    def _draw_settings(self) -> None:
        prompt, title = self.query_one(Prompt), "Prompt"
        if self.settings.is_chat:
            title = f"Chat, turn {1 + max((len(view.memory.conversation) for view in self.views), default=0)}"
        prompt.border_title = panel_title(title, self.keys("playground.prompt"))
        prompt.border_subtitle = Content(self.settings.summary)

    def _draw_status(self, known: PlaygroundStatus | None) -> None:
        unloaded = empty.not_loaded_yet if self.client.wants else empty.no_model
        shown = status_line(known or PlaygroundStatus(), self.settings, unloaded(self.keymap))
        if shown != self._status_shown:
            self._status_shown = shown
            self.query_one("#model-status", Static).update(shown, layout=False)

    @on(Prompt.Left)
    def _to_lanes(self) -> None:
        self.board.go_to(self.board.current)

    def action_go_to(self, number: int) -> None:
        self.board.go_to(number)

    def action_lane(self, by: int) -> None:
        self.board.go_to(self.board.current + by)

    def action_prompt(self) -> None:
        self.query_one(Prompt).focus()

    # ------------------------------------------------------------------ running

    @on(Prompt.Sent)
    def action_run(self) -> None:
        prompt, again = self.query_one(Prompt).text, False
        if not prompt.strip() and self.settings.is_chat and self.request is not None:
            prompt, again = self.request.prompt, True  # another answer to the last turn
        if not prompt.strip():
            key = self.keys("prompt.send")
            self.notice(f"The prompt is empty: type one, then press {key}.", "warning")
            self.action_prompt()
        elif not self.views:
            self.notice(f"There is no lane: {self.keys('playground.add')} adds one.", "warning")
        else:
            self._send(prompt, again)

    def _send(self, prompt: str, again: bool) -> None:
        """Sends a prompt to all lanes: alone, or as the next turn of their conversations. ``again``: the last
        turn is answered once more."""
        turns: tuple[tuple[ChatTurn, ...], ...] = ()
        if self.settings.is_chat:
            turns = tuple(view.turns if again else view.memory.conversation for view in self.views)
        lanes = self.board.lanes
        seeded = places.seeded if self.settings.same_seeds else places.with_fresh_seeds
        self.board.relabel(seeded(lanes))
        texts = tuple(view.lane.text for view in self.views)
        self._generate(self.settings.request(prompt, texts, turns), list(self.views))

    @work(exclusive=True, group="generate", exit_on_error=False)
    async def _generate(self, request: GenerateRequest, views: list[LaneView]) -> None:
        """Runs a prompt on the lanes that were there when it was asked; the run before it, if it goes on,
        ends."""
        self.request, self.results = request, []
        for number, view in enumerate(views):
            if view.is_mounted:
                view.begin(request, request.turns_of(number))
        self._draw_tabs()
        try:
            if not self.client.wants:
                await self.client.load("pocket")
            on_event = partial(self._on_event, views)
            self.results = await asking(
                self,
                lambda: self.client.generate(request, on_event, lambda _length: self._accepted(request)),
            )
            for done in self.results:
                if views[done.lane].is_mounted:
                    views[done.lane].finish(done)
            self.board.compare()
        except PromptTooLongError as error:
            self._offer_cut(request, views, error.length.tokens, error.length.context)
        except LabError as error:
            self.notice(error, "error")
        finally:
            for view in views:
                if view.is_mounted:
                    view.abandon()
            if self.is_mounted:
                self._draw_tabs()

    def _accepted(self, request: GenerateRequest) -> None:
        """Adds a prompt that fits the model's context to the history; in a chat the next one is awaited."""
        prompt = self.query_one(Prompt)
        if request.turns and prompt.text == request.prompt:
            prompt.clear()
        self.run_worker(partial(self.history.add, request.prompt), thread=True, exit_on_error=False)

    def _on_event(self, views: list[LaneView], event: GenerationEvent) -> None:
        view = views[event.lane]
        if view.is_mounted:
            view.handle(event)
            if isinstance(event, LaneDone):
                self.board.compare()
                self._draw_tabs()

    def _offer_cut(self, request: GenerateRequest, views: list[LaneView], tokens: int, context: int) -> None:
        question = (
            f"The prompt has {tokens:,} tokens and the model's context holds {context:,}. "
            f"{'Leave out the oldest turns' if any(request.turns) else MIDDLE}?"
        )

        cut = msgspec.structs.replace(request, cut=True)
        self.confirm(question, "cut it", "leave it", lambda: self._generate(cut, views))

    def action_stop(self) -> None:
        self.client.stop()

    # ------------------------------------------------------------------ lanes

    async def action_edit(self) -> None:
        if self.board.view:
            await self.board.view.edit()

    async def _insert(self, memory: LaneMemory) -> LaneView | None:
        if len(self.views) >= places.MAX_LANES:
            self.notice(f"{places.MAX_LANES} lanes are the most.", "warning")
            return None
        return await self.board.insert(memory)

    async def action_add(self) -> None:
        if view := await self._insert(LaneMemory(Lane(FAMILIES["top-p"].start, 1))):
            await view.edit()

    async def action_duplicate(self) -> None:
        if self.board.view is None:
            return
        memory = self.board.view.memory.branch
        turns = memory.turns if self.settings.is_chat else ()
        await self._insert(replace(memory, lane=places.again(memory.lane), turns=turns))

    async def action_remove(self) -> None:
        if self.board.view is None:
            return
        await self.board.remove_current()
        if not self.views:
            self.action_prompt()

    async def set_lanes(self, lanes: Sequence[Lane]) -> None:
        """Other lanes in place of those that are there."""
        self.action_stop()
        await self.board.replace(lanes)

    async def action_undo(self) -> None:
        self.action_stop()
        if not await self.board.undo():
            self.notice("No change of the lanes is left to undo.")

    async def action_base(self) -> None:
        """All lanes on the base, on both, or on what was tuned."""
        tuned = self.client.names[1:]
        if not tuned:
            self.notice("No tuned model is loaded yet: choose a run.")
            self.action_tuned()
            return
        lanes = self.board.lanes
        used = [lane.on for lane in lanes if lane.on in tuned]
        await self._set_models(lane_models.next_models(lanes), used[-1] if used else tuned[-1])

    async def _set_models(self, models: lane_models.Models, tuned: str) -> None:
        lanes = lane_models.on_models(self.board.lanes, models, tuned)
        if len(lanes) > places.MAX_LANES:
            self.notice(
                f"On both models these would be {len(lanes)} lanes; {places.MAX_LANES} are the most.",
                "warning",
            )
            return
        await self.set_lanes(lanes)

    def action_sets(self) -> None:
        sets = places.presets(self.client.names)

        async def take(number: int) -> None:
            await self.set_lanes(list(sets.values())[number])
            self._to_lanes()

        lines = [(name, ", ".join(lane.text for lane in lanes)) for name, lanes in sets.items()]
        self.pick("Lane presets", lines, take)

    # ------------------------------------------------------------------ settings

    def action_options(self, at: str = "") -> None:
        from tui_lab.ui.screens.playground_options import PlaygroundOptions

        status = self.client.status
        can_think = status.can_think or not status.loaded
        self.app.push_screen(PlaygroundOptions(self.settings, self._take_settings, at, can_think))

    def _take_settings(self, settings: PlaygroundSettings) -> None:
        self.settings = settings
        self._draw_settings()
        self._draw_status(self.client.status)

    def action_chat(self) -> None:
        status = self.client.status
        if not self.settings.is_chat and status.loaded and not status.has_template:
            self.notice(
                "A chat needs a chat template, and this model has none. "
                f"{self.keys('playground.model')} loads a chat model.",
                "warning",
            )
            return
        self._take_settings(replace(self.settings, chat=not self.settings.is_chat, raw=False))
        if self.settings.chat:
            prompt = self.query_one(Prompt)
            if self.request is not None and prompt.text == self.request.prompt:
                prompt.clear()
            self.action_prompt()

    def action_fresh(self) -> None:
        self.action_stop()
        self.board.remember()
        for view in self.views:
            view.forget()
        self.request, self.results = None, []
        self._draw_tabs()
        self.action_prompt()

    def action_history(self) -> None:
        prompts = self.history.prompts[::-1]
        if not prompts:
            self.notice("No prompt has been run yet.")
            return

        def take(number: int) -> None:
            self.query_one(Prompt).text = prompts[number]
            self.action_prompt()

        self.pick("Prompts, newest first", [(p, "") for p in prompts], take)

    # ------------------------------------------------------------------ models

    def action_model(self) -> None:
        from tui_lab.ui.screens.pick_model import PickModel

        self.app.push_screen(PickModel(self.client.wants or "pocket"), self._load)

    def _load(self, wanted: tuple[str, str] | None) -> None:
        if wanted is not None:
            self._load_model(*wanted)

    @work(exclusive=True, group="playground", exit_on_error=False)
    async def _load_model(self, model: str, precision: str = "auto") -> None:
        quantization, dtype = (precision, "auto") if precision in QUANTIZATIONS else ("none", precision)
        try:
            load = partial(self.client.load, model, quantization=quantization, dtype=dtype)
            status = await asking(self, load)
        except LabError as error:
            self.notice(error, "error")
            return
        if len(status.names) > 1:
            await self._show_tuned(status.names[-1])
        await self._drop_lost_lanes()

    async def _drop_lost_lanes(self) -> None:
        """Lanes on what is not loaded any more run on the base again."""
        names = self.client.names
        if any(view.lane.on and view.lane.on not in names for view in self.views):
            await self.set_lanes(lane_models.on_models(self.board.lanes, "base", ""))

    def action_tuned(self) -> None:
        self.pick_run(self.lab.run_id, self.compare_run)

    @work(exclusive=True, group="playground", exit_on_error=False)
    async def compare_run(self, run_id: str, strategies: int = STRATEGIES_COMPARED) -> None:
        """Loads what a run left beside its base, and lanes that show the difference."""
        from tui_lab.runs.folder import open_run
        from tui_lab.ui.screens.load_adapter import load_tuned

        try:
            name = await asking(self, partial(load_tuned, self.client, open_run(run_id), run_id))
        except LabError as error:
            self.notice(error, "error")
            return
        await self._show_tuned(name, strategies)
        undo = f"{self.keys('playground.undo')} on a lane restores the lanes"
        self.notice(f"{name} is loaded beside its base. {undo}.")

    async def _show_tuned(self, name: str, strategies: int = STRATEGIES_COMPARED) -> None:
        """Lanes that compare a tuned model with its base: those that are there, or two for each of some
        strategies in place of the first set."""
        lanes = self.board.lanes
        if [replace(lane, on="") for lane in lanes] == list(PRESETS[FIRST_SET]) or not lanes:
            await self.set_lanes(places.base_against(name, strategies))
        else:
            await self._set_models("both", name)

    @work(exclusive=True, group="playground", exit_on_error=False)
    async def action_unload(self) -> None:
        try:
            await self.client.unload()
        except LabError as error:
            self.notice(error, "error")

    # ------------------------------------------------------------------ taking along

    def action_copy(self) -> None:
        if self.board.view and self.board.view.text:
            self.copy(self.board.view.text, "the text of the lane")
        else:
            self.notice("This lane has no text yet.", "warning")

    def action_save(self) -> None:
        if self.request is None or not self.results:
            self.notice("There is nothing to save yet: run a prompt first.", "warning")
            return
        self.in_thread(
            partial(save, self.request, self.client.status, list(self.results)),
            lambda path: self.notice(f"Saved as {path} and .json beside it."),
            "save",
        )

    # ------------------------------------------------------------------ looking closer

    def action_inspect(self) -> None:
        from tui_lab.ui.screens.inspector import inspect_current

        inspect_current(self, self.client, self.board)

    def action_edit_answer(self) -> None:
        from tui_lab.ui.screens.votes import edit_answer

        if self.board.view is not None:
            edit_answer(self, self.client, self.board.view)

    def action_votes(self) -> None:
        from tui_lab.ui.screens.votes import open_votes

        open_votes(self)

    def action_predictions(self) -> None:
        from tui_lab.ui.screens.predictions import open_for_lanes

        open_for_lanes(self, self.client)

    def action_blind(self) -> None:
        from tui_lab.ui.screens.blind import start_blind

        lanes = tuple(view.lane.text for view in self.views)
        asked = [view.memory.conversation for view in self.views]
        chat = max(asked, key=len, default=()) if self.settings.is_chat else ()
        start_blind(self, self.client, lanes, self.settings, [turn.prompt for turn in chat])
