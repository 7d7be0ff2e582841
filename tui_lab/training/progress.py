"""How far the long measurements of a run are, as events, and skipping them: rows done of all, time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from tui_lab.runs.schema import ProgressEvent, RunEvent

#: Seconds between two events of one measurement, and before its first: a short one needs none.
EVENT_S = 2.0


class SkipRequested(BaseException):  # no Exception: libraries catch those
    """The measurement in progress was asked to be skipped."""


class AttemptProgress:
    """The progress of one attempt. ``skip_asked`` says whether the measurement in progress is to be skipped;
    it is asked only within :meth:`skippable`."""

    def __init__(self, write: Callable[[RunEvent], object], skip_asked: Callable[[], bool]) -> None:
        self._write, self._skip_asked = write, skip_asked
        self._can_skip = False
        self.skips = 0  # measurements that were skipped

    @contextlib.contextmanager
    def skippable(self) -> Iterator[None]:
        """A block that is left early when the measurement is skipped. Everything measured in it so far
        stays."""
        self._can_skip = True
        try:
            yield
        except SkipRequested:
            self.skips += 1
        finally:
            self._can_skip = False

    def of(self, name: str, unit: str) -> Callable[[int, int], None]:
        """A function of (done, total) that reports the measurement ``name``, which begins now, in ``unit``.
        It raises SkipRequested where that was asked."""
        began = reported = time.monotonic()
        newest = 0

        def report(done: int, total: int) -> None:
            nonlocal reported, newest
            if self._can_skip and self._skip_asked():
                raise SkipRequested
            now = time.monotonic()
            if now - reported < EVENT_S or not newest < done <= total:
                return
            reported, newest = now, done
            left_s = round((now - began) / done * (total - done), 1)
            self._write(ProgressEvent(name=name, done=done, total=total, unit=unit, left_s=left_s))

        return report
