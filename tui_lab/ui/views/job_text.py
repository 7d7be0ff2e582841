"""How far a job is, in words: what it does, n of N, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from tui_lab.core.format import duration

#: Seconds of a stage before its speed says something.
SPEED_AFTER_S = 2.0


class JobText:
    """One job. ``clock``: seconds, for tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: tuple[str, int | None] = ("", None)
        self._began, self._first = 0.0, 0

    def line(self, text: str, done: int | None, total: int | None) -> str:
        """The newest progress in one line: checking: 12 of 40, 0:20 left."""
        if done is None or not total:
            return f"{text} …"
        now = self._clock()
        if self._stage != (text, total) or done < self._first:
            self._stage, self._began, self._first = (text, total), now, done
        passed, since = now - self._began, done - self._first
        left = (
            f", {duration(passed / since * (total - done))} left" if since and passed > SPEED_AFTER_S else ""
        )
        return f"{text}: {done:,} of {total:,}{left}"
