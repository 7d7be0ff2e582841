"""A run that has nothing to save yet is stopped at once, by a signal and by a command, but not by a command
that was meant for an attempt that died."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import commands, folder
from tui_lab.runs.events import EventTail, EventWriter
from tui_lab.runs.schema import CommandEvent
from tui_lab.training import interruption
from tui_lab.training.control import CommandProcessor
from tui_lab.training.distributed import ProcessGroup
from tui_lab.training.interruption import StopRequested, interruptible


class Attempt(SimpleNamespace):
    """What of an attempt the interruption uses."""

    def __init__(self, run: folder.Run) -> None:
        self.events, self.group, self.from_step = EventWriter(run.events_path), ProcessGroup(), 0
        old = commands.size(run)
        options: Any = {"on_pause": lambda _s: None, "probe": None, "group": self.group}
        self.commands = CommandProcessor(run, self.events, (), old, **options)
        interruption.stop_at_signals(self.commands)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[folder.Run]:
    before = signal.getsignal(signal.SIGTERM)
    yield folder.create(Recipe(), tmp_path)
    signal.signal(signal.SIGTERM, before)


def work(seconds: float = 10.0) -> None:
    """Computes, and catches every exception, as libraries do."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            sum(range(1000))
        except Exception:
            continue


@pytest.mark.parametrize(
    "ask",
    [lambda _run: os.kill(os.getpid(), signal.SIGTERM), lambda run: commands.send(run, "stop")],
    ids=["signal", "command"],
)
def test_a_stop_interrupts_the_work(run: folder.Run, ask: Callable[[folder.Run], object]) -> None:
    attempt: Any = Attempt(run)
    with pytest.raises(StopRequested), interruptible(attempt):
        ask(run)
        work()
    assert attempt.commands.stop_requested
    answers = [each for each in EventTail(run.events_path).read() if isinstance(each, CommandEvent)]
    assert [each.name for each in answers] == ["stop"] * run.commands_path.exists()


def test_a_stop_outside_of_the_block_is_a_flag(run: folder.Run) -> None:
    attempt: Any = Attempt(run)
    with interruptible(attempt):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    work(0.01)
    assert attempt.commands.stop_requested
    with pytest.raises(StopRequested), interruptible(attempt):
        pytest.fail("begins although a stop was asked for")


def test_a_stop_for_an_attempt_that_died_does_not_count_whatever_the_clocks_say(
    run: folder.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interruption, "POLL_S", 0.01)
    monkeypatch.setattr(time, "time", lambda: 9e9)  # the asker's clock is ahead, or behind
    commands.send(run, "stop")
    attempt: Any = Attempt(run)
    with interruptible(attempt):
        work(0.1)
    monkeypatch.setattr(time, "time", lambda: 1.0)
    commands.send(run, "stop")
    with pytest.raises(StopRequested), interruptible(attempt):
        work()
