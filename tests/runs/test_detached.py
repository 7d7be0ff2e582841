"""A run does not depend on the process that started it, and any number of processes of other sessions follow
and control it. The run process is tests/fake_worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.test_main import LAB
from tui_lab.runs import commands, folder
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


def until_status(watcher: Watcher, status: str) -> None:
    deadline = time.monotonic() + 60
    while watcher.read_all() and watcher.status != status:
        assert time.monotonic() < deadline, f"{watcher.status} instead of {status}"
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGTERM])
def test_the_run_outlives_its_starter(
    how: signal.Signals, fake_worker: None, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.02")
    run = started(how, runs_dir)
    assert is_locked(run)
    commands.send(run, "stop")
    until_status(Watcher(run), "stopped")


def test_several_sessions_follow_and_control_a_run(
    fake_worker: None, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.02")
    run = started(signal.SIGKILL, runs_dir)
    followers = [follow(run), follow(run)]
    watcher = Watcher(run)
    step = watcher.read_all().step
    for command, status in (("pause", "paused"), ("continue", "running")):
        commands.send(run, command)
        until_status(watcher, status)
    done = subprocess.run([*LAB, "stop", run.id, "--json"], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["answered"], done.stderr
    until_status(watcher, "stopped")
    assert watcher.state.step > step
    assert len(watcher.state.acknowledged) == 3
    lines = len(run.events_path.read_bytes().splitlines())
    for process in followers:
        out, _ = process.communicate(timeout=60)
        printed = [json.loads(line) for line in out.splitlines()]
        assert printed[0]["kind"] == "resumed" and printed[-1]["kind"] == "result"  # the whole history
        assert len(printed) == lines + 1 and printed[-1]["state"] == "stopped"
