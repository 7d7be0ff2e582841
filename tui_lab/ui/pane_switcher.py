"""Switches panes so that the newest request wins, in whatever order requests take effect.

A key such as F2 acts as soon as the app receives it. A digit first passes the widget that has the focus, and
a click or a command of the palette takes effect later still. Each request therefore has the time at which the
user made it, and one that is older than the pane in view is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

#: When the user made the request that is being carried out, on the clock of Textual's events (monotonic, in
#: seconds). Workers inherit it from the action that starts them; None means now.
_requested_at: ContextVar[float | None] = ContextVar("requested_at", default=None)


@contextmanager
def requested_at(time_s: float) -> Iterator[None]:
    """Within it, requests count as made at ``time_s``."""
    token = _requested_at.set(time_s)
    try:
        yield
    finally:
        _requested_at.reset(token)


def now() -> float:
    """The present on the clock of requests."""
    return monotonic()


class PaneSwitcher:
    """``switch`` shows a pane. The newest request wins."""

    def __init__(self, switch: Callable[[str], object]) -> None:
        self._switch = switch
        self._newest_at = float("-inf")

    def request(self, name: str) -> bool:
        """Shows pane ``name``; returns False and does nothing if a newer request was carried out before."""
        at = _requested_at.get()
        at = now() if at is None else at
        if at < self._newest_at:
            return False
        self._newest_at = at
        self._switch(name)
        return True
