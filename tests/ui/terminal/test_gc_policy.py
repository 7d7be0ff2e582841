"""Full garbage collections run in pauses of the user only."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tui_lab.ui.terminal import gc_policy
from tui_lab.ui.terminal.gc_policy import Collector


class Cycle:
    """A reference cycle."""

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


def test_a_full_collection_waits_for_a_pause(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(gc_policy.time, "monotonic", lambda: now)
    collector = Collector(app)
    collector.start()
    assert gc.get_threshold() == gc_policy.THRESHOLDS
    [check] = [call for seconds, call in app.timers if seconds == gc_policy.CHECK_EVERY_S]
    cycle = weakref.ref(Cycle())
    gc.collect(1)  # moves every object to the oldest generation
    old = Cycle()
    watched = weakref.ref(old)
    gc.collect(1)
    del old
    for _ in range(gc_policy.MIN_COLLECTIONS):
        gc.collect(1)
    assert cycle() is None and watched() is not None, "an old object needs a full collection"
    collector.input_arrived()
    now += gc_policy.PAUSE_S / 2
    check()
    assert watched() is not None, "the user is typing"
    now += gc_policy.PAUSE_S
    check()
    assert watched() is None


def test_few_new_objects_start_no_full_collection(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector(app)
    collector.start()
    gc.collect()
    monkeypatch.setattr(gc_policy.time, "monotonic", lambda: float("inf"))
    monkeypatch.setattr(gc_policy.gc, "collect", lambda: pytest.fail("a full collection ran"))
    collector._collect_in_pause()


def test_a_headless_app_changes_nothing(app: Any) -> None:
    before = gc.get_threshold()
    app.is_headless = True
    collector = Collector(app)
    collector.start()
    collector.keep()
    assert not app.timers and gc.get_threshold() == before


def test_the_first_frame_is_drawn_without_collections(app: Any) -> None:
    gc.disable()  # as cli/lab.py does
    try:
        Collector(app).start()
        assert gc.isenabled()
    finally:
        gc.enable()
