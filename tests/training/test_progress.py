"""Long measurements of a run report their rows, and can be skipped between two batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.training.conftest import recipe_for
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import commands, folder
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import CommandEvent, ProgressEvent, RunEvent
from tui_lab.runs.state import Watcher
from tui_lab.training import control, progress
from tui_lab.training.control import CommandProcessor
from tui_lab.training.distributed import ProcessGroup
from tui_lab.training.progress import AttemptProgress, SkipRequested
from tui_lab.training.trainer import LabTrainer


class Clock:
    """A clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def test_rows_are_reported_every_two_seconds_with_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, written = Clock(monkeypatch), list[RunEvent]()
    report = AttemptProgress(written.append, lambda: False).of("evaluating", "rows")
    for done in (16, 32, 48, 64, 64, 64):
        clock.now += 1.0
        report(done, 160)
    found = [(each.done, each.left_s) for each in written if isinstance(each, ProgressEvent)]
    # by hand: 32 rows in 2 s leave 128 rows, 8 s; 64 rows in 4 s leave 96 rows, 6 s
    assert found == [(32, 8.0), (64, 6.0)]


def test_only_what_may_be_skipped_is_skipped() -> None:
    asked = [True]
    watch = AttemptProgress(lambda _: None, lambda: asked[0])
    report = watch.of("evaluating", "rows")
    report(1, 2)
    done = []
    with watch.skippable():
        report(1, 2)
        done.append("never")
    assert not done and watch.skips == 1
    report(1, 2)
    with pytest.raises(KeyError), watch.skippable():
        raise KeyError


def processor(run: folder.Run) -> CommandProcessor:
    unused = cast("Any", None)
    return CommandProcessor(
        run, EventWriter(run.events_path), set(), 0, on_pause=unused, probe=unused, group=ProcessGroup()
    )


def test_a_skip_is_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PAUSE_POLL_S", 0.0)
    run = folder.create(Recipe())
    heard = processor(run)
    commands.send(run, "checkpoint")
    assert not heard.skip_asked()
    commands.send(run, "skip")
    assert heard.skip_asked() and not heard.skip_asked()
    trainer = cast("Any", type("Trainer", (), {"state": type("State", (), {"global_step": 0})}))
    heard._poll(trainer)
    commands.send(run, "skip")  # during the training
    heard._poll(trainer)
    assert not heard.skip_asked()
    answers = [e for e in Watcher(run).read_events() if isinstance(e, CommandEvent)]
    assert [(each.name, each.outcome.split(":")[0]) for each in answers] == [
        ("skip", "the measurement in progress is skipped"),
        ("checkpoint", "not done"),
        ("skip", "not done"),
    ]


def test_a_validation_reports_every_batch_and_leaves_the_model_as_it_was(
    make_trainer: Callable[..., LabTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(recipe_for(per_device_train_batch_size=4))
    calls: list[tuple[int, int]] = []

    class Recorded(AttemptProgress):
        def of(self, name: str, unit: str) -> Callable[[int, int], None]:
            def report(done: int, total: int) -> None:
                calls.append((done, total))
                if stop_at == done:
                    raise SkipRequested

            return report

    stop_at = 0
    trainer.progress = Recorded(lambda _: None, lambda: False)
    trainer.validation_loss()
    total = len(trainer.eval_dataset)
    assert calls == [(done, total) for done in range(4, total + 1, 4)]
    stop_at = 8
    trainer.model.train()
    with trainer.progress.skippable():
        trainer.validation_loss()
    assert trainer.progress.skips == 1 and trainer.model.training
