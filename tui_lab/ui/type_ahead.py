"""Keys take effect one after the other.

Textual gives a key to the widget that has the focus, and its effect, such as a dialog or another focus, comes
some messages later. A key that follows at once, as over a slow connection or on a busy machine, would go to
the widget that had the focus before: of a path that is typed after ``/``, letters would act as keys of the
pane. Each key therefore waits until the one before has had its effect. A key for a pane that still reads what
the key acts on waits as well; one for the whole lab does not, unless another waits before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic

from textual import events
from textual.app import App
from textual.message import Message
from textual.message_pump import MessagePump

from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.terminal.types import AnyApp, AnyScreen

#: Seconds after which a key is delivered although the one before is not known to have had its effect: the
#: widget that had it may have been removed.
LONGEST_WAIT_S = 2.0
#: How often a key is followed up to the app: its action may post a message, and what hears that another one.
ROUNDS = 3
#: Seconds after which it is looked again whether there is a screen, and a pane has what keys act on.
LOOK_AGAIN_S = 0.01
#: Seconds that keys wait for a pane at most.
LONGEST_READING_S = 5.0


class KeyDone(Message, bubble=True):
    """Follows a key from widget to widget up to the app, which has carried it out by then."""

    def __init__(self, number: int, screen: AnyScreen, target: MessagePump, rounds_left: int) -> None:
        super().__init__()
        self.number, self.screen, self.target, self.rounds_left = number, screen, target, rounds_left


class TypeAhead:
    """``deliver`` carries out an event of the keyboard, which is a key or pasted text."""

    def __init__(self, app: AnyApp, deliver: Callable[[events.Event], Awaitable[None]]) -> None:
        self._app, self._deliver = app, deliver
        self._waiting: deque[events.Event] = deque()
        self._number = 0  # of the newest key that was delivered
        self._is_busy = False  # with that key
        self._looks_again = False
        self._reads_since: tuple[AnyScreen, float] | None = None  # the pane that keys wait for

    async def take(self, event: events.Event) -> None:
        """Delivers an event now, or after those before it."""
        self._waiting.append(event)
        await self._deliver_next()

    async def _deliver_next(self) -> None:
        while self._waiting:
            if self._is_busy:
                self._app.set_timer(LONGEST_WAIT_S, partial(self._release, self._number))
                return
            if not self._app.screen_stack or self._waits_for_pane(self._waiting[0]):
                if not self._looks_again:
                    self._looks_again = True
                    self._app.set_timer(LOOK_AGAIN_S, self._look_again)
                return
            await self._send(self._waiting.popleft())

    async def _look_again(self) -> None:
        self._looks_again = False
        await self._deliver_next()

    def _waits_for_pane(self, event: events.Event) -> bool:
        """Whether the pane in view does not have what keys act on yet. It is waited for once, and not for
        long: what it reads may never come."""
        pane = self._app.screen
        if not isinstance(pane, Pane) or pane.is_ready:
            return False
        if self._reads_since is None or self._reads_since[0] is not pane:
            bound = pane.active_bindings.get(event.key) if isinstance(event, events.Key) else None
            if bound is not None and isinstance(bound.node, App):
                return False
            self._reads_since = pane, monotonic()
        return monotonic() - self._reads_since[1] < LONGEST_READING_S

    async def _send(self, event: events.Event) -> None:
        screen, focused = self._app.screen, self._app.focused
        key = event if isinstance(event, events.Key) else None
        if key and focused is not None and focused.check_consume_key(key.key, key.character):
            await self._deliver(event)  # text changes no focus, and may come fast
            return
        self._is_busy = True
        self._number += 1
        target: MessagePump = focused or screen
        done = KeyDone(self._number, screen, target, ROUNDS - 1)
        await self._deliver(event)
        if not target.post_message(done):
            self.done(done)  # which ends it, too: the widget takes no more messages

    def done(self, message: KeyDone) -> None:
        """The key was carried out. What it asked for, such as the focus, is in the app's queue, and in that
        of the screen that it opened."""
        if message.rounds_left:
            again = KeyDone(message.number, message.screen, message.target, message.rounds_left - 1)
            if message.target.post_message(again):
                return
        screens = self._app.screen_stack
        opened = screens[-1] if screens and screens[-1] is not message.screen else None
        if opened is None or not opened.call_later(self._after_opening, message.number):
            self._after_opening(message.number)

    def _after_opening(self, number: int) -> None:
        self._app.call_later(self._release, number)

    async def _release(self, number: int) -> None:
        if number == self._number and self._is_busy:
            self._is_busy = False
            await self._deliver_next()
