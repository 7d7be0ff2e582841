"""Commands reach a run once, across resumes, from several senders, past lines that are none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder
from tui_lab.runs.commands import COMMANDS, Inbox, send, size, suspended_note
from tui_lab.runs.folder import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return folder.create(Recipe(), tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_arrives_once(run: Run, name: str) -> None:
    inbox = Inbox(run, set())
    assert inbox.poll() == []
    command_id = send(run, name)
    (command,) = inbox.poll()
    assert (command.id, command.name) == (command_id, name)
    assert command.sent_at > 1e9
    assert inbox.poll() == []


def test_acknowledged_commands_are_not_repeated(run: Run) -> None:
    old, new = send(run, "pause"), send(run, "stop")
    assert [command.id for command in Inbox(run, {old}).poll()] == [new]
    assert Inbox(run, {old, new}).poll() == []


def test_the_same_line_twice_is_one_command(run: Run) -> None:
    send(run, "stop")
    line = run.commands_path.read_bytes()
    run.commands_path.write_bytes(line + line)
    assert len(Inbox(run, set()).poll()) == 1


def test_unknown_commands_are_refused_by_the_sender(run: Run) -> None:
    with pytest.raises(LabError, match="pause, continue, stop, skip, checkpoint"):
        send(run, "explode")
    assert not run.commands_path.exists()


def test_invalid_command_lines_are_skipped(run: Run) -> None:
    lines = [
        "{half",
        "[]",
        json.dumps({"id": 3, "name": "stop"}),
        json.dumps({"id": "a", "name": None}),
        json.dumps({"name": "stop"}),
        json.dumps({"id": "b", "name": "stop", "t": "soon"}),
        json.dumps({"id": "c", "name": "of the future", "t": 5}),
    ]
    run.commands_path.write_text("\n".join(lines) + "\n")
    found = Inbox(run, set()).poll()
    assert [(c.id, c.name, c.sent_at) for c in found] == [("c", "of the future", 5.0)]


def test_several_senders_write_whole_lines(run: Run) -> None:
    sent: list[str] = []
    threads = [
        threading.Thread(target=lambda: sent.extend(send(run, "pause") for _ in range(25))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Inbox(run, set()).poll()
    assert sorted(command.id for command in found) == sorted(sent)
    assert len(set(sent)) == 100


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be written"):
        send(Run(tmp_path / "gone"), "stop")


def test_commands_before_a_place_in_the_file_are_late_whatever_their_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 9e9)
    old = send(run, "stop")
    place = size(run)
    monkeypatch.setattr(time, "time", lambda: 1.0)
    new = send(run, "stop")
    inbox = Inbox(run, set(), place)
    assert [command.id for command in inbox.poll()] == [old, new]
    assert inbox.late == {old}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_suspended_process_is_named_with_the_remedy(run: Run) -> None:
    program = "import sys, time; print(flush=True); time.sleep(60)"
    command = [sys.executable, "-c", program, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            assert suspended_note(run, process.pid) == ""
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            assert f"kill -CONT {process.pid}" in suspended_note(run, process.pid)
            assert suspended_note(Run(run.path / "another"), process.pid) == ""
        finally:
            process.kill()
    assert suspended_note(run, process.pid) == suspended_note(run, None) == ""
