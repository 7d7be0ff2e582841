"""When the marks of Setup's lists are worked out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from tui_lab.forecast.machine_fit import MachineFit
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.ui.screens import setup_marks
from tui_lab.ui.screens.setup_marks import AFTER_S, MEMORY_EVERY_S, FitMarks, ListMarks, MarkRequest

GIB = 1 << 30
BUDGET = MemoryBudget(DeviceFacts("cpu", "cpu", 16 * GIB, True, 2), 8 * GIB, "main memory", "free now in")
REQUEST = MarkRequest(None, (), {}, {}, {}, BUDGET, None)


class FakeTimer:
    stopped = False

    def stop(self) -> None:
        self.stopped = True


class FakePane:
    """Records when work would start, and does it at once when the test says so."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.due: Callable[[], object] = lambda: None

    def set_timer(self, wait_s: float, callback: Callable[[], object]) -> FakeTimer:
        self.waits.append(wait_s)
        self.due = callback
        return FakeTimer()

    def in_thread(self, work: Callable[[], Any], done: Callable[[Any], object], group: str) -> None:
        done(work())


def test_marks_follow_the_memory_slowly_and_everything_else_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(setup_marks.time, "monotonic", lambda: now)
    worked: list[MarkRequest] = []

    def work_out(request: MarkRequest) -> ListMarks:
        worked.append(request)
        return ListMarks({"pocket": MachineFit("fits", len(worked))})

    monkeypatch.setattr(setup_marks, "work_out", work_out)
    pane, shown = FakePane(), []
    marks = FitMarks(cast("Any", pane), lambda: shown.append(marks.found))
    marks.update(REQUEST)
    pane.due()
    now += 3
    less = replace(REQUEST, budget=replace(BUDGET, free_bytes=7 * GIB))
    marks.update(less)
    marks.update(less)  # the same: nothing happens
    assert pane.waits == [AFTER_S, MEMORY_EVERY_S - 3]
    other = replace(less, pinned={"lora_r": 8})
    marks.update(other)
    marks.update(replace(other, budget=BUDGET))  # before the work has begun: it must not wait
    marks.update(replace(REQUEST, budget=replace(BUDGET, uuid="GPU-1")))
    assert pane.waits[2:] == [AFTER_S] * 3
    pane.due()
    assert [each.budget.uuid for each in worked] == [None, "GPU-1"] and len(shown) == 2
    now += 100
    marks.update(replace(REQUEST, budget=replace(BUDGET, uuid="GPU-1", free_bytes=GIB)))
    assert pane.waits[-1] == AFTER_S, "long after the last time it does not wait"
