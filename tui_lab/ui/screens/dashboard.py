"""The dashboard: one run at a glance, of the same widgets as the panes: how it stands, its loss, what the
model still knows, its memory, and what it answers. A large window shows all tiles beside each other; a small
one opens the tile that has the focus and leaves the others a line each."""

from __future__ import annotations

from functools import partial

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from tui_lab.core.errors import LabError
from tui_lab.decoding.strategies import FAMILIES, Lane
from tui_lab.playground.messages import Event, GenerateRequest
from tui_lab.runs.folder import Run
from tui_lab.runs.state import RunState
from tui_lab.ui.actions.registry import bindings, first_key
from tui_lab.ui.screens import load_adapter
from tui_lab.ui.screens.run_pane import RunPane
from tui_lab.ui.views import probe
from tui_lab.ui.views import run as run_text
from tui_lab.ui.views.plot_data import quantity
from tui_lab.ui.views.saved_comparison import History
from tui_lab.ui.views.spans import TextSpan
from tui_lab.ui.widgets.feed import Feed
from tui_lab.ui.widgets.lane_view import LaneView
from tui_lab.ui.widgets.machine_view import MemoryView
from tui_lab.ui.widgets.run_plots import RunPlot
from tui_lab.ui.widgets.tile import Tile

#: From here on all tiles beside each other; two by two; below that one open tile at a time.
WIDE_COLUMNS, GRID_COLUMNS, GRID_ROWS = 160, 100, 28
#: Tokens of an answer: enough for a tile.
ANSWER_TOKENS = 96
FIRST_PROMPT = "Tell me a story about a cat."
#: Where Enter on a tile leads: the pane, and its tab.
LEADS_TO = {
    "loss": ("tune", "loss"),
    "retention": ("keep", ""),
    "memory": ("tune", "memory"),
    "lane": ("compare", ""),
    "events": ("tune", "events"),
}


