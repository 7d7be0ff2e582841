"""How often things that move by themselves are drawn: less often on a slow link."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from textual.timer import Timer
from textual.widget import Widget

from tui_lab.ui.terminal.types import AnyApp


def is_slow(app: AnyApp) -> bool:
    """Whether less is to be sent to the terminal. Other apps, such as those of tests, are never slow."""
    return bool(getattr(app, "slow_link", False))


@dataclass(frozen=True)
class Pace:
    """Seconds between two drawings of something that moves by itself."""

    usual_s: float
    slow_link_s: float

    def of(self, app: AnyApp) -> float:
        return self.slow_link_s if is_slow(app) else self.usual_s


#: A plot costs milliseconds to draw, and may change all of its rows.
PLOT = Pace(0.5, 2.0)
#: Text that streams: ten times a second reads as flowing.
STREAM = Pace(0.1, 0.34)
#: Text that arrives in portions is drawn at once: the playground process sends ten a second.
PORTIONS = Pace(0.0, 0.34)
#: Numbers that count up.
FIGURES = Pace(0.5, 1.5)
#: The lines about a run, and its log.
RUN = Pace(0.5, 2.0)


class Paced:
    """Calls ``draw`` for ``widget`` on demand, at most once per interval of its pace: several demands
    become one call, which draws the newest state."""

    def __init__(self, widget: Widget, pace: Pace, draw: Callable[[], object]) -> None:
        self._widget, self._pace, self._draw = widget, pace, draw
        self._timer: Timer | None = None
        self._drawn_at = -math.inf

    def want(self) -> None:
        """Draws now, or when the interval has passed."""
        if self._timer is not None:
            return
        wait_s = self._pace.of(self._widget.app) - (time.monotonic() - self._drawn_at)
        if wait_s > 0:
            self._timer = self._widget.set_timer(wait_s, self.now)
        else:
            self.now()

    def now(self) -> None:
        """Draws at once, in place of the call that was due."""
        if self._timer is not None:
            self._timer.stop()
        self._timer, self._drawn_at = None, time.monotonic()
        self._draw()
