"""The newest request for a pane wins, in whatever order requests take effect."""

from __future__ import annotations

import asyncio
import contextvars

from textual import events

from tests.ui.helpers import keys_at_once, screen_text, until
from tui_lab.ui.app import LabApp
from tui_lab.ui.pane_switcher import PaneSwitcher, requested_at


def test_an_older_request_is_dropped() -> None:
    shown: list[str] = []
    panes = PaneSwitcher(shown.append)
    with requested_at(2.0):
        assert panes.request("setup")
    with requested_at(1.0):
        assert not panes.request("playground")
    with requested_at(2.0):
        assert panes.request("train"), "what one key does may ask for two panes"
    assert shown == ["setup", "train"]


def test_without_a_time_a_request_is_made_now() -> None:
    shown: list[str] = []
    panes = PaneSwitcher(shown.append)
    assert panes.request("runs")
    with requested_at(0.0):
        assert not panes.request("playground")
    assert panes.request("setup") and shown == ["runs", "setup"]


async def test_a_worker_asks_as_of_the_key_that_started_it() -> None:
    shown: list[str] = []
    panes = PaneSwitcher(shown.append)
    done = asyncio.Event()

    async def start_a_run() -> None:
        await done.wait()
        panes.request("train")

    with requested_at(1.0):
        task = asyncio.create_task(start_a_run(), context=contextvars.copy_context())
    with requested_at(2.0):
        panes.request("runs")
    done.set()
    await task
    assert shown == ["runs"], "the user went elsewhere while the run started"


async def test_a_digit_and_a_function_key_act_in_the_order_in_which_they_were_pressed() -> None:
    """A digit first passes the focused widget, which may take it as text; F2 acts at once."""
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await pilot.press("f6")
        await until(lambda: app.pane == "runs")
        order: list[str] = []
        request = app.panes.request
        app.panes.request = lambda name: order.append(name) or request(name)  # type: ignore[method-assign,func-returns-value]
        keys_at_once(app, "4", "f2")
        await until(lambda: len(order) == 2)
        await pilot.pause()
        assert order == ["playground", "setup"] and app.pane == "setup"
        await pilot.press("4")
        await until(lambda: app.pane == "playground")


async def test_a_click_on_the_header_that_arrives_late_is_dropped() -> None:
    app = LabApp(pane="runs")
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.first_frame.drawn)
        await pilot.press("f2")
        await until(lambda: app.pane == "setup")
        clicked_at = events.Event().time - 60.0
        app.show_pane("playground", clicked_at)
        assert app.pane == "setup"
        app.show_pane("playground", events.Event().time)
        assert app.pane == "playground"
