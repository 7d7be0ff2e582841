"""How far a job is, and how long it still takes at its pace so far."""

from __future__ import annotations

import time
from collections.abc import Callable

from tui_lab.core.format import duration

#: A pace is known after this time.
KNOWN_AFTER_S = 1.0
#: A stage without a count says after this time, and then every second, how long it has taken.
SILENT_S, TICK_S = 3.0, 1.0


def so_far(text: str, seconds: float) -> str:
    """What is done now and for how long: "starting, 0:05 so far"."""
    return f"{text.removesuffix(' …')}, {duration(seconds)} so far"


class TimeLeft:
    """The pace of a job, stage by stage. A stage is a text up to its first comma with a total; a smaller
    count begins it again. ``clock``: seconds, for tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: tuple[str, int] = ("", 0)
        self._first, self._newest, self._began = 0, 0, 0.0

    def left(self, text: str, done: int, total: int) -> str:
        """ "0:40 left"; "" until the pace of the stage is known."""
        stage, now = (text.partition(",")[0], total), self._clock()
        if stage != self._stage or done < self._newest:
            self._stage, self._first, self._began = stage, done, now
        self._newest = done
        since, elapsed = done - self._first, now - self._began
        if since <= 0 or elapsed < KNOWN_AFTER_S:
            return ""
        return f"{duration((total - done) * elapsed / since)} left"

    def line(self, text: str, done: int | None, total: int | None) -> str:
        """The newest progress in one line: "checking: 12 of 40, 0:20 left". A count that the text has is not
        repeated."""
        if done is None or not total:
            return f"{text} …"
        count, left = f"{done:,} of {total:,}", self.left(text, done, total)
        counted = text if count in text else f"{text}: {count}"
        return f"{counted}, {left}" if left else counted
