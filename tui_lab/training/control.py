"""What people ask of a run while it trains, heard between two steps: pause, continue, stop, checkpoint, probe
now, stop when retention is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tui_lab.runs.commands import COMMANDS, Inbox
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import CommandEvent, CommandRecord, ContinuedEvent, PausedEvent
from tui_lab.runs.storage import check_folder
from tui_lab.training.distributed import ProcessGroup
from tui_lab.training.probe import RetentionProbe

if TYPE_CHECKING:
    from tui_lab.training.trainer import LabTrainer

#: How often a paused run looks for commands.
PAUSE_POLL_S = 0.2


class CommandProcessor:
    """``done``: ids acknowledged by earlier attempts; commands sent before ``since`` (a resume) were meant
    for the attempt that died, and are acknowledged as such without being carried out; ``after_pause`` is
    told how many seconds a pause took. With several processes each has one: the first reads what is asked,
    tells the others, and then all do the same."""

    def __init__(
        self,
        run: Run,
        events: EventWriter,
        done: set[str],
        since: float,
        after_pause: Callable[[float], None],
        probe: RetentionProbe,
        group: ProcessGroup | None = None,
    ) -> None:
        self._run, self._group = run, group or ProcessGroup()
        self._probe = probe
        self._after_pause = after_pause
        self._events = events
        self._inbox = Inbox(run, done)
        self._since = since
        self._paused = False
        self.stop_wanted = False

    def process_commands(self, trainer: LabTrainer) -> None:
        """Carries out what was asked since the last call; returns when the run may go on."""
        self._carry_out(trainer)
        if self._paused and not self.stop_wanted:
            step, began = trainer.state.global_step, time.monotonic()
            self._events.write(PausedEvent(step=step))
            while self._paused and not self.stop_wanted:
                if self._group.is_main:  # the others wait for its word
                    time.sleep(PAUSE_POLL_S)
                self._carry_out(trainer)
            self._paused = False
            seconds = time.monotonic() - began
            self._after_pause(seconds)
            self._events.write(ContinuedEvent(step=step, paused_s=round(seconds, 1)))
        if self.stop_wanted:
            if trainer.state.global_step:
                trainer.checkpoint_now()
            trainer.control.should_training_stop = True

    def _carry_out(self, trainer: LabTrainer) -> None:
        if self._group.is_main:
            check_folder(self._run, self._events.descriptor)
        heard = self._inbox.poll() if self._group.is_main else []
        commands, self.stop_wanted = self._group.broadcast((heard, self.stop_wanted))
        for command in commands:
            outcome = self._do(command, trainer)
            self._events.write(CommandEvent(id=command.id, name=command.name, outcome=outcome))

    def _do(self, command: CommandRecord, trainer: LabTrainer) -> str:
        step = trainer.state.global_step
        if command.sent_at < self._since:
            return "not done: it was sent before the run was resumed"
        match command.name:
            case "pause":
                self._paused = True
                return f"holding after step {step}"
            case "continue":
                was, self._paused = self._paused, False
                return "going on" if was else "it was not paused"
            case "stop":
                self.stop_wanted = True
                return f"stopping after step {step}"
            case "probe":
                return self._group.broadcast(self._probe.now(trainer) if self._group.is_main else "")
            case "arm" | "disarm":
                on = command.name == "arm"
                return self._group.broadcast(self._probe.arm(on, trainer) if self._group.is_main else "")
            case "checkpoint" if step:
                trainer.checkpoint_now()
                return f"checkpoint at step {step}"
            case "checkpoint":
                return "not done: there is nothing to save before the first step"
        return f"not understood; a run knows {', '.join(COMMANDS)}"
