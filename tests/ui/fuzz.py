"""Random keys, mouse events, pastes and window sizes on the whole lab, headless: no exception, no hang, no
change of a finished run, no process left behind.

    python -m tests.ui.fuzz --events 10000 --seed 1

The same seed draws the same events as long as the lab shows the same. A failing run writes its events to a
file, which ``--again FILE`` plays, and ``--shrink`` removes events as long as the rest still fails. The tests
play fixed events only (see test_fuzz.py).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from textual import events, screen
from textual.driver import Driver
from textual.pilot import Pilot
from textual.worker import Worker

from tests.ui.fuzz_steps import Step, next_steps
from tests.ui.fuzz_world import HOSTILE, FakeClient, World
from tests.ui.helpers import screen_text
from tui_lab.core.errors import LabError
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.too_small import TooSmall
from tui_lab.ui.widgets.dialogs import Confirm

#: Events between two looks at everything.
EVERY = 100
ANSWER_S = 20.0
#: After so long in one event the lab hangs: nothing but another thread can still tell.
HANGS_S = 90.0
TOLD_EVERY = 1_000
#: Frames are rarer than on a terminal: several events come between two, as when somebody types fast.
FRAME_S = 0.2
MOST_SCREENS = 8
MOST_WORKERS = 24
MOST_GROWTH_BYTES = 400 << 20
WARM_EVENTS = 1_000


#: Set by a signal: the fuzz ends after the event in hand, and leaves no process behind.
told_to_end = threading.Event()


class Failure(Exception):
    """What the fuzz found."""


class FuzzApp(LabApp):
    """The lab, which counts instead of leaving and does not open what lies outside."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.quits = self.opened = self.deletions = 0
        self.over = False
        self.found: list[str] = []

    def exit(self, *args: Any, **kwargs: Any) -> None:
        if self.over:
            super().exit(*args, **kwargs)
            return
        self.quits += 1
        # the question before leaving and the action itself lie in the same module
        if not any(frame.name in ("action_leave", "<lambda>") for frame in traceback.extract_stack()):
            self.found.append(
                "the lab left without being told to:\n" + "".join(traceback.format_stack()[-6:])
            )

    def open_url(self, url: str, *, new_tab: bool = True) -> None:
        self.opened += 1


