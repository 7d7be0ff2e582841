"""What the tests of the lab share: the text on the screen, and waiting for something to come true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from textual import events
from textual.app import App

from tui_lab.playground.messages import LaneDone


def screen_text(app: App[Any]) -> str:
    """What is on the screen, without colours."""
    lines = app.screen._compositor.render_strips(app.size)
    return "\n".join("".join(segment.text for segment in line) for line in lines)


def keys_at_once(app: App[Any], *keys: str) -> None:
    """Sends all keys before the first has had its effect, as a slow connection does."""
    assert app._driver is not None
    for key in keys:
        event = events.Key(key, key if len(key) == 1 else None)
        event.set_sender(app)
        app._driver.send_message(event)


async def until(condition: Callable[[], Any], seconds: float = 20.0, what: str = "") -> None:
    """Waits until ``condition`` holds. Fails with ``what`` when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s: {what or condition}")
        await asyncio.sleep(0.01)


def said(app: App[Any], text: str) -> bool:
    """Whether a passing message holds ``text``."""
    return any(text in note.message for note in app._notifications)


def lane_done(lane: int, description: str, text: str, **others: Any) -> LaneDone:
    """A lane that has ended; ``others`` are fields of the account that matter to a test."""
    account: dict[str, Any] = {
        "on": "base",
        "token_ids": (1, 2),
        "tokens": (),
        "prompt_token_ids": (3,),
        "finish_reason": "length",
        "first_token_s": 0.1,
        "seconds": 1.0,
        "tok_per_s": 10.0,
        "mean_logprob": -1.0,
        "perplexity_base": 2.0,
        "rep_4": 0.0,
        "distinct_2": 1.0,
    }
    return LaneDone(lane=lane, description=description, text=text, **{**account, **others})
