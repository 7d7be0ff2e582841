"""What Python's garbage collector is left to do in the lab, and when it is asked to do the rest."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tui_lab.ui.terminal import gc_policy
from tui_lab.ui.terminal.gc_policy import Collector


class Circle:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def app() -> Iterator[Any]:
    threshold = gc.get_threshold()
    timers: list[tuple[float, Any]] = []
    made = SimpleNamespace(is_headless=False, timers=timers)
    made.set_interval = made.set_timer = lambda seconds, call: timers.append((seconds, call))
    try:
        yield made
    finally:
        gc.set_threshold(*threshold)


def test_all_is_looked_through_in_a_pause_only(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(gc_policy.time, "monotonic", lambda: now)
    cares = Collector(app)
    cares.start()
    assert gc.get_threshold() == gc_policy.COLLECT_AFTER
    [look] = [call for seconds, call in app.timers if seconds == gc_policy.LOOK_EVERY_S]
    circle = weakref.ref(Circle())
    gc.collect(1)  # whatever is alive or not is old now
    old = Circle()
    watched = weakref.ref(old)
    gc.collect(1)
    del old
    for _ in range(gc_policy.WORTH_WHILE):
        gc.collect(1)
    assert circle() is None and watched() is not None, "an old one is left to a look through all"
    cares.somebody_is_there()
    now += gc_policy.PAUSE_S / 2
    look()
    assert watched() is not None, "somebody types"
    now += gc_policy.PAUSE_S
    look()
    assert watched() is None


def test_with_little_to_find_nothing_is_looked_through(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cares = Collector(app)
    cares.start()
    gc.collect()
    monkeypatch.setattr(gc_policy.time, "monotonic", lambda: float("inf"))
    monkeypatch.setattr(gc_policy.gc, "collect", lambda: pytest.fail("for nothing"))
    cares._look()


def test_where_labs_come_and_go_python_is_left_alone(app: Any) -> None:
    before = gc.get_threshold()
    app.is_headless = True
    cares = Collector(app)
    cares.start()
    cares.keep()
    assert not app.timers and gc.get_threshold() == before
