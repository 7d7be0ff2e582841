"""Processes commands between two steps: pause, continue, stop, checkpoint, probe, arm, disarm."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from tui_lab.runs.commands import COMMANDS, Inbox
from tui_lab.runs.event_lines import CommandRecord
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import CommandEvent, ContinuedEvent, PausedEvent
from tui_lab.runs.storage import check_folder
from tui_lab.training.distributed import ProcessGroup
from tui_lab.training.probe import RetentionProbe

if TYPE_CHECKING:
    from tui_lab.training.trainer import LabTrainer

#: Seconds between two polls for commands while a run is paused.
PAUSE_POLL_S = 0.2
#: The answer to a command that was meant for an attempt that died.
LATE = "not done: it was sent before the run was resumed"


class CommandProcessor:
    """Carries out commands and acknowledges each once, across attempts.

    ``acknowledged``: ids of commands that earlier attempts acknowledged. Commands within the first
    ``old_bytes`` of the file were meant for the attempt that died: they are acknowledged as such and not
    carried out. ``on_pause`` is called with the seconds of each pause. With several processes
    each has one: the first reads the commands and broadcasts them, and all do the same.
    """

    def __init__(
        self,
        run: Run,
        events: EventWriter,
        acknowledged: Collection[str],
        old_bytes: int,
        *,
        on_pause: Callable[[float], None],
        probe: RetentionProbe,
        group: ProcessGroup,
    ) -> None:
        self._run, self._group = run, group
        self._probe = probe
        self._on_pause = on_pause
        self._events = events
        self._acknowledged, self._old_bytes = set(acknowledged), old_bytes
        self._inbox = self.new_inbox()
        self._paused = False
        self.stop_requested = False
        self._skips = self.new_inbox()
        self._answered: set[str] = set()  # ids of skips
        self._asked_at = 0.0

    def new_inbox(self) -> Inbox:
        """Another reader of the same commands."""
        return Inbox(self._run, self._acknowledged, self._old_bytes)

    def skip_asked(self) -> bool:
        """Whether somebody asked since the last call to skip the measurement in progress; looks at most a few
        times a second, and acknowledges. Never with several processes, which measure together."""
        now = time.monotonic()
        if self._group.size > 1 or now - self._asked_at < PAUSE_POLL_S:
            return False
        self._asked_at = now
        found = [each for each in self._skips.poll() if each.name == "skip" and each.id not in self._answered]
        for command in found:
            self._answered.add(command.id)
            outcome = LATE if command.id in self._skips.late else "the measurement in progress is skipped"
            self._events.write(CommandEvent(id=command.id, name="skip", outcome=outcome))
        return any(each.id not in self._skips.late for each in found)

    def process_commands(self, trainer: LabTrainer) -> None:
        """Carries out the commands that came since the last call; returns when the run is not paused. A stop
        saves a checkpoint first."""
        self._poll(trainer)
        if self._paused and not self.stop_requested:
            step, began = trainer.state.global_step, time.monotonic()
            self._events.write(PausedEvent(step=step))
            while self._paused and not self.stop_requested:
                if self._group.is_main:  # the other processes wait for its broadcast
                    time.sleep(PAUSE_POLL_S)
                self._poll(trainer)
            self._paused = False
            seconds = time.monotonic() - began
            self._on_pause(seconds)
            self._events.write(ContinuedEvent(step=step, paused_s=round(seconds, 1)))
        if self.stop_requested:
            if trainer.state.global_step:
                trainer.checkpoint_now()
            trainer.control.should_training_stop = True

    def _poll(self, trainer: LabTrainer) -> None:
        if self._group.is_main:
            check_folder(self._run, self._events.descriptor)
        received = self._inbox.poll() if self._group.is_main else []
        found = (received, self._inbox.late, self.stop_requested)
        commands, late, self.stop_requested = self._group.broadcast(found)
        for command in commands:
            if command.id in self._answered:
                continue
            self._answered.add(command.id)
            is_late = command.id in late
            outcome = LATE if is_late else self._execute(command, trainer)
            self._events.write(CommandEvent(id=command.id, name=command.name, outcome=outcome))

    def _execute(self, command: CommandRecord, trainer: LabTrainer) -> str:
        """Carries out one command; the outcome in words."""
        step = trainer.state.global_step
        match command.name:
            case "pause":
                self._paused = True
                return f"paused after step {step}"
            case "continue":
                paused, self._paused = self._paused, False
                return "continued" if paused else "it was not paused"
            case "stop":
                self.stop_requested = True
                return f"stopping after step {step}"
            case "skip":
                return "not done: only a measurement before or after the training can be skipped"
            case "probe":
                return self._group.broadcast(self._probe.probe_now(trainer) if self._group.is_main else "")
            case "arm" | "disarm":
                on = command.name == "arm"
                return self._group.broadcast(self._probe.arm(on, trainer) if self._group.is_main else "")
            case "checkpoint" if step:
                trainer.checkpoint_now()
                return f"checkpoint at step {step}"
            case "checkpoint":
                return "not done: there is nothing to save before the first step"
        return f"not done: unknown command; the commands are {', '.join(COMMANDS)}"
