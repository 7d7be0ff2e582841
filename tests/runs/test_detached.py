"""A run belongs to nobody's terminal: whoever started it may be killed in any way, and any number of others,
of any session, see all of it and steer it. The run process is tests/fake_worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.test_main import LAB
from tui_lab.runs import folder
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.state import Watcher


def started(how: signal.Signals, runs_dir: Path) -> Run:
    """A run whose starter, with all of its session, was ended by a signal while following it."""
    process = subprocess.Popen(
        [*LAB, "train", "--set", "max_steps=4000"], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # tests under nohup ignore it
    )  # fmt: skip
    assert process.stdout is not None
    while b"plan:" not in process.stdout.readline():
        assert process.poll() is None
    os.killpg(process.pid, how)
    process.wait(timeout=30)
    process.stdout.close()
    [run] = folder.list_runs(runs_dir)
    return run


def follow(run: Run) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LAB, "watch", run.id, "--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_the_run_outlives_its_starter_and_all_see_and_steer_it(
    how: signal.Signals, fake_worker: None, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.02")
    run = started(how, runs_dir)
    assert is_locked(run)
    watchers = [follow(run), follow(run)]
    watcher = Watcher(run)
    step = watcher.read_all().step
    for command, state in (("pause", "paused"), ("continue", "running"), ("stop", "stopped")):
        done = subprocess.run([*LAB, command, run.id, "--json"], capture_output=True, text=True, timeout=60)
        assert json.loads(done.stdout)["answered"], done.stderr
        deadline = time.monotonic() + 30
        while watcher.read_all() and watcher.status != state and time.monotonic() < deadline:
            time.sleep(0.02)
        assert watcher.status == state
    assert watcher.state.step > step
    assert len(watcher.state.acknowledged) == 3
    lines = len(run.events_path.read_bytes().splitlines())
    for process in watchers:
        out, _ = process.communicate(timeout=60)
        told = [json.loads(line) for line in out.splitlines()]
        assert told[0]["kind"] == "resumed" and told[-1]["kind"] == "result"  # the whole history
        assert len(told) == lines + 1 and told[-1]["state"] == "stopped"