class DashboardPane(RunPane):
    """The pane."""

    GROUP = "dashboard"
    AUTO_FOCUS = "#loss"
    BINDINGS = bindings("dashboard")
    DEFAULT_CSS = """
    DashboardPane #tiles { height: 1fr; }
    DashboardPane #events { display: none; }
    DashboardPane.-two #tiles { layout: grid; grid-size: 2 2; grid-gutter: 0 1; }
    DashboardPane.-all #tiles { layout: grid; grid-size: 3 2; grid-gutter: 0 1; }
    DashboardPane.-all #events { display: block; }
    DashboardPane.-all #lane { row-span: 2; }
    DashboardPane .hidden { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.open_tile = "loss"
        self._prompt = ""
        self._answers = False  # the lane shows an answer that was asked for here

    def compose_body(self) -> ComposeResult:
        yield Static(id="state")
        samples = Feed("What the model answers appears here, now and then during the run.")
        events_feed = Feed("What happens in the run appears here.")
        lane = LaneView(Lane(FAMILIES["greedy"].start), 1, classes="hidden")
        for inner in (samples, events_feed, lane):
            inner.can_focus = False  # the tile has it
        with Container(id="tiles"):
            yield Tile("Loss", RunPlot("loss"), id="loss")
            yield Tile("Retention", RunPlot("retention"), id="retention")
            yield Tile("Lane", samples, lane, id="lane")
            yield Tile("Memory", MemoryView(), id="memory")
            yield Tile("Events", events_feed, id="events")

    @property
    def idle_actions(self) -> frozenset[str]:
        return super().idle_actions | ({"ask"} if self.watcher is None else set())

    # ------------------------------------------------------------------ lay-out

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        everything = width >= WIDE_COLUMNS and height >= GRID_ROWS
        self.set_class(everything, "-all")
        self.set_class(not everything and width >= GRID_COLUMNS and height >= GRID_ROWS, "-two")
        self._arrange()

    @property
    def stacked(self) -> bool:
        """Whether one tile is open at a time."""
        return not (self.has_class("-all") or self.has_class("-two"))

    def _arrange(self) -> None:
        for tile in self.query(Tile):
            tile.set_class(self.stacked and tile.id != self.open_tile, "-closed")

    @on(events.DescendantFocus)
    def _focused(self, event: events.DescendantFocus) -> None:
        if isinstance(event.widget, Tile) and event.widget.id:
            self.open_tile = event.widget.id
            self._arrange()

    def action_tile(self, by: int) -> None:
        tiles = [tile for tile in self.query(Tile) if tile.display]
        at = next((n for n, tile in enumerate(tiles) if tile.id == self.open_tile), 0)
        tiles[(at + by) % len(tiles)].focus()

    @on(Tile.Opened)
    def action_open(self) -> None:
        """Opens the pane that the tile with the focus is taken from."""
        self._go_to(*LEADS_TO[self.open_tile])

    def action_flags(self) -> None:
        """All that goes wrong stands on Tune."""
        self._go_to("tune", "about")

    def _go_to(self, pane: str, tab: str) -> None:
        if self.watcher is not None:
            self.lab.run_id = self.watcher.run.id
        self.lab.action_pane(pane)
        if tab:
            self.app.call_after_refresh(
                lambda: self.app.run_worker(self._show_tab(pane, tab), group="tab", exit_on_error=False)
            )

    async def _show_tab(self, pane: str, tab: str) -> None:
        if self.lab.pane == pane:
            await self.app.run_action(f"tab('{tab}')", self.app.screen)

    # ------------------------------------------------------------------ drawing

    def forget_run(self) -> None:
        for tile in self.query(Tile):
            tile.tell(())
        for feed in self.query(Feed):
            feed.replace([])
        self._show_lane(False)

    def probe_rows(self) -> list[Content]:
        """Of these lines only the flag: the verdict stands on its tile."""
        return super().probe_rows()[-1:] if self._flags else []

    def draw_run(self, key: str, state: RunState) -> None:
        super().draw_run(key, state)
        self.query_one(MemoryView).take(state, self.status)
        samples = [run_text.sample_parts(sample) for sample in state.samples]
        self.query_one("#lane Feed", Feed).update_entries(samples)
        self.query_one("#events Feed", Feed).update_entries(
            [run_text.note_parts(note) for note in state.notes]
        )
        tell = {tile.id: tile.tell for tile in self.query(Tile)}
        if state.loss.values:
            tell["loss"]([(quantity(state.loss.last, "number"), "train"), (f" at step {state.step}", "axis")])
        tell["retention"](probe.verdict_line(state) or [("not probed yet", "axis")])
        tell["memory"](run_text.memory_parts(state))
        if state.notes:
            tell["events"]([(state.notes[-1].text, "axis")])
        if not self._answers:
            self._tell_samples(state)

    def _tell_samples(self, state: RunState) -> None:
        words: list[TextSpan] = [(f"{first_key('dashboard.ask', self.keymap)} asks the model", "axis")]
        if state.samples:
            last = state.samples[-1]
            words = [(f"sample of step {last.get('step', '?')}: ", "axis"), (str(last.get("text", "")), "")]
        self.query_one("#lane", Tile).tell(words)

    # ------------------------------------------------------------------ one lane

    def _show_lane(self, answers: bool) -> None:
        self._answers = answers
        self.query_one(LaneView).set_class(not answers, "hidden")
        self.query_one("#lane Feed").set_class(answers, "hidden")

    def action_samples(self) -> None:
        """Back from an answer to the run's samples."""
        self._show_lane(False)
        if self.watcher is not None:
            self._tell_samples(self.watcher.state)

    def action_ask(self) -> None:
        """Asks for a prompt, and the model of the run for an answer."""
        from tui_lab.ui.widgets.dialogs import AskText

        if self.watcher is None:
            self.notice(self._no_run(), "warning")
            return
        replay = self.lab.replay_of(self.watcher.run)
        run = replay.original if replay else self.watcher.run
        known = self._prompt or next(reversed(History().prompts), FIRST_PROMPT)
        saved = run.adapter_path.is_dir() or run.model_path.is_dir()
        who = "the tuned model" if saved else "the base model (the run has saved nothing yet)"
        self.app.push_screen(AskText(f"Ask {who}", known), lambda text: self._answer(run, text or "", saved))

    def _answer(self, run: Run, prompt: str, saved: bool) -> None:
        if prompt:
            self._prompt = prompt
            self._stream(run, prompt, saved)

    @work(exclusive=True, group="generate", exit_on_error=False)
    async def _stream(self, run: Run, prompt: str, saved: bool) -> None:
        host, view = self.lab.host, self.query_one(LaneView)
        tile = self.query_one("#lane", Tile)
        tile.tell([(prompt, "axis")])
        view.set_lane(Lane(FAMILIES["greedy"].start, None, "tuned" if saved else "base"), 1)
        view.begin()
        self._show_lane(True)
        tile.focus()
        try:
            if saved:
                name = load_adapter.name_of(host, run) or await load_adapter.load_tuned(host, run)
            else:
                await load_adapter.load_base(host, run)
                name = next(iter(host.status.names), "base")  # its memory may have been freed meanwhile
            view.set_lane(Lane(FAMILIES["greedy"].start, None, name), 1)
            view.begin()
            ask = GenerateRequest(prompt, (view.lane.text,), max_new_tokens=ANSWER_TOKENS, cut=True)
            for done in await host.generate(ask, partial(self._heard, view)):
                view.finish(done)
        except LabError as error:
            self.notice(error, "error")
        finally:
            if view.is_mounted:
                view.abandon()

    @staticmethod
    def _heard(view: LaneView, event: Event) -> None:
        if view.is_mounted:
            view.take(event)
