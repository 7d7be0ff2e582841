"""Why a run died, out of what real processes leave when they die."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.records import parse
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import crash_reason, folder
from tui_lab.runs.folder import ATTEMPT_MARK, Run
from tui_lab.runs.state import RunState, Watcher


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return folder.create(Recipe(), tmp_path)


def said_by(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ValueError('no such thing')", "ValueError: no such thing"),
        ("import json; json.loads('{')", "json.decoder.JSONDecodeError"),
        ("import faulthandler, ctypes; faulthandler.enable(); ctypes.string_at(0)", "Segmentation fault"),
        ("import faulthandler, os; faulthandler.enable(); os.abort()", "Aborted"),
    ],
)
def test_the_last_exception_or_fatal_signal(run: Run, code: str, words: str) -> None:
    run.log_path.write_text(f"loading\n{said_by(code)}")
    state = RunState()
    state.apply(parse([{"kind": "step", "step": 7, "loss": 1.0}]))
    found = crash_reason.sentence(run, state)
    assert words in found and "at step 7" in found and "\n" not in found


def test_what_the_launcher_of_several_processes_says(run: Run) -> None:
    run.log_path.write_text(
        "Root Cause (first observed failure):\n  rank      : 1 (local_rank: 1)\n  exitcode  : -9 (pid: 7)\n"
        "  error_file: <N/A>\n  traceback : Signal 9 (SIGKILL) received by PID 7\n====\n"
    )
    assert "ended by SIGKILL" in crash_reason.sentence(run, RunState())


def test_no_words_mean_an_end_from_outside(run: Run) -> None:
    run.log_path.write_text("a warning of a library\n")
    state = RunState()
    state.apply(parse([{"kind": "phase", "name": "loading_model"}]))
    found = crash_reason.sentence(run, state)
    assert "without an error message" in found and "loading model" in found


def test_an_earlier_attempts_words_are_not_this_ones(run: Run) -> None:
    run.log_path.write_text(
        f"{ATTEMPT_MARK}then\nRuntimeError: of the first attempt\n{ATTEMPT_MARK}now\nloading\n"
    )
    assert run.log_tail() == ["loading"]
    assert "without an error message" in crash_reason.sentence(run, RunState())
    run.log_path.write_text(f"{ATTEMPT_MARK}now\n")
    assert run.log_tail() == [] and run.was_started
    assert Watcher(run).status == "crashed"  # a process was started and is gone


def test_a_folder_that_is_gone(run: Run) -> None:
    shutil.rmtree(run.path)
    assert "is gone" in crash_reason.sentence(run, RunState())
