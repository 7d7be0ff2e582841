"""Tune: one run, live or ended, drawn from its folder and nothing else. It is read on a timer in bounded
portions, so that a log of any size never holds the lab; pausing, checkpoints and stopping are commands
that the run acknowledges."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from textual import events, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from tui_lab.errors import LabError
from tui_lab.runs import commands
from tui_lab.runs.flags import Flag, flags
from tui_lab.runs.folder import Run, list_runs, open_run
from tui_lab.runs.state import ENDED, Watcher
from tui_lab.safe_text import visible
from tui_lab.ui import cost_text, probe_text, run_text
from tui_lab.ui.actions import bindings, keys_of
from tui_lab.ui.pane import Pane
from tui_lab.ui.telemetry_text import about_machine
from tui_lab.ui.widgets.feed import Feed, Part
from tui_lab.ui.widgets.header import STATE_ROLES, state_text
from tui_lab.ui.widgets.machine_view import MemoryPart
from tui_lab.ui.widgets.plot import Plot
from tui_lab.ui.widgets.run_plots import RunPlot
from tui_lab.ui.widgets.tabs_line import TabsLine

if TYPE_CHECKING:
    from tui_lab.ui.app import LabApp

TABS = (
    ("loss", "Loss"),
    ("retention", "Retention"),
    ("kl", "KL"),
    ("memory", "Memory"),
    ("speed", "Speed"),
    ("rate", "Rate"),
    ("samples", "Samples"),
    ("events", "Events"),
    ("about", "About"),
)
POLL_S = 0.3
#: A run that has ended may be resumed by somebody else, and one behind another pane is only named.
IDLE_POLL_S = 1.5
#: While a long log is being caught up with, portions follow one another with a breath for the keyboard.
CATCH_UP_S = 0.02
PORTION_RECORDS = 4_000
#: Seconds between two looks at whether the process lives.
LIVENESS_S = 1.0
#: Seconds between two looks for what goes wrong: its rules read the whole of every curve.
FLAGS_S = 1.0
GRID_COLUMNS, GRID_ROWS = 100, 32
NO_RUN = "No run yet. Press F2, choose a model and data (or nothing: the defaults work), and press S."


def _colour(role: str) -> str:
    """A semantic name as a style of Textual's; dim for what is said beside the matter."""
    return "dim" if role == "axis" else f"bold ${role}" if role else ""


