"""Starting a run: a session of its own, the lock held without a gap, nothing of the terminal inherited."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder, launch
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.state import Watcher


@pytest.fixture
def run(tmp_path: Path, fake_worker: None) -> Iterator[Run]:
    yield folder.create(Recipe(max_steps=200), tmp_path)


def wait_for(watcher: Watcher, *states: str, timeout_s: float = 30) -> str:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        watcher.poll()
        if watcher.status in states:
            return watcher.status
        time.sleep(0.02)
    pytest.fail(f"still {watcher.status}, log: {watcher.run.log_tail()}")


def test_a_run_has_its_own_session(run: Run) -> None:
    child = launch.start(run)
    try:
        assert is_locked(run)  # from before its first instruction
        watcher = Watcher(run)
        assert watcher.status == "starting"
        wait_for(watcher, "running")
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
        assert watcher.state.started.pid == child.pid
        if Path(f"/proc/{child.pid}/fd").is_dir():
            streams = [str(Path(f"/proc/{child.pid}/fd/{n}").readlink()) for n in range(3)]
            assert streams == ["/dev/null", str(run.log_path), str(run.log_path)]
        with pytest.raises(LabError, match="it is running already"):
            launch.start(run)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert wait_for(watcher, "crashed") == "crashed"


def test_a_run_finishes_and_its_lock_is_free(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0")
    child = launch.start(run)
    watcher = Watcher(run)
    assert wait_for(watcher, "finished") == "finished"
    assert child.wait(timeout=10) == 0
    assert not is_locked(run)
    assert watcher.read_all().step == 200


def test_a_dead_run_can_be_started_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0")
    monkeypatch.setenv("FAKE_END", "crash")
    child = launch.start(run)
    child.wait(timeout=30)
    assert Watcher(run).read_all().step == 100
    monkeypatch.setenv("FAKE_END", "finished")
    again = launch.start(run)
    again.wait(timeout=30)
    watcher = Watcher(run)
    state = watcher.read_all()
    assert (state.attempt, state.step, watcher.status) == (2, 200, "finished")
    assert state.loss.steps == list(range(1, 201))


def test_a_missing_folder_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be written"):
        launch.start(Run(tmp_path / "gone"))


def test_a_run_that_cannot_be_started_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    with pytest.raises(LabError, match="cannot be started"):
        launch.create_and_start(Recipe(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(folder, "write_atomically", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        folder.create(Recipe(), tmp_path)
    assert list(tmp_path.iterdir()) == []
