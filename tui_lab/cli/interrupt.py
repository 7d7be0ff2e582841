"""What Ctrl+C means to commands that have something to keep: the first asks, the second one kills."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Gives the question whether Ctrl+C was pressed; whoever works asks it between two steps. A second
    Ctrl+C ends the command at once."""
    asked = threading.Event()

    def first(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = signal.signal(signal.SIGINT, first)
    except ValueError:  # not in the main thread, as in tests
        yield asked.is_set
        return
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
