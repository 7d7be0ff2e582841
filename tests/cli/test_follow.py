"""The displays of a run that is followed: where lines, JSON and the progress line go."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest
from rich.console import Console

from tests.cli.test_output import Terminal
from tui_lab.cli import follow
from tui_lab.runs.event_lines import encode_event
from tui_lab.runs.events import LogLine, line_fields
from tui_lab.runs.schema import PhaseEvent, PlanEvent, ProgressEvent, RunEvent, StepEvent, WarningEvent
from tui_lab.runs.state import RunState


def log_line(event: RunEvent) -> LogLine:
    text = encode_event(event)
    return LogLine(text if isinstance(text, bytes) else text.encode(), event)


def streams(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, err: io.StringIO) -> None:
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")


RUN = (
    PhaseEvent(name="training"),
    PlanEvent(total_steps=10),
    StepEvent(step=4, loss=1.5, tok_per_s=100.0, t=1.0),
    WarningEvent(text="rows are cut", t=2.0),
)


@pytest.mark.parametrize("as_json", [False, True])
def test_in_a_pipe_lines_go_to_stdout_and_the_progress_to_the_terminal(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = io.StringIO(), Terminal()
    streams(monkeypatch, out, err)
    state = RunState()
    with follow.display_for(as_json) as display:
        for event in RUN:
            state.apply([event])
            display.event(log_line(event), state)
        display.tick(state, "running")
        display.note("a note")
    printed, drawn = out.getvalue(), err.getvalue()
    assert "\x1b" not in printed and "a note" not in printed
    assert "step 4/10" in drawn and "a note" in drawn and "rows are cut" not in drawn
    lines = printed.splitlines()
    if as_json:
        assert [json.loads(line) for line in lines] == [line_fields(log_line(event)) for event in RUN]
    else:
        assert any("rows are cut" in line for line in lines)


def test_without_a_terminal_there_is_no_progress_line(monkeypatch: pytest.MonkeyPatch) -> None:
    streams(monkeypatch, io.StringIO(), io.StringIO())
    assert isinstance(follow.display_for(True), follow.JsonLines)
    assert isinstance(follow.display_for(False), follow.PlainLines)
    streams(monkeypatch, Terminal(), Terminal())
    assert isinstance(follow.display_for(False), follow.LiveProgress)
    assert isinstance(follow.display_for(True), follow.JsonLines)


def test_the_line_has_n_of_n_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    streams(monkeypatch, Terminal(), Terminal())
    drawn = io.StringIO()
    console = Console(file=drawn, width=100, force_terminal=True, color_system=None)
    state = RunState()
    with follow.LiveProgress(console) as live:
        state.apply([*RUN[:2], StepEvent(step=4, loss=1.5, eta_s=6.0, t=1.0)])
        live.tick(state, "running")
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.getvalue()).splitlines()[-1]
    assert "step 4/10" in last and "0:06 left  loss 1.5" in last
    with follow.LiveProgress(console) as live:
        state.apply([ProgressEvent(name="evaluating", done=312, total=747, left_s=40.0)])
        live.tick(state, "running")
    assert "312 of 747 rows, 0:40 left" in drawn.getvalue()
