"""Jobs of a screen, and the question whether to go on where data, weights or template have changed since a
run. A yes holds for the one call that was refused and for its child: the next one asks again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from textual.screen import Screen

from tui_lab.core.changed_inputs import ChangedInputs, accepting
from tui_lab.core.sanitize import sanitize
from tui_lab.core.time_left import TimeLeft

if TYPE_CHECKING:
    import msgspec  # not needed by the first frame

T = TypeVar("T")
#: What the two answers do.
YES, NO = "go on", "cancel"


class DoesNotGoOn(asyncio.CancelledError):
    """The user did not accept what has changed: the worker that asked ends."""


def question(changed: ChangedInputs) -> str:
    """What has changed, and whether to go on."""
    changes = "\n".join(f"• {sanitize(each)}" for each in changed.changes)
    return f"{sanitize(changed.what)}:\n{changes}\n\nGo on with what is there now?"


async def asking(screen: Screen[Any], call: Callable[[], Awaitable[T]]) -> T:
    """Awaits ``call()`` in a worker of a screen, and once more after a yes. Raises DoesNotGoOn after a no."""
    from tui_lab.ui.widgets.dialogs import Confirm

    try:
        return await call()
    except ChangedInputs as changed:
        if not await screen.app.push_screen_wait(Confirm(question(changed), YES, NO)):
            raise DoesNotGoOn from None
    with accepting():
        return await call()


async def run_lab_job(
    screen: Screen[Any],
    module: str,
    request: msgspec.Struct | Mapping[str, object],
    show: Callable[[str], object],
    answer: type[T],
) -> T:
    """Runs a job in a worker of a screen, which shows its progress as a line, and asks as :func:`asking`."""
    from tui_lab.core.job_client import run_job

    pace = TimeLeft()

    def progress(text: str, done: int | None, total: int | None) -> None:
        show(sanitize(pace.line(text, done, total)))

    return await asking(screen, lambda: run_job(module, request, progress, answer=answer))
