"""A pane that follows one run. It reads the run's folder on a timer in bounded portions, so that a long log
never blocks the lab, shows the state of the run in a few lines, and sends the user's commands (pause,
checkpoint, stop …), which the run acknowledges."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import TYPE_CHECKING

from textual import events
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.runs import commands
from tui_lab.runs.flag_rules.flag import Flag
from tui_lab.runs.flags import flags
from tui_lab.runs.folder import Run, is_locked, list_runs, open_run
from tui_lab.runs.state import ENDED, RunState, Watcher
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.terminal.output import RUN
from tui_lab.ui.terminal.textual_internals import call_after_layout
from tui_lab.ui.views import cost, empty, probe
from tui_lab.ui.views import run as run_text
from tui_lab.ui.views.states import run_state, state_text
from tui_lab.ui.widgets.next_steps import NextSteps, Step
from tui_lab.ui.widgets.run_plots import RunPlot

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from tui_lab.runs.schema import InputsEvent
    from tui_lab.ui.views.spans import TextSpan

#: The filled part of a bar.
_BAR = re.compile("[█▉▊▋▌▍▎▏]+")
#: Ends of a run that it can be resumed from.
RESUMABLE = frozenset({"stopped", "failed", "crashed"})
#: A run that has ended may be resumed by somebody else, and one behind another pane is only named.
IDLE_POLL_S = 1.5
#: While a long log is being caught up with, portions follow one another with a breath for the keyboard.
CATCH_UP_S = 0.02
PORTION_RECORDS = 4_000
#: Seconds between two looks at whether the process lives.
LIVENESS_S = 1.0
#: Seconds between two checks for problems, whose rules read every point of every curve.
FLAGS_S = 1.0


def colour(role: str) -> str:
    """A semantic name as a Textual style; dim for secondary text."""
    return "dim" if role == "axis" else f"bold ${role}" if role else ""


class RunPane(Pane):
    """See the module's docstring. A pane that is one composes a ``Static(id="state")`` and draws the rest in
    :meth:`draw_run`; :meth:`forget_run` clears what is left of the run before."""

    DEFAULT_CSS = """
    RunPane #state { height: auto; min-height: 3; max-height: 6; padding: 0 1; background: $surface; }
    RunPane #state.-trouble { max-height: 8; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.watcher: Watcher | None = None
        self.status = ""
        self._looked_at = 0.0
        self._tick = 0
        self._timer: Timer | None = None
        self._pending_commands: dict[str, str] = {}  # command id → name, until acknowledged
        self._stamp: tuple[int, str] | None = None
        self._status_shown: tuple[Content, bool] | None = None
        self._status_lines = 0
        self._flags: list[Flag] = []
        self._flagged_at = 0.0

    @property
    def run_shown(self) -> Run | None:
        return self.watcher.run if self.watcher else None

    @property
    def idle_actions(self) -> frozenset[str]:
        """What has no use as the run is now: the line of keys does without it, and the key says why."""
        if self.watcher is not None and self.status not in ENDED:
            return frozenset(
                {"resume", "playground", "go_on"} | (set() if self._measures_aside else {"skip"})
            )
        return frozenset({"pause", "checkpoint", "stop", "arm", "skip"})

    @property
    def _measures_aside(self) -> bool:
        """Whether the run measures before or after its training, which can be skipped."""
        state = self.watcher.state if self.watcher is not None else None
        return state is not None and state.phase in ("evaluating", "scoring", "probing")

    @property
    def situation(self) -> str:
        if self.watcher is None:
            return "none"
        if self.status in ENDED:
            return "broken" if self.status in RESUMABLE else "ended"
        return "replay" if self.lab.replay_of(self.watcher.run) else "running"

    @property
    def labels_now(self) -> dict[str, str]:
        labels = super().labels_now
        if self.watcher is not None and self.status not in ENDED:
            labels |= {"pause": "Go on"} if self.watcher.state.paused else {}
            labels |= {"arm": "Do not stop"} if self.watcher.state.armed else {}
        elif self.watcher is not None:
            again = "Resume" if self.status in RESUMABLE else "Go again"
            labels |= {"probe": "Measure", "resume": again}
        return labels

    def draw_run(self, key: str, state: RunState) -> None:
        """Draws the state of run ``key`` below the lines at the top; called when it has changed."""
        for plot in self.query(RunPlot):
            plot.show_run(key, state, self.status in ENDED, self._flags)
        for line in self.query(NextSteps):
            line.show(self.next_steps())

    def forget_run(self) -> None:
        """Another run is shown from now on."""

    def on_mount(self) -> None:
        self.watch(self.app, "run_id", self._open)

    # ------------------------------------------------------------------ which run

    def _open(self, run_id: str) -> None:
        """Shows the run that the app names, else the newest."""
        run: Run | None = None
        try:
            run = open_run(run_id) if run_id else next(iter(list_runs()), None)
        except LabError as error:
            self.notice(error, "error")
        if run is None:
            self._show_none()
            if self._timer is not None:
                self._timer.stop()
            if self.is_current:  # somebody may start one elsewhere
                self._timer = self.set_timer(IDLE_POLL_S, self._look_for_one)
            return
        if self.watcher is not None and self.watcher.run.path == run.path:
            return
        self.watcher = Watcher(run)
        self.status, self._looked_at, self._stamp = "", 0.0, None
        self._flags, self._flagged_at = [], 0.0
        self._pending_commands.clear()
        self.forget_run()
        self.refresh_bindings()  # a replay has more
        self._poll()

    def _show_none(self) -> None:
        """There is no run, or no more: its curves, figures and next steps go."""
        if self.watcher is not None:
            self.watcher, self.status, self._flags = None, "", []
            self.forget_run()
            RunPane.draw_run(self, "", RunState())
            self.lab.run_line = ("", "")
            self.update_footer()
        self._draw_state()

    def _look_for_one(self) -> None:
        """While there is no run: shows the first that anybody starts."""
        if self.watcher is None and self.is_current and not self.lab.run_id:
            self._open("")

    # ------------------------------------------------------------------ reading

    def _poll(self) -> None:
        """Reads a portion, draws what changed, and comes back."""
        if self._timer is not None:
            self._timer.stop()
        if self.watcher is None or self.is_left:
            self._timer = None
            return
        if not self.is_current and isinstance(self.app.screen, RunPane):
            # that one follows a run, too, and says so at the top: once is enough
            self._timer = self.set_timer(IDLE_POLL_S, self._poll)
            return
        began = time.monotonic()
        before = self.watcher.state.version
        self.watcher.poll(max_records=PORTION_RECORDS)
        behind = self.watcher.state.version - before >= PORTION_RECORDS // 4
        if began - self._looked_at >= LIVENESS_S and not behind:
            self._looked_at = began
            self.status = self.watcher.status
        self.update_footer()
        self._tick += 1
        if not behind and self.is_current:
            self._draw()
        elif not behind:
            self._update_header()  # the only part that other panes show
        idle = self.status in ENDED or not self.is_current
        pace_s = max(IDLE_POLL_S, RUN.of(self.app)) if idle else RUN.of(self.app)
        self._timer = self.set_timer(CATCH_UP_S if behind else pace_s, self._poll)

    def _draw(self) -> None:
        assert self.watcher is not None
        state = self.watcher.state
        stamp = (state.version, self.status)
        if stamp != self._stamp and time.monotonic() - self._flagged_at >= FLAGS_S:
            self._flagged_at = time.monotonic()
            self._flags = flags(state)
        self._draw_state()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self.draw_run(self.watcher.run.id, state)

    def on_screen_resume(self) -> None:
        if self.watcher is None or not self.watcher.run.path.is_dir():
            self._open(self.lab.run_id)
        elif self.lab.run_id:
            self._open(self.lab.run_id)
            self._poll()  # what came meanwhile

    # ------------------------------------------------------------------ drawing

    def on_resize(self, _event: events.Resize) -> None:
        self._status_lines = -1  # the lines are cut for the new width
        call_after_layout(self, self._draw_state)

    def _draw_state(self) -> None:
        if self.watcher is None:
            self._update_status(Content(self._no_run()), False)
            return
        state, status = self.watcher.state, self.status or "starting"
        width = max(20, self.size.width - 2)
        ascii_only = self.lab.marker == "ascii"
        replay = self.lab.replay_of(self.watcher.run)
        first = f"{replay.label}  " if replay else ""
        stops = status not in ENDED and (state.stopping or "stop" in self._waiting())
        shown_status = "stopping" if stops else status
        first += state_text(shown_status)
        first += ", stops on forgetting" if state.armed and status not in ENDED else ""
        waiting = [name for name in self._waiting() if name != "stop"]
        first += f", {' and '.join(waiting)} asked" if waiting else ""
        role = run_state(shown_status).role
        shade = f"bold ${role}" if role else "bold"
        available = width - len(first) - 2
        now = self.lab.now(self.watcher.run)
        line = run_text.progress_line(state, status, now, available, self._tick, ascii_only)
        trouble = run_text.trouble(status, state, self._log_tail())
        keys = self._resume_key(), self.keys("app.setup")
        if trouble:
            second, third = f"✗ {trouble}", run_text.advice(status, state, *keys)
        else:
            second = run_text.figures_line(state, width)
            third = run_text.score_line(state)
            if status in ENDED and state.saved:
                third = f"{third}   {state.saved.what} saved".strip()
            if what := run_text.advice(status, state, *keys):
                third = f"{third}   {what}".strip()
        rows = [
            Content.assemble(
                (first, shade), "  ", Content(sanitize(line)).highlight_regex(_BAR, style=shade)
            ),
            Content.styled(sanitize(second), "$text-error" if trouble else ""),
            Content(sanitize(third)),
            *(Content(sanitize(text)) for text in (cost.line(state, status, now),) if text),
            *self.probe_rows(),
        ]
        # the reason of a failure is not cut, every other row is one line
        uncut = 3 if trouble else 0
        rows = rows[:uncut] + [row.truncate(width, ellipsis=True) for row in rows[uncut:]]
        self._update_status(Content("\n").join(rows), bool(trouble))
        self._update_header()

    def _update_header(self) -> None:
        """What the line at the top of every pane says of the run: its name, its step, its state."""
        assert self.watcher is not None
        state, status = self.watcher.state, self.status or "starting"
        recipe, replay = self.watcher.recipe, self.lab.replay_of(self.watcher.run)
        if recipe is not None:
            steps = f" {state.step}/{state.total_steps}" if state.total_steps and status == "running" else ""
            name = recipe.model.rpartition("/")[2]
            self._announce(f"{name} · {recipe.preset or recipe.method}{steps}", status)
        elif replay:
            self._announce("", status)

    def _announce(self, text: str, status: str) -> None:
        replay = self.lab.replay_of(self.run_shown)
        # a narrow window leaves out the beginning: that it is no live run must stay
        what = f"{text} {replay.original.id} {replay.label}".lstrip() if replay else text
        self.lab.run_line = (what, status)

    def probe_rows(self) -> list[Content]:
        """The newest verdict on what the model still knows, and the worst of the red flags."""
        assert self.watcher is not None
        lines = (
            probe.verdict_line(self.watcher.state),
            probe.flag_line(self._flags, self.keys(f"{self.GROUP}.flags")),
        )
        return [
            Content.assemble(*((sanitize(text), colour(role)) for text, role in self._fitting(parts)))
            for parts in lines
            if parts
        ]

    def _fitting(self, parts: Sequence[TextSpan]) -> Sequence[TextSpan]:
        """The line without its last pieces where it is too long for all: a figure is not cut in half."""
        while len(parts) > 2 and sum(len(text) for text, _ in parts) > self.size.width - 2:
            parts = parts[:-1]
        return parts

    def _update_status(self, content: Content, trouble: bool) -> None:
        """Shows the lines at the top; sends nothing when they are as before."""
        if (content, trouble) != self._status_shown:
            self._status_shown = (content, trouble)
            view = self.query_one("#state", Static)
            view.set_class(trouble, "-trouble")
            lines = content.plain.count("\n")
            view.update(content, layout=trouble or lines != self._status_lines)
            self._status_lines = lines

    def _resume_key(self) -> str:
        """What goes on with the run that is shown: a replay cannot."""
        replay = self.lab.replay_of(self.run_shown)
        return f"`tui-lab resume {replay.original.id}`" if replay else self.keys("train.resume")

    def _no_run(self) -> str:
        return empty.no_run(self.keymap)

    def _log_tail(self) -> list[str]:
        if self.watcher is None or self.status not in ("failed", "crashed"):
            return []
        return self.watcher.run.log_tail()

    def _waiting(self) -> list[str]:
        """Commands sent and not yet acknowledged."""
        if self.watcher is not None:
            known = self.watcher.state.acknowledged
            pending = self._pending_commands.items()
            self._pending_commands = {key: name for key, name in pending if key not in known}
        return list(dict.fromkeys(self._pending_commands.values())) if self.status not in ENDED else []

    def action_choose_run(self) -> None:
        def take(run_id: str) -> None:
            self.lab.run_id = run_id
            self._open(run_id)

        self.pick_run(self.watcher.run.id if self.watcher else "", take)

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
            self.notice(self._no_run(), "warning")
        elif (self.status or self.watcher.status) in ENDED:
            self.notice(f"This run has ended ({self.status}).", "warning")
        else:
            return True
        return False

    def _send(self, name: str) -> None:
        assert self.watcher is not None
        try:
            self._pending_commands[commands.send(self.watcher.run, name)] = name
            started = self.watcher.state.started
            if text := commands.suspended_note(self.watcher.run, started.pid if started else None):
                self.notice(f"The command waits: {text}.", "warning")
        except LabError as error:
            self.notice(error, "error")
        self._draw_state()

    def action_pause(self) -> None:
        if self._live() and self.watcher is not None:
            self._send("continue" if self.watcher.state.paused else "pause")

    def action_checkpoint(self) -> None:
        if self._live():
            self._send("checkpoint")

    def action_arm(self) -> None:
        if self._live() and self.watcher is not None:
            self._send("disarm" if self.watcher.state.armed else "arm")

    def action_probe(self) -> None:
        if self.watcher is not None and self.status in ENDED:
            self.lab.measure_run(self.watcher.run.id)
        elif self._live():
            self._send("probe")

    def action_playground(self) -> None:
        """Compares the run with its base."""
        if self.watcher is None:
            self.notice(self._no_run(), "warning")
        elif self.status not in ENDED:
            self.notice("The run trains still: Playground compares what it saves at its end.", "warning")
        else:
            replay = self.lab.replay_of(self.watcher.run)
            self.lab.compare_run(str(replay.original.path) if replay else self.watcher.run.id)

    def action_go_on(self) -> None:
        """Shows a recipe on Setup that goes on from what this run learned."""
        if self.watcher is None:
            self.notice(self._no_run(), "warning")
        else:
            replay = self.lab.replay_of(self.watcher.run)
            self.go_on_from(str((replay.original if replay else self.watcher.run).path))

    def next_steps(self) -> list[Step]:
        """What a run that has ended is good for, with the keys."""
        if self.watcher is None or self.status not in ENDED:
            return []
        actions = [("resume", "Resume" if self.status in RESUMABLE else "Go again", "resume")]
        if self.watcher.state.saved is not None:
            saved = [("playground", "Playground", "playground"), ("probe", "Measure retention", "probe")]
            exported = ("app.export", "Export", "app.open('export')")
            actions = [*saved, exported, ("go_on", "Go on from it", "go_on"), *actions]
        return [
            (self.keys(name if "." in name else f"{self.GROUP}.{name}").split(" ")[0], label, action)
            for name, label, action in actions
        ]

    def action_skip(self) -> None:
        if self._live() and not self._measures_aside:
            self.notice("Only a measurement before or after the training can be skipped.", "warning")
        elif self._measures_aside:
            self._send("skip")

    def action_stop(self) -> None:
        if not self._live() or self.watcher is None:
            return
        if self.watcher.state.stopping:
            self.notice(f"It is stopping already; {self.keys('train.skip')} skips what it measures.")
            return
        step, total = self.watcher.state.step, self.watcher.state.total_steps
        at = f"It is at step {step} of {total}. " if total else ""
        question = f"Stop this run? {at}What was learned so far is saved, and it can be resumed."
        if self.lab.replay_of(self.watcher.run):
            question = "Stop the replay? The run that it shows stays as it is."
        self.confirm(question, "stop it", "let it run", self._stop)

    def _stop(self) -> None:
        if self._live():
            self._send("stop")

    def action_resume(self) -> None:
        if self.watcher is None:
            self.notice(self._no_run(), "warning")
        elif self.lab.refuse_in_replay(self.watcher.run, "`tui-lab resume` goes on with a run"):
            pass
        elif self.watcher.status == "finished":
            if self.watcher.recipe is None:
                self.notice(self.watcher.problem, "error")
            else:
                self.lab.run_again(self.watcher.recipe.model_dump())
        elif self.watcher.status not in ENDED and self.watcher.status != "created":
            self.notice("This run is in progress.", "warning")
        else:
            if is_locked(self.watcher.run):
                self.notice("Its process is about to go; as soon as it has, the run is started again.")
            start = partial(_start_again, self.watcher.run, self.watcher.state.inputs)
            self.in_thread(start, self._resumed, "start")

    def _resumed(self, process: subprocess.Popen[bytes]) -> None:
        self._looked_at = 0.0
        if self.is_current:
            self.lab.open_run(self.lab.run_id, process)
        else:
            self.lab.started(process)  # somebody went elsewhere meanwhile, and stays there
        saved = self.watcher is not None and self.watcher.state.checkpoints
        self.notice(
            f"Started again: it {'continues from its last checkpoint' if saved else 'begins at step 0'}."
        )


def _start_again(run: Run, before: InputsEvent | None) -> subprocess.Popen[bytes]:
    """Starts a run that has ended once more. Raises ChangedInputs where what it read has changed since, and
    LabError."""
    from tui_lab.runs import inputs, launch

    changed = inputs.changed_before_resuming(before, run.recipe())
    inputs.require_unchanged(changed, f"Run {run.id} cannot be continued as it was")
    return launch.start(run)
