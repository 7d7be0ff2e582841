"""The marks of Setup's lists: whether each model fits this machine with the present recipe, and each preset
with the present model. Worked out in a thread, a moment after the last change."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from tui_lab.ui.screens.pane import Pane

if TYPE_CHECKING:
    from textual.timer import Timer

    from tui_lab.forecast.cost import DataFacts
    from tui_lab.forecast.machine_fit import MachineFit
    from tui_lab.hardware.memory_budget import MemoryBudget
    from tui_lab.models.catalog import Entry

#: A relative change of the free memory after which a recipe may be divided otherwise on a GPU.
NOTICED_CHANGE = 0.1
#: Seconds after a change until the marks are worked out again; and between two times when only the free
#: memory changes, as it always does on a busy machine.
AFTER_S, MEMORY_EVERY_S = 0.3, 30.0


@dataclass(frozen=True)
class MarkRequest:
    """What the marks are of. ``models`` and ``presets``: the values of the recipe with each of them, by
    id."""

    entry: Entry | None
    entries: Sequence[Entry]
    models: Mapping[str, Mapping[str, object]]
    presets: Mapping[str, Mapping[str, object]]
    pinned: Mapping[str, object]
    budget: MemoryBudget
    data: DataFacts | None


@dataclass(frozen=True)
class ListMarks:
    """Whether each fits, by id; empty until it is known."""

    models: Mapping[str, MachineFit] = field(default_factory=dict)
    presets: Mapping[str, MachineFit] = field(default_factory=dict)


class FitMarks:
    """``found`` are the present marks; ``show`` is called when they change."""

    def __init__(self, pane: Pane, show: Callable[[], object]) -> None:
        self._pane, self._show = pane, show
        self.found = ListMarks()
        self._request: MarkRequest | None = None
        self._timer: Timer | None = None
        self._worked_out: MarkRequest | None = None
        self._worked_out_at = 0.0

    def update(self, request: MarkRequest) -> None:
        """Works the marks out again if the request is another one."""
        if self._request is not None and is_same_work(self._request, request):
            return
        self._request = request
        wait_s = AFTER_S
        if self._worked_out is not None and _differ_in_memory_only(self._worked_out, request):
            wait_s = max(AFTER_S, MEMORY_EVERY_S - (time.monotonic() - self._worked_out_at))
        if self._timer is not None:
            self._timer.stop()
        self._timer = self._pane.set_timer(wait_s, self._start)

    def _start(self) -> None:
        if self._request is not None:
            self._worked_out, self._worked_out_at = self._request, time.monotonic()
            self._pane.in_thread(partial(work_out, self._request), self._take, "marks")

    def _take(self, found: ListMarks) -> None:
        if found != self.found:
            self.found = found
            self._show()


def _differ_in_memory_only(one: MarkRequest, other: MarkRequest) -> bool:
    budget = replace(other.budget, free_bytes=one.budget.free_bytes)
    return replace(other, budget=budget) == one


def is_same_work(before: MarkRequest, now: MarkRequest) -> bool:
    """Whether two requests have the same marks but for a little more or less free memory, which
    :meth:`tui_lab.forecast.machine_fit.MachineFit.at` covers."""
    was, free = before.budget.free_bytes, now.budget.free_bytes
    if was is None or free is None:
        return before == now
    if abs(free - was) > NOTICED_CHANGE * max(was, 1):
        return False
    return replace(now, budget=replace(now.budget, free_bytes=was)) == before


def work_out(request: MarkRequest) -> ListMarks:
    """The marks, in about a millisecond each."""
    from tui_lab.forecast.machine_fit import machine_fit

    budget, data = request.budget, request.data
    models = {
        entry.id: machine_fit(request.models[entry.id], request.pinned, entry, budget)
        for entry in request.entries
        if not entry.refused and entry.id in request.models
    }
    presets = {}
    if request.entry is not None:
        for name, values in request.presets.items():
            presets[name] = machine_fit(values, {}, request.entry, budget, data)
    return ListMarks(models, presets)