class Fuzz:
    """One lab under random events. :meth:`do` does one, :meth:`look` is what must hold at any time."""

    def __init__(self, app: FuzzApp, pilot: Pilot[None], world: World) -> None:
        self.app, self.pilot, self.world = app, pilot, world
        self.screens: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.slowest: list[tuple[float, str]] = []
        self.done = self.looks = 0
        self.warm_bytes = 0
        self.deepest = self.most_workers = 0
        self.last: Step = []
        self.last_at = time.monotonic()

    @property
    def driver(self) -> Driver:
        assert self.app._driver is not None
        return self.app._driver

    # ------------------------------------------------------------------ events

    async def do(self, step: Step) -> None:
        self.done += 1
        self.kinds[step[0]] += 1
        self.last, self.last_at = step, time.monotonic()
        top = self.app.screen
        over = "" if len(self.app.screen_stack) < 2 else f" > {type(top).__name__}"
        self.screens[f"{self.app.current_mode}{over}"] += 1
        began = time.process_time()
        for event in self._events(step):
            if isinstance(event, events.MouseEvent):
                self.driver.process_message(event)
            else:
                event.set_sender(self.app)
                self.driver.send_message(event)
        await self._settle()
        took = time.process_time() - began
        self.slowest = sorted([*self.slowest, (took, f"{step} on {self.app.current_mode}{over}")])[-5:]
        if step[0] == "wait":
            await asyncio.sleep(step[1])
        elif step[0] == "resize":
            await asyncio.sleep(0)
        self._raised()

    def _events(self, step: Step) -> list[events.Event]:
        kind, *rest = step
        if kind == "key":
            return [events.Key(rest[0], rest[0] if len(rest[0]) == 1 else _character(rest[0]))]
        if kind == "type":
            return [events.Key(_name(rest[0]), rest[0])]
        if kind == "paste":
            return [events.Paste(HOSTILE[rest[0]])]
        if kind == "blur":
            return [events.AppBlur()]
        if kind == "focus":
            return [events.AppFocus()]
        if kind == "resize":
            width, height = rest
            from textual.geometry import Size

            self.driver._size = (width, height)  # type: ignore[attr-defined]
            return [events.Resize(Size(width, height), Size(width, height))]
        if kind == "wait":
            return []
        x, y = self._cell(*rest[:2])
        if kind == "move":
            return [self._mouse(events.MouseMove, x, y, 0)]
        if kind == "down":
            return [self._mouse(events.MouseDown, x, y, rest[2])]
        if kind == "up":
            return [self._mouse(events.MouseUp, x, y, rest[2])]
        if kind == "scroll":
            scrolls = {
                "up": events.MouseScrollUp,
                "down": events.MouseScrollDown,
                "left": events.MouseScrollLeft,
                "right": events.MouseScrollRight,
            }
            return [self._mouse(scrolls[rest[2]], x, y, 0)]
        if kind == "click":
            pair = [self._mouse(events.MouseDown, x, y, rest[3]), self._mouse(events.MouseUp, x, y, rest[3])]
            return [self._mouse(events.MouseMove, x, y, 0)] + pair * rest[2]
        assert kind == "drag", kind
        to_x, to_y = self._cell(*rest[2:4])
        return [
            self._mouse(events.MouseDown, x, y, 1),
            self._mouse(events.MouseMove, (x + to_x) // 2, (y + to_y) // 2, 1),
            self._mouse(events.MouseMove, to_x, to_y, 1),
            self._mouse(events.MouseUp, to_x, to_y, 1),
        ]

    def _cell(self, across: float, down: float) -> tuple[int, int]:
        width, height = self.app.size
        return min(int(across * width), max(width - 1, 0)), min(int(down * height), max(height - 1, 0))

    def _mouse(self, kind: type[events.MouseEvent], x: int, y: int, button: int) -> events.MouseEvent:
        return kind(None, x, y, 0, 0, button, False, False, False, screen_x=x, screen_y=y)

    async def _settle(self, seconds: float = 0.3) -> None:
        """Waits until the app has handled what was sent, however busy the machine is, and then until the
        screen and the focused widget have no messages, or for ``seconds``."""
        handled = asyncio.Event()
        self.app.call_later(handled.set)  # comes after the events in the app's queue
        deadline = time.monotonic() + ANSWER_S
        while not handled.is_set() and self.app._exception is None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0)  # an exception in the app sets no event
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(0)
            pumps = [self.app, *self.app.screen_stack[-1:], self.app.focused]
            if all(pump is None or pump._closed or pump._message_queue.empty() for pump in pumps):
                return

    # ------------------------------------------------------------------ what must hold

    def _raised(self) -> None:
        if self.app._exception is not None:
            raise Failure("".join(traceback.format_exception(self.app._exception)))
        if self.app.found:
            raise Failure("\n".join(self.app.found))

    async def look(self) -> None:
        """Everything that must hold at any time; then the lab is where it can be told to go on."""
        self.looks += 1
        app = self.app
        await self._answers()
        text = screen_text(app)
        if "Traceback" in text:
            raise Failure(f"a traceback is shown:\n{text}")
        if wild := sorted({hex(ord(c)) for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160}):
            raise Failure(f"control characters {wild} reach the terminal:\n{text}")
        self.deepest = max(self.deepest, len(app.screen_stack))
        if len(app.screen_stack) > MOST_SCREENS:
            raise Failure(f"screens pile up: {app.screen_stack}")
        self.most_workers = max(self.most_workers, len(app.workers))
        if len(app.workers) > MOST_WORKERS:
            raise Failure("workers pile up: " + ", ".join(f"{w.group} {w.name}" for w in app.workers))
        if harm := self.world.harmed(app.deletions):
            raise Failure(harm)
        held = psutil.Process().memory_info().rss
        if not self.warm_bytes and self.done >= WARM_EVENTS:
            self.warm_bytes = held
        if self.warm_bytes and held - self.warm_bytes > MOST_GROWTH_BYTES:
            raise Failure(f"memory grew by {(held - self.warm_bytes) >> 20} MiB")
        await self._free()
        if self.looks % 4 == 0:
            self.world.stock()

    async def _answers(self) -> None:
        try:
            if not await self.pilot._wait_for_screen(ANSWER_S):
                self._raised()
        except Exception as error:
            self._raised()
            raise Failure(f"the lab does not answer: {error!r}\n{_stacks()}") from None
        self._raised()

    async def _free(self) -> None:
        """Escape closes every modal screen, and then F2 shows Setup, which stays in view."""
        app = self.app
        if app.settings.keys:  # keys that the fuzz has given away would be missed below
            from tui_lab.ui.screens import change_setting

            change_setting.change(app, "keys", None)
        await self.do(["resize", 100, 30])
        await self.do(["up", 0.0, 0.0, 1])
        for _ in range(3 * MOST_SCREENS):
            await self._answers()
            if len(app.screen_stack) == 1:
                break
            await self.do(["key", "escape"])
            await asyncio.sleep(0.01)
        else:
            raise Failure(f"Escape does not lead back: {app.screen_stack}\n{screen_text(app)}")
        await self.do(["key", "f2"])
        deadline = time.monotonic() + ANSWER_S
        while app.current_mode != "setup" or isinstance(app.screen, TooSmall):
            if time.monotonic() > deadline:
                raise Failure(f"F2 does not show Setup: {app.screen_stack}\n{screen_text(app)}")
            await asyncio.sleep(0.01)
            self._raised()
        await self._answers()
        if app.current_mode != "setup":
            raise Failure(f"{app.current_mode} came back after F2 had shown Setup\n{screen_text(app)}")


