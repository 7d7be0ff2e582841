"""Resizes that wait in a queue with other messages between them: every screen handles them and comes to
rest, and none posts to itself what would keep Textual from joining them."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar
from typing import Any

import pytest
from textual import events, messages
from textual.app import App, ComposeResult
from textual.geometry import Size
from textual.message import Message
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widgets import Label

from tests.ui.actions.test_modal import DIALOGS
from tests.ui.helpers import until
from tests.ui.sample_runs import make_run
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.doctor import DoctorScreen
from tui_lab.ui.screens.too_small import TooSmall

#: More resizes than two pending ones and those that follow from them.
MOST = 12
SIZES = (Size(100, 30), Size(80, 24))
PANES = ("setup", "train", "playground", "retention", "runs")
#: Screens above the panes that an action opens.
OVERLAYS = ("open('jump')", "open('explanations')", "command_palette")


class Resizes:
    """Counts resizes of screens; lists callbacks that a handler of one posts to its own queue."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.handled = 0
        self.posted: Counter[str] = Counter()
        current: ContextVar[object] = ContextVar("current", default=None)
        dispatch, post = MessagePump._dispatch_message, MessagePump.post_message

        async def counted(pump: MessagePump, message: Message) -> None:
            is_resize = isinstance(message, events.Resize)
            self.handled += is_resize and isinstance(pump, Screen)
            token = current.set(pump if is_resize else None)
            try:
                await dispatch(pump, message)
            finally:
                current.reset(token)

        def recorded(pump: MessagePump, message: Message) -> bool:
            if isinstance(message, messages.InvokeLater | events.Callback) and current.get() is pump:
                callback = getattr(message.callback, "func", message.callback)
                if isinstance(pump, Screen) and callback != pump._compositor_refresh:  # Textual's own
                    self.posted[f"{type(pump).__name__}: {callback}"] += 1
            return post(pump, message)

        monkeypatch.setattr(MessagePump, "_dispatch_message", counted)
        monkeypatch.setattr(MessagePump, "post_message", recorded)

    async def comes_to_rest(self, screen: Screen[Any]) -> None:
        """Two pending resizes of different sizes with a message between them."""
        self.handled = 0
        for size in SIZES:
            screen.post_message(events.Resize(size, size))
            screen.call_later(lambda: None)
        await until(lambda: self.handled >= len(SIZES))
        await asyncio.sleep(0.03)
        assert self.handled < MOST, f"{type(screen).__name__} does not come to rest"


async def test_pending_resizes_come_to_rest_on_every_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    make_run()
    resizes, app = Resizes(monkeypatch), LabApp(pane="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: app.first_frame.drawn)
        for pane in PANES:
            app.action_pane(pane)
            await until(lambda pane=pane: app.pane == pane and getattr(app.screen, "is_laid_out", True))
            await pilot.pause()
            await resizes.comes_to_rest(app.screen)
        pane_screen = app.screen
        others = (TooSmall, lambda: DoctorScreen(("true",)))
        for make in (*DIALOGS, *others):
            dialog = make()
            await app.push_screen(dialog)
            await resizes.comes_to_rest(dialog)
            if app.screen is dialog:
                await app.pop_screen()
        for action in OVERLAYS:
            await app.run_action(action)
            await until(lambda: app.screen is not pane_screen, what=action)
            await resizes.comes_to_rest(app.screen)
            if app.screen is not pane_screen:
                await app.pop_screen()
        await pilot.resize_terminal(90, 30)
        await until(lambda: app.screen.size == Size(90, 30))
    assert not resizes.posted


class Careless(Screen[None]):
    """A screen that posts to itself at every resize."""

    def compose(self) -> ComposeResult:
        yield Label("x")

    def on_resize(self) -> None:
        self.call_after_refresh(self.refresh)


async def test_a_screen_that_posts_to_itself_comes_to_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    resizes, app = Resizes(monkeypatch), App[None]()
    async with app.run_test(size=(120, 40)):
        await app.push_screen(Careless())
        await resizes.comes_to_rest(app.screen)
    assert resizes.posted  # or the other test would find nothing


class Busy(Label):
    """A widget whose queue is never empty."""

    turns = 0

    def on_mount(self) -> None:
        self.again()

    def again(self) -> None:
        self.turns += 1
        self.call_later(self.again)


async def test_a_widget_with_messages_without_end_lets_the_app_end() -> None:
    app = App[None]()
    app.compose = lambda: [Busy()]  # type: ignore[method-assign]
    async with app.run_test():
        busy = app.query_one(Busy)
        await until(lambda: busy.turns > 100)
