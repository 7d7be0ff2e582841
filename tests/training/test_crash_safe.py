"""A run whose folder takes no more ends with a sentence, and continues where it can: with whole runs, and
with the first attempt's writes limited by the system itself."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.records import read_log
from tests.training.test_attempt import DEADLINE_S, ended, kinds, make_run, texts, until  # noqa: F401
from tests.training.warm_start import SERVER
from tui_lab.runs import changes, folder, launch
from tui_lab.runs.events import EventWriter
from tui_lab.runs.state import Watcher
from tui_lab.runs.storage import FolderGone
from tui_lab.training.__main__ import main
from tui_lab.training.control import CommandProcessor
from tui_lab.training.distributed import ProcessGroup

#: Enough for the log and the adapter, not for the optimiser's states.
LIMIT_BYTES = 150_000


def limited(path: str) -> None:
    """A run process whose files cannot grow beyond the limit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))
    sys.exit(main([path]))


def test_full_disk_ends_the_run_and_a_changed_recipe_resumes(
    make_run: Callable[..., folder.Run],  # noqa: F811
) -> None:
    run = make_run(max_steps=6, eval_steps=2, sample_steps=6)
    process = SERVER.Process(target=limited, args=(str(run.path),), daemon=True)
    process.start()
    process.join(DEADLINE_S)
    state = Watcher(run).read_all()
    assert process.exitcode == 1
    assert state.end.state == "failed" and state.step == 2
    assert "resume" in state.end.message and str(run.path) in state.end.message
    assert "Traceback" not in state.end.message and "\n" not in state.end.message
    assert not (run.path / ".reserve").exists()

    # an unfinished checkpoint is passed over, and a changed recipe is reported and used
    launch.start(run, run.recipe().changed(learning_rate=1e-3, save_total_limit=1))
    state = until(run, ended).state
    assert state.end.state == "finished", run.log_tail()
    assert any("passed over" in text and "not finished" in text for text in state.warnings)
    [event] = [e for e in read_log(run.events_path) if e["kind"] == "recipe_changed"]
    assert [(c["field"], c["weight"]) for c in event["changes"]] == [
        ("learning_rate", "course"),
        ("save_total_limit", "harmless"),
    ]
    assert max(state.learning_rate.values) == pytest.approx(1e-3)
    used = changes.last_used(run, 3)
    assert used == run.recipe() and changes.last_used(run, 2) != used
    assert state.loss.steps == list(range(1, 7))
    assert {path.name for path in run.checkpoints_path.iterdir()} <= {"checkpoint-6", "checkpoint-4"}


def test_deleted_folder_stops_the_run(
    make_run: Callable[..., folder.Run],  # noqa: F811
) -> None:
    run = make_run()
    events = EventWriter(run.events_path)
    control = CommandProcessor(
        run,
        events,
        (),
        0.0,
        on_pause=lambda _: None,
        probe=SimpleNamespace(),
        group=ProcessGroup(),  # type: ignore[arg-type]
    )
    trainer: Any = SimpleNamespace(state=SimpleNamespace(global_step=3), control=SimpleNamespace())
    control.process_commands(trainer)
    os.rename(run.path, run.path.with_name("moved"))  # noqa: PTH104
    with pytest.raises(FolderGone):
        control.process_commands(trainer)
    assert not run.path.exists()  # and nothing makes it anew