class TunePane(Pane):
    """The pane."""

    GROUP = "tune"
    AUTO_FOCUS = ""
    BINDINGS = bindings("tune")
    DEFAULT_CSS = """
    TunePane #state { height: auto; min-height: 3; max-height: 6; padding: 0 1; background: $surface; }
    TunePane #state.-trouble { max-height: 8; }
    TunePane #parts { height: 1fr; }
    TunePane .part { height: 1fr; display: none; padding: 0 1; }
    TunePane .part.-active { display: block; }
    TunePane.-grid TabsLine { display: none; }
    TunePane.-grid #parts {
        layout: grid; grid-size: 24 3; grid-rows: 5fr 4fr 3fr; grid-columns: 1fr; grid-gutter: 0;
    }
    TunePane.-grid .part { display: block; height: 100%; }
    TunePane.-grid .part { column-span: 5; }
    TunePane.-grid #loss, TunePane.-grid #retention { column-span: 12; }
    TunePane.-grid #memory { column-span: 9; }
    TunePane.-grid .text { column-span: 8; margin-right: 1; }
    TunePane .text { border-top: solid $panel-lighten-2; border-title-color: $primary; padding: 0; }
    TunePane .text:focus-within { border-top: heavy $primary; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.watcher: Watcher | None = None
        self.liveness = ""
        self._looked_at = 0.0
        self._tick = 0
        self._timer: Timer | None = None
        self._asked: dict[str, str] = {}  # command id → name, until acknowledged
        self._notes_shown: tuple[int, float] = (0, 0.0)
        self._samples_shown: tuple[int, int] = (0, -1)
        self._about: list[Part] = []
        self._stamp: tuple[int, str] | None = None
        self._told: tuple[Content, bool] | None = None
        self._lines_told = 0
        self._flags: list[Flag] = []
        self._flagged_at = 0.0
        self.grid = False

    @property
    def lab(self) -> LabApp:
        return cast("LabApp", self.app)

    @property
    def run_shown(self) -> Run | None:
        return self.watcher.run if self.watcher else None

    def compose_body(self) -> ComposeResult:
        yield Static(id="state")
        yield TabsLine(TABS)
        with Container(id="parts"):
            for kind in ("loss", "retention"):
                yield Vertical(RunPlot(kind), id=kind, classes="part").set_class(kind == "loss", "-active")
            yield Vertical(RunPlot("kl"), id="kl", classes="part")
            yield MemoryPart(id="memory", classes="part")
            for kind in ("speed", "rate"):
                yield Vertical(RunPlot(kind), id=kind, classes="part")
            with Vertical(id="events", classes="part text") as part:
                part.border_title = "Events"
                yield Feed("What happens in the run appears here.")
            with Vertical(id="samples", classes="part text") as part:
                part.border_title = "Samples"
                yield Feed("What the model answers appears here, now and then during the run.")
            with Vertical(id="about", classes="part text") as about:
                about.border_title = "About this run"
                yield Feed("What is known of the run appears here.", auto_scroll=False)

    def on_mount(self) -> None:
        marker: Any = self.app.marker  # type: ignore[attr-defined]
        for plot in self.query(Plot):
            plot.set_options(marker=marker)
        self.watch(self.app, "run_id", self._open)

    def on_resize(self, event: events.Resize) -> None:
        self.grid = event.size.width >= GRID_COLUMNS and event.size.height >= GRID_ROWS
        self.set_class(self.grid, "-grid")

    # ------------------------------------------------------------------ which run

    def _open(self, run_id: str) -> None:
        """Shows the run that the app names, else the newest."""
        run: Run | None = None
        try:
            run = open_run(run_id) if run_id else next(iter(list_runs()), None)
        except LabError as error:
            self.notice(error, "error")
        if run is None:
            self.watcher = None
            self._draw_state()
            return
        if self.watcher is not None and self.watcher.run.path == run.path:
            return
        self.watcher = Watcher(run)
        self.liveness, self._looked_at, self._stamp = "", 0.0, None
        self._flags, self._flagged_at = [], 0.0
        self._notes_shown, self._samples_shown, self._about = (0, 0.0), (0, -1), []
        self._asked.clear()
        for feed in self.query(Feed):
            feed.replace([])
        self.refresh_bindings()  # a replay has more
        self._poll()

    # ------------------------------------------------------------------ reading

    def _poll(self) -> None:
        """Reads a portion, draws what changed, and comes back."""
        if self._timer is not None:
            self._timer.stop()
        if self.watcher is None:
            self._timer = None
            return
        began = time.monotonic()
        before = self.watcher.state.version
        self.watcher.poll(max_records=PORTION_RECORDS)
        behind = self.watcher.state.version - before >= PORTION_RECORDS // 4
        if began - self._looked_at >= LIVENESS_S and not behind:
            self._looked_at = began
            self.liveness = self.watcher.liveness
        self._tick += 1
        if not behind:
            self._draw()
        idle = self.liveness in ENDED or not self.is_current
        self._timer = self.set_timer(CATCH_UP_S if behind else IDLE_POLL_S if idle else POLL_S, self._poll)

    def _draw(self) -> None:
        assert self.watcher is not None
        state = self.watcher.state
        stamp = (state.version, self.liveness)
        if stamp != self._stamp and time.monotonic() - self._flagged_at >= FLAGS_S:
            self._flagged_at = time.monotonic()
            self._flags = flags(state)
        self._draw_state()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        key = self.watcher.run.id
        for plot in self.query(RunPlot):
            plot.take(key, state)
        self.query_one(MemoryPart).take(state, self.liveness)
        self._draw_feeds()

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        super().on_screen_resume(event)
        if self.watcher is None:
            self._open(self.app.run_id)  # type: ignore[attr-defined]

    # ------------------------------------------------------------------ drawing

    def _draw_state(self) -> None:
        if self.watcher is None:
            self._tell(Content(NO_RUN), False)
            return
        state, liveness = self.watcher.state, self.liveness or "starting"
        recipe = self.watcher.recipe
        width = max(20, self.size.width - 2)
        ascii_only = self.app.marker == "ascii"  # type: ignore[attr-defined]
        replay = self.lab.replay_of(self.watcher.run)
        first = f"{replay.label}  " if replay else ""
        first += state_text(liveness) + (", armed" if state.armed and liveness not in ENDED else "")
        first += f", {' and '.join(self._waiting())} asked" if self._waiting() else ""
        colour = f"${STATE_ROLES[liveness]}" if liveness in STATE_ROLES else ""
        room = width - len(first) - 2
        now = self.lab.now(self.watcher.run)
        line = run_text.progress_line(state, liveness, now, room, self._tick, ascii_only)
        trouble = run_text.trouble(liveness, state, self._last_words())
        if trouble:
            second, third = f"✗ {trouble}", run_text.advice(liveness, state, self._resume_key())
        else:
            second = run_text.figures_line(state, width)
            third = run_text.score_line(state)
            if liveness in ENDED and state.saved:
                third += f"   {state.saved.get('what', 'adapter')} saved"
            if what := run_text.advice(liveness, state, self._resume_key()):
                third = f"{third}   {what}".strip()
        rows = [
            Content.assemble((first, f"bold {colour}"), "  ", visible(line)),
            Content.styled(visible(second), "$text-error" if trouble else ""),
            Content(visible(third)),
            *(Content(visible(text)) for text in (cost_text.line(state, liveness, now),) if text),
            *self._probe_rows(),
        ]
        # the reason of a failure is told whole, everything else in one line each
        rows = [row if trouble else row.truncate(width, ellipsis=True) for row in rows]
        self._tell(Content("\n").join(rows), bool(trouble))
        if recipe is not None:
            steps = (
                f" {state.step}/{state.total_steps}" if state.total_steps and liveness == "running" else ""
            )
            name = recipe.model.rpartition("/")[2]
            self._announce(f"{name} · {recipe.preset or recipe.method}{steps}", liveness)
        elif replay:
            self._announce("", liveness)

    def _announce(self, text: str, liveness: str) -> None:
        """What the line at the top of every pane says of the run."""
        replay = self.lab.replay_of(self.run_shown)
        what = f"{replay.label} {replay.original.id} {text}".rstrip() if replay else text
        self.lab.run_line = (what, liveness)

    def _probe_rows(self) -> list[Content]:
        """The newest verdict on what the model still knows, and the worst of the red flags."""
        assert self.watcher is not None
        lines = (
            probe_text.verdict_line(self.watcher.state),
            probe_text.flag_line(self._flags, self._keys("tune.flags")),
        )
        return [
            Content.assemble(*((visible(text), _colour(role)) for text, role in parts))
            for parts in lines
            if parts
        ]

    def _tell(self, content: Content, trouble: bool) -> None:
        """Shows the lines at the top; sends nothing when they are as before."""
        if (content, trouble) != self._told:
            self._told = (content, trouble)
            view = self.query_one("#state", Static)
            view.set_class(trouble, "-trouble")
            lines = content.plain.count("\n")
            view.update(content, layout=trouble or lines != self._lines_told)
            self._lines_told = lines

    def _resume_key(self) -> str:
        """What goes on with the run that is shown: a replay cannot."""
        replay = self.lab.replay_of(self.run_shown)
        return f"`tui-lab resume {replay.original.id}`" if replay else self._keys("tune.resume")

    def _keys(self, action: str) -> str:
        return keys_of(action, self.app._keymap)

    def _last_words(self) -> list[str]:
        if self.watcher is None or self.liveness not in ("failed", "crashed"):
            return []
        return self.watcher.run.last_words()

    def _waiting(self) -> list[str]:
        """Commands sent and not yet acknowledged."""
        if self.watcher is not None:
            known = self.watcher.state.acknowledged
            self._asked = {key: name for key, name in self._asked.items() if key not in known}
        return list(dict.fromkeys(self._asked.values())) if self.liveness not in ENDED else []

    def _draw_feeds(self) -> None:
        assert self.watcher is not None
        state = self.watcher.state
        notes, samples = list(state.notes), list(state.samples)
        feed = self.query_one("#events Feed", Feed)
        mark = (len(notes), notes[-1].t if notes else 0.0)
        if mark != self._notes_shown:
            self._show(feed, [self._note(note) for note in notes])
            self._notes_shown = mark
        feed = self.query_one("#samples Feed", Feed)
        seen = (len(samples), int(samples[-1].get("step", 0)) if samples else -1)
        if seen != self._samples_shown:
            self._show(feed, [self._sample(sample) for sample in samples])
            self._samples_shown = seen
        about = probe_text.about_flags(self._flags) + probe_text.about_probes(state)
        about += run_text.about_run(
            state,
            self.liveness,
            self.watcher.recipe,
            str(self.watcher.run.path),
            self._last_words(),
            self._resume_key(),
        )
        about += cost_text.about(state, self.liveness, self.lab.now(self.watcher.run))
        about += about_machine(state)
        if about != self._about:
            self._about = about
            self.query_one("#about Feed", Feed).replace([about])

    @staticmethod
    def _show(feed: Feed, entries: list[tuple[Part, ...]]) -> None:
        """Adds what is new; writes all anew when what was there has changed."""
        old = list(feed.entries)
        if old == entries[: len(old)]:
            for entry in entries[len(old) :]:
                feed.add(entry)
        else:
            feed.replace(entries)

    @staticmethod
    def _note(note: Any) -> tuple[Part, ...]:
        clock = time.strftime("%H:%M:%S", time.localtime(note.t)) if note.t else "--:--:--"
        alarming = note.kind in ("warning", "ladder")
        role, mark = ("state-paused", "! ") if alarming else ("", "")
        return ((f"{clock} ", "axis"), (f"{mark}{note.text}", role))

    @staticmethod
    def _sample(sample: dict[str, Any]) -> tuple[Part, ...]:
        return (
            (f"step {sample.get('step', '?')}  ", "title"),
            (f"{sample.get('prompt', '')}\n", "axis"),
            (str(sample.get("text", "")), "tuned-model"),
        )

    # ------------------------------------------------------------------ actions

    def action_tab(self, name: str) -> None:
        self.query_one(TabsLine).show(name)
        feeds = self.query(f"#{name} Feed")
        if feeds:
            feeds.first().focus()
        else:
            self.set_focus(None)

    def action_turn_tab(self, by: int) -> None:
        self.action_tab(self.query_one(TabsLine).turn(by))

    def action_log_scale(self) -> None:
        plot = self.query_one("#loss RunPlot", RunPlot)
        plot.set_options(log=not plot.options.log)

    def action_choose_run(self) -> None:
        from tui_lab.ui.widgets.run_list import RunList

        current = self.watcher.run.id if self.watcher else ""
        self.app.push_screen(RunList(current), lambda run_id: self._chosen(run_id or ""))

    def _chosen(self, run_id: str) -> None:
        if run_id:
            self.app.run_id = run_id  # type: ignore[attr-defined]
            self._open(run_id)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only a replay has a speed."""
        if action == "speed":
            return self.lab.replay_of(self.run_shown) is not None
        return super().check_action(action, parameters)

    def action_speed(self, by: int) -> None:
        replay = self.lab.replay_of(self.run_shown)
        if replay is not None:
            self.notice(f"{replay.faster(by):g} times as fast as the run was")
            self._draw_state()

    def _live(self) -> bool:
        """Whether the run can hear; says so when it cannot."""
        if self.watcher is None:
            self.notice(NO_RUN, "warning")
        elif (self.liveness or self.watcher.liveness) in ENDED:
            self.notice(f"This run has ended ({self.liveness}).", "warning")
        else:
            return True
        return False

    def _send(self, name: str) -> None:
        assert self.watcher is not None
        try:
            self._asked[commands.send(self.watcher.run, name)] = name
        except LabError as error:
            self.notice(error, "error")
        self._draw_state()

    def action_pause(self) -> None:
        if self._live() and self.watcher is not None:
            self._send("continue" if self.watcher.state.paused else "pause")

    def action_checkpoint(self) -> None:
        if self._live():
            self._send("checkpoint")

    def action_flags(self) -> None:
        """Shows what is known of the run from its beginning: the flags come first."""
        if not self._flags:
            self.notice("No red flags: nothing that this run shows looks wrong.")
        self.action_tab("about")
        self.query_one("#about Feed", Feed).scroll_home(animate=False)

    def action_arm(self) -> None:
        if self._live() and self.watcher is not None:
            self._send("disarm" if self.watcher.state.armed else "arm")

    def action_probe(self) -> None:
        if self._live():
            self._send("probe")

    def action_stop(self) -> None:
        if not self._live() or self.watcher is None:
            return
        from tui_lab.ui.widgets.confirm import Confirm

        step, total = self.watcher.state.step, self.watcher.state.total_steps
        at = f"It is at step {step} of {total}. " if total else ""
        question = f"Stop this run? {at}What was learned so far is saved, and it can be resumed."
        if self.lab.replay_of(self.watcher.run):
            question = "Stop the replay? The run that it shows stays as it is."
        self.app.push_screen(Confirm(question, yes="stop it", no="let it run"), self._stop_answered)

    def _stop_answered(self, stop: bool | None) -> None:
        if stop and self._live():
            self._send("stop")

    def action_resume(self) -> None:
        if self.watcher is None:
            self.notice(NO_RUN, "warning")
        elif self.lab.refuse_in_replay(self.watcher.run, "`tui-lab resume` goes on with a run"):
            pass
        elif self.watcher.liveness == "finished":
            self.notice("This run has finished: there is nothing left to go on with.", "warning")
        elif self.watcher.liveness not in ENDED and self.watcher.liveness != "created":
            self.notice("This run is in progress.", "warning")
        else:
            self._resume(self.watcher.run)

    @work(thread=True, exclusive=True, group="start", description="resume the run", exit_on_error=False)
    def _resume(self, run: Run) -> None:
        from tui_lab.runs import launch

        try:
            process = launch.start(run)
        except LabError as error:
            self.app.call_from_thread(self.notice, error, "error")
        else:
            self.app.call_from_thread(self._resumed, process)

    def _resumed(self, process: Any) -> None:
        self._looked_at = 0.0
        self.app.open_run(self.app.run_id, process)  # type: ignore[attr-defined]
        self.notice("Started again: it goes on from its last checkpoint.")
