"""The app's side of the line to the terminal: only letters that changed are sent (see
:mod:`tui_lab.ui.terminal.screen_diff`), and on a slow link everything that moves by itself moves less often.
``slow_link`` may change at any time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from textual import events
from textual.app import App
from textual.reactive import reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from tui_lab.ui.terminal.screen_diff import Frame, LeanUpdate
from tui_lab.ui.terminal.textual_internals import CompositorUpdate


def is_slow(app: App[Any]) -> bool:
    """Whether less is to be sent. Apps of other kinds, as in tests, are never slow."""
    return bool(getattr(app, "slow_link", False))


@dataclass(frozen=True)
class Pace:
    """Seconds between two drawings of something that moves by itself."""

    usual_s: float
    slow_link_s: float

    def of(self, app: App[Any]) -> float:
        return self.slow_link_s if is_slow(app) else self.usual_s


#: A curve is looked at, not watched; its drawing costs milliseconds, and up to all of its rows.
PLOT = Pace(0.5, 2.0)
#: Text that streams: ten times a second reads as flowing.
STREAM = Pace(0.1, 0.34)
#: Text that comes in portions is drawn as it comes: the host sends ten a second.
PORTIONS = Pace(0.0, 0.34)
#: Numbers that count up: nobody reads them faster.
FIGURES = Pace(0.5, 1.5)
#: The lines about a run, and its log.
RUN = Pace(0.5, 2.0)


class Paced:
    """Calls ``draw`` when ``widget`` wants to be drawn, and no sooner than the pace allows after the call
    before: bursts become one call, and the newest is what is drawn in the end."""

    def __init__(self, widget: Widget, pace: Pace, draw: Callable[[], object]) -> None:
        self._widget, self._pace, self._draw = widget, pace, draw
        self._timer: Timer | None = None
        self._drawn_at = -math.inf

    def want(self) -> None:
        """Draws now or in a moment."""
        if self._timer is not None:
            return
        wait_s = self._pace.of(self._widget.app) - (time.monotonic() - self._drawn_at)
        if wait_s > 0:
            self._timer = self._widget.set_timer(wait_s, self.now)
        else:
            self.now()

    def now(self) -> None:
        """Draws at once; what was due is done with it."""
        if self._timer is not None:
            self._timer.stop()
        self._timer, self._drawn_at = None, time.monotonic()
        self._draw()


class LineApp(App[None]):
    """See the module's docstring."""

    slow_link: reactive[bool] = reactive(False)

    def __init__(self, slow_link: bool = False) -> None:
        super().__init__()
        self.frame = Frame()
        self._usual_animation = self.animation_level
        self.set_reactive(LineApp.slow_link, slow_link)
        self._set_animation()

    def on_ready(self) -> None:
        # whoever had the terminal meanwhile has written on it
        self.app_resume_signal.subscribe(self, lambda _: self.action_redraw())

    def on_resize(self, _event: events.Resize) -> None:
        self.frame.forget()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        if isinstance(renderable, CompositorUpdate) and not self.is_inline:
            renderable = LeanUpdate(renderable, self.frame)
        elif renderable is not None:
            self.frame.forget()
        super()._display(screen, renderable)

    def action_redraw(self) -> None:
        """Sends the whole screen, for when something else has written on it."""
        self.frame.forget()
        self.screen.refresh()

    # ------------------------------------------------------------------ a slow link

    def action_slow_link(self) -> None:
        self.slow_link = not self.slow_link
        words = (
            "plots and streams are drawn less often" if self.slow_link else "everything is drawn as it comes"
        )
        self.notify(f"slow link {'on' if self.slow_link else 'off'}: {words}", timeout=3)

    def watch_slow_link(self) -> None:
        self._set_animation()
        if self.is_running and self.focused is not None:
            self._set_blinking(self.focused)

    def _set_animation(self) -> None:
        self.animation_level = "none" if self.slow_link else self._usual_animation

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self._set_blinking(event.widget)

    def _set_blinking(self, widget: Any) -> None:
        if hasattr(widget, "cursor_blink"):
            widget.cursor_blink = not self.slow_link