def _watch(report: Fuzz, log: list[Step], over: threading.Event) -> None:
    """Ends a fuzz whose lab hangs, with what it does and the events that led there."""
    while not over.wait(1.0):
        if time.monotonic() - report.last_at > HANGS_S:
            stacks = _stacks()
            print(f"FAILED: the lab hangs since {report.last} (--again {_kept(log)})\n{stacks}", flush=True)
            report.world.leave()
            os._exit(1)


def _kept(log: list[Step]) -> str:
    """The file that the events were written to."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", prefix="fuzz-", delete=False) as kept:
        json.dump(log, kept)
    return kept.name


def _name(character: str) -> str:
    from textual.keys import _character_to_key

    return character if character.isalnum() else _character_to_key(character)


def _character(key: str) -> str | None:
    """The character of a key as the terminal sends it: "slash" is "/", "f2" and "ctrl+a" are none."""
    import unicodedata

    from textual.keys import REPLACED_KEYS, _get_unicode_name_from_key

    with contextlib.suppress(KeyError):
        return unicodedata.lookup(_get_unicode_name_from_key(REPLACED_KEYS.get(key, key)))
    return None


def _stacks() -> str:
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()[:4_000]


@contextlib.contextmanager
def _errors_found(app: FuzzApp) -> Any:
    """Errors that Textual, threads and asyncio would only write to a log."""
    real_run, real_dismiss, real_hook = Worker._run, Confirm.dismiss, threading.excepthook

    async def run(worker: Worker[Any], active: Any) -> None:
        await real_run(worker, active)
        error = worker.error
        if error is not None and not isinstance(error, LabError | asyncio.CancelledError):
            text = "".join(traceback.format_exception(error))
            app.found.append(f"worker {worker.group}/{worker.name}: {text}")

    def dismiss(confirm: Confirm, result: Any = None) -> Any:
        app.deletions += bool(result) and confirm.yes == "delete"
        return real_dismiss(confirm, result)

    def thread_failed(args: Any) -> None:
        app.found.append("thread: " + "".join(traceback.format_exception(args.exc_value)))

    def loop_failed(loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, LabError):
            app.found.append(f"asyncio: {context.get('message')}: {error!r}")

    Worker._run, Confirm.dismiss = run, dismiss  # type: ignore[method-assign]
    threading.excepthook = thread_failed
    asyncio.get_running_loop().set_exception_handler(loop_failed)
    try:
        yield
    finally:
        Worker._run, Confirm.dismiss = real_run, real_dismiss  # type: ignore[method-assign]
        threading.excepthook = real_hook


async def fuzz(
    place: Path, seed: int, count: int, steps: Sequence[Step] | None = None, real_playground: bool = False
) -> tuple[str, list[Step], Fuzz | None]:
    """What was found ("" for nothing), the events that were done, and the figures."""
    chance = random.Random(seed)
    world, log, report = World(place, seed), [], None
    over = threading.Event()
    world.enter()
    found, frame_s = "", screen.UPDATE_PERIOD
    screen.UPDATE_PERIOD = FRAME_S
    app = FuzzApp()
    try:
        with _errors_found(app):
            async with app.run_test(size=(100, 30), notifications=True) as pilot:
                if not real_playground:
                    app.playground.client = FakeClient(  # type: ignore[assignment]
                        lambda status: setattr(app, "playground_status", status), seed
                    )
                report = Fuzz(app, pilot, world)
                threading.Thread(target=_watch, args=(report, log, over), daemon=True).start()
                try:
                    await report._answers()
                    coming = list(steps or [])
                    for number in range(count):
                        if told_to_end.is_set():
                            raise Failure("the fuzz was told to end")
                        coming = coming or next_steps(app, chance)
                        step = coming.pop(0)
                        log.append(step)
                        await report.do(step)
                        if (number + 1) % EVERY == 0 or number + 1 == count:
                            await report.look()
                        if (number + 1) % TOLD_EVERY == 0:
                            print(f"{number + 1:,} events", flush=True)
                except Failure as failure:
                    found = str(failure)
                finally:
                    over.set()
                    app.over = True
                    app.exit()
    except Exception as error:
        found = found or "".join(traceback.format_exception(error))
    finally:  # whatever ends it: no run outlives a fuzz
        screen.UPDATE_PERIOD = frame_s
        left = world.leave()
    if not found and left:
        found = "processes stay behind:\n" + "\n".join(left)
    return found, log, report


def shrunk(seed: int, steps: list[Step], real_playground: bool) -> list[Step]:
    """As few of ``steps`` as still fail: halves, then quarters and so on are left out."""
    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            with tempfile.TemporaryDirectory() as place:
                failed = (
                    fewer
                    and asyncio.run(fuzz(Path(place) / "w", seed, len(fewer), fewer, real_playground))[0]
                )
            if failed:
                steps = fewer
                print(f"{len(steps)} events still fail", flush=True)
            else:
                at += size
        size //= 2
    return steps


def told(report: Fuzz, seconds: float) -> str:
    """The figures of a fuzz."""
    world, app = report.world, report.app
    lines = [
        f"{report.done:,} events in {seconds:.0f} s, {report.looks} looks at everything; "
        + ", ".join(f"{kind} {number}" for kind, number in report.kinds.most_common()),
        "on "
        + ", ".join(
            f"{name} {number}" for name, number in sorted(report.screens.items(), key=lambda e: -e[1])
        ),
        f"{world.starts} runs and queues started, {world.refused_starts} refused, {world.jobs} jobs, "
        f"{getattr(app.playground.client, 'asked', '?')} prompts, {app.quits} times told to leave, "
        f"{app.deletions} deletions, at most {report.deepest} screens and {report.most_workers} workers",
    ]
    if report.warm_bytes:
        grown = psutil.Process().memory_info().rss - report.warm_bytes
        lines.append(f"memory since event {WARM_EVENTS:,}: {grown / 2**20:+.0f} MiB")
    lines.append("slowest: " + "; ".join(f"{took:.2f} s {what}" for took, what in reversed(report.slowest)))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--real-playground", action="store_true", help="the bundled model answers, not a fake"
    )
    parser.add_argument("--again", type=Path, help="play the events of a failed fuzz")
    parser.add_argument("--shrink", action="store_true", help="leave out events as long as it still fails")
    args = parser.parse_args(arguments)
    print(
        f"seed {args.seed}; Python {sys.version.split()[0]}, textual {version('textual')}, "
        f"tui-lab {version('tui-lab')}",
        flush=True,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_end.set())
    steps = json.loads(args.again.read_text()) if args.again else None
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        found, log, report = asyncio.run(
            fuzz(
                Path(place) / "w",
                args.seed,
                len(steps) if steps else args.events,
                steps,
                args.real_playground,
            )
        )
    if report is not None:
        print(told(report, time.monotonic() - began))
    if not found:
        print("nothing was raised and nothing got stuck")
        return 0
    if args.shrink:
        log = shrunk(args.seed, log, args.real_playground)
    print(f"FAILED after {len(log)} events (--again {_kept(log)}); the last of them: {log[-12:]}\n{found}")
    return 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
