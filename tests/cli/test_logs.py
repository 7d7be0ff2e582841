"""`tui-lab logs`: worker.log and events as sentences, the last of each, followed, and safe to print."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cli.test_main import LAB
from tui_lab.cli import main
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock
from tui_lab.runs.schema import (
    EndEvent,
    LadderEvent,
    PlanEvent,
    ResumedEvent,
    SampleEvent,
    StepEvent,
    WarningEvent,
)

EVIL = "\x1b]0;owned\x07\x9b2J\u202eevil"


@pytest.fixture
def run(runs_dir: Path) -> Run:
    run = folder.create(Recipe(max_steps=30))
    run.log_path.write_bytes(b"loading\n" + EVIL.encode() + b"\n\xff\xfe broken\nno end yet")
    events = EventWriter(run.events_path)
    events.write(ResumedEvent(from_step=0, attempt=1))
    events.write(PlanEvent(total_steps=30, eval_steps=5))
    for step in range(1, 31):
        events.write(StepEvent(step=step, loss=3.0 / step, tok_per_s=100.0))
    events.write(SampleEvent(step=30, prompt="hello", text=EVIL))
    events.write(LadderEvent(step=30, rung="split", text="memory ran out at step 30", cost=""))
    events.write(EndEvent(state="failed", message="the disk is full"))
    events.close()
    return run


def out(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main.main(["logs", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_last_lines_of_both_as_sentences(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lines = out(capsys, run.id, "--lines", "5")
    words = [line for line in lines if line.startswith("worker.log")]
    assert words[0] == "worker.log  loading" and words[-1] == "worker.log  no end yet"
    told = [line for line in lines if not line.startswith("worker.log")]
    assert len(told) == 5
    assert told[-1].endswith("failed: the disk is full")
    assert "memory ran out at step 30" in told[-2]
    assert "step 30: loss 0.1, 100 tok/s" in told[-4]
    assert all(line[4] == "-" and line[13] == ":" for line in told)  # the time


def test_all_of_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lines = out(capsys, run.id, "--lines", "0")
    assert sum(": loss" in line for line in lines) == 30


def test_hostile_text_is_text(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(out(capsys, run.id, "--lines", "0"))
    assert "owned" in text and not set(text) & set("\x1b\x07\x9b\u202e")


def test_as_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    records = [json.loads(line) for line in out(capsys, run.id, "--json", "--lines", "3")]
    assert {record["kind"] for record in records} == {"worker_log", "sample", "ladder", "end"}


def test_following_ends_with_the_run(run: Run) -> None:
    lock = RunLock.take(run)
    process = subprocess.Popen(
        [*LAB, "logs", run.id, "--follow", "--lines", "1"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    timer = threading.Timer(60, process.kill)
    timer.start()
    while "failed: the disk is full" not in (line := process.stdout.readline()):
        assert line
    with run.log_path.open("a") as log:
        log.write(", and now it ends\nanother\n")
    events = EventWriter(run.events_path)
    events.write(WarningEvent(text="late"))
    events.close()
    lock.release()
    rest = process.stdout.read()
    timer.cancel()
    assert process.wait(timeout=30) == 0
    assert "no end yet, and now it ends" in rest and "worker.log  another" in rest and "warning: late" in rest


def test_without_textual_and_torch() -> None:
    code = "import sys, tui_lab.cli.logs; print([n for n in ('textual', 'torch') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_loss_of_400_digits_and_a_line_without_end_end_nothing(
    runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder.create(Recipe(), runs_dir)
    with run.events_path.open("wb") as file:
        file.write(b'{"v":1,"t":1,"kind":"step","step":1,"loss":1' + b"0" * 400 + b"}\n")
        file.write(b'{"v":1,"t":1,"kind":"validation","step":1,"loss":1' + b"0" * 5000 + b',"rows":1}\n')
        file.write(b"x" * (9 << 20) + b"\n")
        file.write(b'{"v":1,"t":1,"kind":"warning","text":"the last"}\n')
    for more in ([], ["--json"]):
        assert main.main(["logs", run.id, *more]) == 0
        assert "the last" in capsys.readouterr().out
