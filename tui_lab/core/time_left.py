"""How far a job is, and how long it still takes at its pace so far."""

from __future__ import annotations

import time

from tui_lab.core.format import duration

#: A pace is known after this time.
KNOWN_AFTER_S = 1.0


class TimeLeft:
    """Turns counts into "312/747, 0:40 left". Another total, or a smaller count, begins another stage."""

    def __init__(self) -> None:
        self._began: tuple[int, int, float] | None = None  # total, count and time of the stage's first count
        self._last = 0

    def text(self, done: int, total: int, now: float | None = None) -> str:
        """The count now, with the time left where it is known. ``now``: seconds of a monotonic clock."""
        now = time.monotonic() if now is None else now
        if self._began is None or self._began[0] != total or done < self._last:
            self._began = (total, done, now)
        self._last = done
        since, elapsed = done - self._began[1], now - self._began[2]
        text = f"{done:,}/{total:,}"
        if since > 0 and elapsed >= KNOWN_AFTER_S:
            text += f", {duration((total - done) * elapsed / since)} left"
        return text
