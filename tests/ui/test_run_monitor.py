"""The terminal is notified once when a run that was in progress has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tui_lab.recipes.presets import make_recipe
from tui_lab.runs import folder, notify
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import EndEvent, StartedEvent
from tui_lab.ui import run_monitor
from tui_lab.ui.run_monitor import RunMonitor


class App:
    def __init__(self) -> None:
        self.timers: list[Any] = []

    def set_interval(self, _: float, callback: Any) -> None:
        self.timers.append(callback)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(run_monitor, "write_sequences", lambda _, text: texts.append(text))
    return texts


def test_an_ended_run_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[str]
) -> None:
    monkeypatch.setenv("TUI_LAB_RUNS_DIR", str(tmp_path))
    monkeypatch.setenv(notify.TERMINAL_ENV, "True")
    run = folder.create(make_recipe("minute"), tmp_path)
    events = EventWriter(run.events_path)
    events.write(StartedEvent(pid=1, host="here"))
    lock = folder.RunLock.take(run)
    app: Any = App()
    RunMonitor(app).start_notifying()
    [look] = app.timers
    look()
    assert written == []
    events.write(EndEvent(state="finished", step=3))
    lock.release()
    look()
    look()
    [text] = written
    assert f"run {run.id} finished" in text


def test_without_the_setting_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(notify.TERMINAL_ENV, raising=False)
    app: Any = App()
    RunMonitor(app).start_notifying()
    assert app.timers == []
