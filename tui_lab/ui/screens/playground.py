"""Playground: one prompt, decoded in several lanes at once, on the base model and on tuned ones. The pane has
the prompt, the lanes and the answers; the playground process decodes and streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from tui_lab.core.errors import LabError
from tui_lab.core.format import size
from tui_lab.core.sanitize import sanitize
from tui_lab.data.prompt_settings import ThinkingMode
from tui_lab.decoding.strategies import FAMILIES, PRESETS, Lane
from tui_lab.playground.messages import (
    GenerateRequest,
    GenerationEvent,
    LaneDone,
    PlaygroundStatus,
    PromptTooLongError,
)
from tui_lab.ui.actions.registry import ACTIONS, bindings
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.terminal.textual_internals import call_after_layout
from tui_lab.ui.views import empty
from tui_lab.ui.views import lane_layout as places
from tui_lab.ui.views.saved_comparison import History, save
from tui_lab.ui.views.states import PLAYGROUND_STATES
from tui_lab.ui.widgets.lane_view import LaneView
from tui_lab.ui.widgets.panel import as_panel
from tui_lab.ui.widgets.prompt import Prompt
from tui_lab.ui.widgets.tab_bar import TabBar

if TYPE_CHECKING:
    from tui_lab.playground.client import PlaygroundClient

FIRST_PROMPT = "Tell me a story about a cat."
FIRST_SET = "six classics"
FIRST_TOKENS = 64
HOST_COLOURS = {"busy": "$state-running", "died": "$state-failed", "ready": "$state-finished"}
LANE_ACTIONS = {
    each.action.partition("(")[0]
    for each in ACTIONS
    if each.group == "playground" and each.id not in ("playground.run", "playground.stop")
}


class PlaygroundPane(Pane):
    """The pane."""

    GROUP = "playground"
    AUTO_FOCUS = "#prompt"
    BINDINGS = bindings("playground")
    DEFAULT_CSS = """
    PlaygroundPane.-short #prompt { height: 4; }
    PlaygroundPane #model-status { height: 1; padding: 0 1; background: $surface; }
    PlaygroundPane #lanes { height: 1fr; layout: grid; grid-size: 1 1; grid-gutter: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.views: list[LaneView] = [LaneView(lane, n) for n, lane in enumerate(PRESETS[FIRST_SET], 1)]
        self.current = 0
        self.grid = places.LaneGrid(1, 1)
        self.raw, self.system, self.max_new_tokens, self.same_seeds = False, "", FIRST_TOKENS, True
        self.thinking: ThinkingMode = "auto"
        self.history = History()
        self.request: GenerateRequest | None = None  # of the answers on the screen
        self.results: list[LaneDone] = []
        self._status_shown: Content | None = None

    @property
    def client(self) -> PlaygroundClient:
        return self.lab.playground_client

    def compose_body(self) -> ComposeResult:
        prompts = self.history.prompts
        yield Prompt(prompts[-1] if prompts else FIRST_PROMPT, id="prompt")
        yield Static(id="model-status")
        yield TabBar()
        with Container(id="lanes"):
            yield from self.views

    def on_mount(self) -> None:
        as_panel(self.query_one(Prompt), "Prompt", self.keys("playground.prompt"))
        self.query_one(Prompt).select_all()
        self.watch(self.app, "playground_status", self._draw_status)
        self._draw_settings()
        self.lab.after_first_frame(self._warm_up)

    @work(group="playground", exit_on_error=False)
    async def _warm_up(self) -> None:
        """The bundled model is small: it is there before the first prompt is typed."""
        if self.client.wants:
            return
        try:
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
        here, view = isinstance(self.focused, Prompt), self._view
        useless = {
            "run": here,  # its own key, which is the prompt's, stands first
            "stop": not any(each.state == "running" for each in self.views),
            "inspect": view is None or view.done is None,
            "save": not self.results,
        }
        return frozenset(action for action, idle in useless.items() if idle)

    # ------------------------------------------------------------------ lay-out

    def on_resize(self, _event: events.Resize) -> None:
        call_after_layout(self, self._arrange)

    def _arrange(self) -> None:
        """Shows the page of the current lane, in the grid that the window allows."""
        area = self.query_one("#lanes")
        self.current = max(0, min(self.current, len(self.views) - 1))
        self.grid = places.grid(area.size.width, area.size.height, len(self.views))
        shown = places.page(self.grid, len(self.views), self.current)
        area.styles.grid_size_columns = self.grid.columns
        area.styles.grid_size_rows = self.grid.rows
        for number, view in enumerate(self.views):
            was = view.display
            view.display = number in shown
            if view.display and not was:
                view.show_again()
        self._draw_tabs()

    def _draw_tabs(self) -> None:
        tabs = self.query_one(TabBar)
        tabs.display = self.grid.places < len(self.views)
        tabs.set_tabs([view.tab for view in self.views], str(self.current))
        self.refresh_bindings()  # what a lane offers changes with its state

    def _draw_settings(self) -> None:
        details = [
            "plain text" if self.raw else "chat template",
            *(["system prompt"] if self.system and not self.raw else []),
            *([f"thinking {self.thinking}"] if self.thinking != "auto" and not self.raw else []),
            f"up to {self.max_new_tokens} tokens",
            "same seeds" if self.same_seeds else "fresh seeds",
        ]
        self.query_one(Prompt).border_subtitle = Content(" · ".join(details))

    def _draw_status(self, known: PlaygroundStatus | None) -> None:
        status = known or PlaygroundStatus()
        parts = []
        if status.loaded:
            precision = "nf4" if status.quantization == "nf4" else status.dtype
            parts = [status.model, precision, status.device, size(status.memory_bytes)]
            parts += [f"on {', '.join(status.names)}"] if len(status.names) > 1 else []
            if status.can_think:
                on = status.thinking if self.thinking == "auto" else self.thinking == "on"
                parts.append(f"thinking {'on' if on else 'off'}")
            parts += status.speed.parts if status.speed else []
        if status.text:
            parts.append(status.text + ("; the next run starts it again" if status.state == "died" else ""))
        elif not parts:
            parts.append(
                f"no model is loaded: {self.keys('prompt.send')} loads the last one"
                if self.client.wants
                else empty.no_model(self.keymap)
            )
        look = PLAYGROUND_STATES[status.state]
        state = f"{look.glyph} {look.word}"
        shown = Content.assemble(
            (state, f"bold {HOST_COLOURS.get(status.state, '')}"), "  ", sanitize(" · ".join(parts))
        )
        if shown != self._status_shown:
            self._status_shown = shown
            self.query_one("#model-status", Static).update(shown, layout=False)

    @on(events.DescendantFocus)
    def _focused(self, event: events.DescendantFocus) -> None:
        view = next((each for each in event.widget.ancestors_with_self if isinstance(each, LaneView)), None)
        if view in self.views:
            self.current = self.views.index(view)
            self._draw_tabs()

    @on(Prompt.Left)
    def _to_lanes(self) -> None:
        if self.views:
            self.views[self.current].focus()

    def _go_to(self, number: int) -> None:
        if self.views:
            self.current = number % len(self.views)
            self._arrange()
            self.views[self.current].focus()

    def action_go_to(self, number: int) -> None:
        self._go_to(number)

    def action_lane(self, by: int) -> None:
        self._go_to(self.current + by)

    def action_prompt(self) -> None:
        self.query_one(Prompt).focus()

    # ------------------------------------------------------------------ running

    @on(Prompt.Sent)
    def action_run(self) -> None:
        prompt = self.query_one(Prompt).text
        if not prompt.strip():
            key = self.keys("prompt.send")
            self.notice(f"The prompt is empty: type one, then press {key}.", "warning")
            self.action_prompt()
        elif not self.views:
            self.notice(f"There is no lane: {self.keys('playground.add')} adds one.", "warning")
        else:
            lanes = [view.lane for view in self.views]
            self._relabel(places.seeded(lanes) if self.same_seeds else places.with_fresh_seeds(lanes))
            texts = tuple(view.lane.text for view in self.views)
            request = GenerateRequest(
                prompt, texts, self.system, self.raw, self.thinking, self.max_new_tokens
            )
            self._generate(request, list(self.views))

    def _relabel(self, lanes: Sequence[Lane]) -> None:
        for number, (view, lane) in enumerate(zip(self.views, lanes, strict=True), 1):
            view.set_lane(lane, number)

    @work(exclusive=True, group="generate", exit_on_error=False)
    async def _generate(self, request: GenerateRequest, views: list[LaneView]) -> None:
        """Runs a prompt on the lanes that were there when it was asked; the run before it, if it goes on,
        ends."""
        self.request, self.results = request, []
        for view in views:
            if view.is_mounted:
                view.begin()
        self._draw_tabs()
        try:
            if not self.client.wants:
                await self.client.load("pocket")
            self.results = await self.client.generate(
                request, partial(self._on_event, views), lambda _length: self._remember(request.prompt)
            )
            for done in self.results:
                if views[done.lane].is_mounted:
                    views[done.lane].finish(done)
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

    def _remember(self, prompt: str) -> None:
        """Adds a prompt that fits the model's context to the history."""
        self.run_worker(partial(self.history.add, prompt), thread=True, exit_on_error=False)

    def _on_event(self, views: list[LaneView], event: GenerationEvent) -> None:
        view = views[event.lane]
        if view.is_mounted:
            view.handle(event)
            if isinstance(event, LaneDone):
                self._draw_tabs()

    def _offer_cut(self, request: GenerateRequest, views: list[LaneView], tokens: int, context: int) -> None:
        question = (
            f"The prompt has {tokens:,} tokens and the model's context holds {context:,}. "
            "Leave out its middle and keep beginning and end?"
        )

        cut = msgspec.structs.replace(request, cut=True)
        self.confirm(question, "cut it", "leave it", lambda: self._generate(cut, views))

    def action_stop(self) -> None:
        self.client.stop()

    # ------------------------------------------------------------------ lanes

    @property
    def _view(self) -> LaneView | None:
        # while a lane is being removed its number is that of no other
        return self.views[self.current] if self.current < len(self.views) else None

    async def action_edit(self) -> None:
        if self._view:
            await self._view.edit()

    async def _insert(self, lane: Lane) -> LaneView | None:
        if len(self.views) >= places.MAX_LANES:
            self.notice(f"{places.MAX_LANES} lanes are the most.", "warning")
            return None
        at = self.current + 1 if self.views else 0
        view = LaneView(lane, at + 1)
        after = self.views[at - 1] if self.views else None
        self.views.insert(at, view)
        await self.query_one("#lanes").mount(view, after=after)
        self._relabel([each.lane for each in self.views])
        self._go_to(at)
        return view

    async def action_add(self) -> None:
        if view := await self._insert(Lane(FAMILIES["top-p"].start, 1)):
            await view.edit()

    async def action_duplicate(self) -> None:
        if self._view is None:
            return
        lane = self._view.lane
        if lane.strategy.random:
            lane = replace(lane, seed=(lane.seed or 0) + 1)  # the same again would only say the same
        await self._insert(lane)

    async def action_remove(self) -> None:
        if self._view is None:
            return
        await self.views.pop(self.current).remove()
        self._relabel([each.lane for each in self.views])
        if self.views:
            self._go_to(min(self.current, len(self.views) - 1))
        else:
            self.action_prompt()

    async def set_lanes(self, lanes: Sequence[Lane]) -> None:
        """Other lanes in place of those that are there."""
        for view in self.views:
            await view.remove()
        self.current = 0
        self.views = [LaneView(lane, number) for number, lane in enumerate(lanes, 1)]
        await self.query_one("#lanes").mount(*self.views)
        self._arrange()

    def action_sets(self) -> None:
        sets = places.presets(self.client.status.names)

        async def take(number: int) -> None:
            await self.set_lanes(list(sets.values())[number])
            self._to_lanes()

        lines = [(name, ", ".join(lane.text for lane in lanes)) for name, lanes in sets.items()]
        self.pick("Sets of lanes", lines, take)

    # ------------------------------------------------------------------ settings

    def action_template(self) -> None:
        self.raw = not self.raw
        self._draw_settings()

    def action_thinking(self) -> None:
        status = self.client.status
        if status.loaded and not status.can_think:
            self.notice("This model's chat template has no thinking to switch.", "warning")
            return
        following: dict[ThinkingMode, ThinkingMode] = {"auto": "on", "on": "off", "off": "auto"}
        self.thinking = following[self.thinking]
        self._draw_settings()
        self._draw_status(status)

    def action_seeds(self) -> None:
        self.same_seeds = not self.same_seeds
        self._draw_settings()

    def action_system(self) -> None:
        def take(text: str) -> None:
            self.system = "" if text == "-" else text or self.system
            self._draw_settings()

        self.ask("System prompt (- for none)", self.system, take)

    def action_tokens(self) -> None:
        def take(text: str) -> None:
            if text.isascii() and text.isdigit() and 1 <= int(text) <= 32_768:
                self.max_new_tokens = int(text)
                self._draw_settings()
            elif text:
                self.notice(f"New tokens are a whole number from 1 to 32,768, not {text!r}.", "error")

        self.ask("At most how many new tokens a lane?", str(self.max_new_tokens), take)

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
            model, precision = wanted
            self._load_model(model, precision)

    @work(exclusive=True, group="playground", exit_on_error=False)
    async def _load_model(self, model: str, precision: str = "auto") -> None:
        quantization, dtype = ("nf4", "auto") if precision == "nf4" else ("none", precision)
        try:
            status = await self.client.load(model, quantization=quantization, dtype=dtype)
        except LabError as error:
            self.notice(error, "error")
            return
        if len(status.names) > 1:
            await self.set_lanes(places.base_against(status.names[-1]))
        await self._drop_lost_lanes()

    async def _drop_lost_lanes(self) -> None:
        """Lanes on what is not loaded any more run on the base again."""
        names = self.client.status.names
        if any(view.lane.on and view.lane.on not in names for view in self.views):
            await self.set_lanes(PRESETS[FIRST_SET])

    def action_tuned(self) -> None:
        self.pick_run(self.lab.run_id, self.compare_run)

    @work(exclusive=True, group="playground", exit_on_error=False)
    async def compare_run(self, run_id: str) -> None:
        """Loads what a run left beside its base, and lanes that show the difference."""
        from tui_lab.runs.folder import open_run
        from tui_lab.ui.screens.load_adapter import load_tuned

        try:
            name = await load_tuned(self.client, open_run(run_id), run_id)
        except LabError as error:
            self.notice(error, "error")
            return
        await self.set_lanes(places.base_against(name))
        self.notice(f"Run {run_id} is loaded as {name!r}, together with its base.")

    @work(exclusive=True, group="playground", exit_on_error=False)
    async def action_unload(self) -> None:
        try:
            await self.client.unload()
        except LabError as error:
            self.notice(error, "error")

    # ------------------------------------------------------------------ taking along

    def action_copy(self) -> None:
        if self._view and self._view.text:
            self.app.copy_to_clipboard(self._view.text)
            self.notice("The lane's text is in the clipboard (if your terminal allows that).")
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
        view = self._view
        if view is None or view.done is None or self.request is None:
            self.notice("Run a prompt first; then look into a lane that has ended.", "warning")
            return
        from tui_lab.ui.screens.inspector import inspect_lane

        self.app.push_screen(inspect_lane(self.client, self.request, view.done, view.beams))

    def action_blind(self) -> None:
        from tui_lab.ui.screens.blind import start_blind

        lanes = tuple(view.lane.text for view in self.views)
        start_blind(self, self.client, lanes, self.system, self.raw, self.max_new_tokens, self.thinking)
