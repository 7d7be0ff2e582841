"""Plays the story of the demo in the lab: performs the actions of each beat, waits for its condition, shows
its caption. A live demo trains and decodes for real; a replay plays a recording, and the caption bar says
so. Demo time stands still while the demo is paused."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from textual.app import ScreenStackError
from textual.screen import Screen
from textual.widget import MountError, Widget
from textual.widgets import Footer, Input, TextArea

from tui_lab.core.errors import LabError
from tui_lab.core.format import duration
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.registry import BY_ID, first_key
from tui_lab.ui.demo.caption import Caption, CaptionBar
from tui_lab.ui.demo.recording import Recording
from tui_lab.ui.demo.runs import DATA, OVERRIDES, SLOW_RUN_S, SUITE, DemoRun
from tui_lab.ui.demo.script import CHAPTERS, PROMPTS, Beat
from tui_lab.ui.lab import Lab
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.terminal.textual_internals import keymap_of
from tui_lab.ui.views.spans import cut

if TYPE_CHECKING:
    from textual.dom import DOMNode

    from tui_lab.ui.screens.playground import PlaygroundPane

TICK_S = 0.1
#: Reading speed in characters a second, and seconds to find the caption.
READING_CHARS_PER_S, FINDING_S = 16.0, 1.0
#: Seconds that the playground process may take to load a model.
LOADING_S = 90.0
#: Strategies whose lanes compare a run with its base, as in the recording.
STRATEGIES_COMPARED = 2
#: Cells of an answer that a caption quotes.
QUOTED_CHARS = 40
UNKNOWN = "…"


class DemoLab(Lab, Protocol):
    """What the player uses of the app besides the lab itself."""

    @property
    def screen(self) -> Screen[object]: ...

    @property
    def focused(self) -> Widget | None: ...

    async def run_action(self, action: str, default_namespace: DOMNode | None = None) -> bool: ...

    def show_message(self, text: str, is_error: bool = False) -> None:
        """Shows a passing message."""
        ...

    def start_measurement(self, run: DemoRun) -> None:
        """Runs :meth:`Player.measure` in a worker."""
        ...


class CaptionValues(dict[str, str]):
    """Values for captions by name."""

    def __missing__(self, key: str) -> str:
        return UNKNOWN


class Player:
    """``recording``: what a replay plays; None for a live demo. ``pace``: speed of the story (for tests)."""

    def __init__(self, app: DemoLab, recording: Recording | None, pace: float = 1.0) -> None:
        self.app, self.recording, self.pace = app, recording, pace
        self.runs = {name: DemoRun(name) for name in OVERRIDES}
        self.number = 0  # of the chapter
        self.is_paused = self.is_over = False
        self.is_taken_over = False  # paused by a key or click that the lab handled
        self.shown: list[Caption] = []  # every caption, as it was at first
        self.caption = Caption()
        self._answers = {"base": UNKNOWN, "tuned": UNKNOWN}
        self._prompt = ""
        self._text: Callable[[], str] = str
        self._last_tick = time.monotonic()
        self.time_s = 0.0  # demo time

    @property
    def is_live(self) -> bool:
        return self.recording is None

    # ------------------------------------------------------------------ time

    def tick(self) -> None:
        """Called ten times a second: advances demo time and playbacks, reads the runs, redraws the bar."""
        now = time.monotonic()
        elapsed, self._last_tick = now - self._last_tick, now
        if not self.is_paused and isinstance(self._screen, Pane):  # nor while a dialog is open
            self.time_s += elapsed
        for run in self.runs.values():
            if run.replay is not None:
                run.replay.paused = self.is_paused
                run.replay.advance()
            run.poll()
            if self.is_live:
                self._check(run)
        self._draw()

    def pause(self, on: bool, taken_over: bool = False) -> None:
        """Stops or continues demo time. ``taken_over``: by a key or a click that the lab handles."""
        self.is_paused, self.is_taken_over = on, on and taken_over

    @property
    def is_typing(self) -> bool:
        """Whether keys are text. The focus alone does not tell: the Playground focuses its prompt when it
        opens."""
        return self.is_taken_over and isinstance(self.app.focused, Input | TextArea)

    async def wait(self, seconds: float) -> None:
        """Waits for seconds of demo time, divided by the pace."""
        end = self.time_s + seconds / self.pace
        while self.time_s < end:  # noqa: ASYNC110 (demo time advances with the ticks)
            await asyncio.sleep(min(TICK_S / 2, max(0.005, end - self.time_s)))

    async def wait_until(self, condition: Callable[[], bool | str], timeout_s: float) -> bool:
        """Waits for a condition in demo time; returns whether it holds."""
        end = self.time_s + timeout_s
        while not condition():
            if self.time_s >= end:
                return False
            await asyncio.sleep(TICK_S / 2)
        return True

    # ------------------------------------------------------------------ runs

    def _check(self, run: DemoRun) -> None:
        """Measures a live run that has finished; reports one that failed or is slow."""
        if run.process is None or run.problem:
            return
        if run.end_state == "finished":
            if not run.is_measuring:
                run.is_measuring = True
                self.app.start_measurement(run)
        elif run.end_state:
            log = run.run.log_tail() if run.run else []
            message = (run.state.end.message if run.state.end else "") or (log[-1] if log else run.end_state)
            self._fail(run, f"the run ended: {message}")
        elif not run.is_reported_slow and (seconds := run.expected_s()) > SLOW_RUN_S:
            run.is_reported_slow = True
            self.app.show_message(
                f"{run.name} takes about {duration(seconds)} on this machine. The right arrow goes to the "
                "next chapter; `tui-lab demo --replay` plays a recording instead."
            )

    def _fail(self, run: DemoRun, problem: str) -> None:
        run.problem = sanitize(problem)
        self.app.show_message(
            f"{run.name}: {run.problem}. `tui-lab demo --replay` plays a recording instead.", is_error=True
        )

    async def measure(self, run: DemoRun) -> None:
        """Asks base and tuned model the questions of the suite, in a job, as the Retention pane does."""
        from tui_lab.core.job_client import run_job

        def on_progress(text: str, done: int | None, total: int | None) -> None:
            run.progress = f"{text} {done} of {total}." if done is not None and total else f"{text} …"

        assert run.run is not None
        run.progress = "Loading the model …"
        request = {"run": run.run.id, "suites": [SUITE], "limit": 0}
        try:
            await run_job("tui_lab.evaluation.evaluate", request, on_progress)
        except LabError as error:
            self._fail(run, str(error))
        run.progress = ""

    def close(self) -> None:
        """Ends all processes and playbacks."""
        for run in self.runs.values():
            run.close()

    # ------------------------------------------------------------------ the story

    async def play(self, number: int) -> None:
        """Plays from a chapter to the end."""
        for self.number in range(number, len(CHAPTERS)):
            for beat in CHAPTERS[self.number].beats:
                if self.is_live or beat.replay != "":
                    await self._play_beat(beat)
        self.is_over = True

    async def _play_beat(self, beat: Beat) -> None:
        """Plays one beat. A beat that fails shows a message, and the story continues."""
        if beat.waiting:
            self._show_caption(beat.waiting)
        (result,) = await asyncio.gather(self._perform_beat(beat), return_exceptions=True)
        if isinstance(result, LabError):
            self.app.show_message(str(result), is_error=True)
        elif isinstance(result, BaseException):
            self.app.show_message(f"this part failed: {type(result).__name__}: {result}", is_error=True)
        elif result:
            text = beat.caption if self.is_live or beat.replay is None else beat.replay
            shown = self._show_caption(text)
            await self.wait(FINDING_S + len(shown) / READING_CHARS_PER_S)

    async def _perform_beat(self, beat: Beat) -> bool:
        """Performs the steps of a beat; returns whether its condition holds."""
        for step in beat.do:
            await self.perform(step)
        if not await self._condition_holds(beat):
            return False
        for step in beat.then:
            await self.perform(step)
        return True

    async def _condition_holds(self, beat: Beat) -> bool:
        """Waits for the condition of a beat. A live run gets as long as it takes."""
        name, _, what = beat.until.partition(" ")
        if name == "answers":
            return await self.wait_until(self._are_answers_complete, beat.timeout_s)
        if name == "forecast":
            await self.wait_until(self.forecast_text, beat.timeout_s)
            return True
        if (run := self.runs.get(name)) is None:
            return True
        if not run.has_started:
            self._start(run, at_once=True)
        conditions: dict[str, Callable[[], bool]] = {
            "probed": lambda: run.is_probed,
            "ended": lambda: bool(run.end_state),
            "measured": lambda: run.is_measured,
        }
        await self.wait_until(lambda: conditions[what]() or bool(run.problem), float("inf"))
        return not run.problem

    # ------------------------------------------------------------------ what beats do

    async def perform(self, step: str) -> None:
        """Performs one step of a beat: a verb and a name."""
        verb, _, name = step.partition(" ")
        match verb:
            case "action":
                await self._run_action(name)
            case "select":
                await self._select(name)
            case "start":
                self._start(self.runs[name])
            case "ahead":  # starts a live run before its chapter; a replay starts when it is in view
                if self.is_live:
                    self._start(self.runs[name])
            case "show":
                self._show_run(self.runs[name])
            case "tab":
                await self._show_tab(name)
            case "ask":
                await self._ask(name)
            case "compare":
                await self._compare(self.runs[name])
            case "lane":
                await self._show_lane(int(name) - 1)
            case _:
                raise ValueError(f"unknown step: {step}")

    async def _run_action(self, name: str) -> None:
        action = BY_ID[name]
        while not isinstance(self._screen, Pane):  # noqa: ASYNC110 (a dialog is open, or the window too small)
            await asyncio.sleep(TICK_S)
        await self.app.run_action(action.action, None if action.group == "app" else self._screen)
        await asyncio.sleep(0)

    async def _open_pane(self, name: str) -> Pane:
        """Opens a pane and waits until it is laid out. Raises LabError."""
        await self._run_action(f"app.{name}")

        def is_shown() -> bool:
            pane = self._screen
            return isinstance(pane, Pane) and name == pane.GROUP and pane.is_laid_out

        if not await self.wait_until(is_shown, 10) or not isinstance(self._screen, Pane):
            raise LabError(f"{name} cannot open while a dialog is open")
        return self._screen

    async def _select(self, preset: str) -> None:
        """Selects the bundled model, a preset and the data in Setup."""
        from tui_lab.ui.screens.setup import SetupPane

        pane = await self._open_pane("setup")
        assert isinstance(pane, SetupPane)
        if await self.wait_until(lambda: bool(pane.values) and pane.summary is not None, 20):
            pane.action_show("presets")
            pane.choose(preset, {"model": "pocket", "data": DATA, **OVERRIDES[preset]})

    def _start(self, run: DemoRun, at_once: bool = False) -> None:
        """Starts a run, unless it has started. ``at_once``: a replay does not take its time."""
        if run.has_started or run.problem:
            return
        try:
            if self.recording is None:
                run.start()
                return
            original = self.recording.runs.get(run.name)
            if original is None or not original.events_path.is_file():
                raise LabError(f"the recording has no run {run.name!r}")
            run.play_back(original, self.pace, at_once)
        except LabError as error:
            self._fail(run, str(error))

    def _show_run(self, run: DemoRun) -> None:
        from tui_lab.ui.screens.retention import RetentionPane

        if run.run is not None:
            self.app.run_id = run.run.id
            if isinstance(pane := self._screen, RetentionPane):
                pane.show_run(run.run.id)  # read again: it may have been measured since

    async def _show_tab(self, name: str) -> None:
        await self.wait_until(lambda: isinstance(self._screen, Pane) and self._screen.is_laid_out, 10)
        if isinstance(pane := self._screen, Pane):
            pane.action_tab(name)

    # ------------------------------------------------------------------ the playground

    async def _playground(self) -> PlaygroundPane:
        from tui_lab.ui.screens.playground import PlaygroundPane

        pane = await self._open_pane("playground")
        assert isinstance(pane, PlaygroundPane)
        return pane

    async def _ask(self, name: str) -> None:
        """Sends a prompt to all lanes, once the model is loaded."""
        from tui_lab.ui.widgets.prompt import Prompt

        pane = await self._playground()
        self._prompt = PROMPTS[name]
        client = self.app.playground_client
        await self.wait_until(lambda: client.status.loaded or client.status.state == "died", LOADING_S)
        pane.query_one(Prompt).text = self._prompt
        pane.results = []
        pane.action_run()

    async def _compare(self, run: DemoRun) -> None:
        """Loads a run next to its base."""
        pane = await self._playground()
        if not run.has_started:
            self._start(run, at_once=True)
        await self.wait_until(lambda: bool(run.end_state or run.problem), float("inf"))

        from tui_lab.ui.views.lane_models import is_base

        def is_loaded() -> bool:
            return any(not is_base(view.lane) for view in pane.views)

        if run.run is not None and not run.problem and not is_loaded():
            pane.compare_run(run.run.id, STRATEGIES_COMPARED)
            await self.wait_until(is_loaded, LOADING_S)

    async def _show_lane(self, index: int) -> None:
        """Shows a lane, where the window has no room for all."""
        pane = await self._playground()
        if pane.grid.places < len(pane.views):
            pane.action_go_to(index)

    def _are_answers_complete(self) -> bool:
        """Whether every lane has answered the prompt. Keeps the greedy answers for the captions."""
        from tui_lab.ui.screens.playground import PlaygroundPane
        from tui_lab.ui.views.lane_models import is_base

        pane = self._screen
        if (
            not isinstance(pane, PlaygroundPane)
            or pane.request is None
            or pane.request.prompt != self._prompt
        ):
            return False
        if len(pane.results) != len(pane.views) or not pane.views:
            return False
        for view, done in zip(pane.views, pane.results, strict=True):
            if view.lane.strategy.name == "greedy":
                self._answers["base" if is_base(view.lane) else "tuned"] = quoted(done.text)
        return True

    # ------------------------------------------------------------------ captions

    def forecast_text(self) -> str:
        """Memory and time of the run as Setup forecasts them, in short; "" while unknown."""
        from tui_lab.core.format import size
        from tui_lab.forecast import estimate
        from tui_lab.ui.screens.setup import SetupPane

        pane = self._screen
        summary = pane.summary if isinstance(pane, SetupPane) else None
        found = summary.estimate if summary is not None else None
        if found is None or found.memory is None:
            return ""
        parts = [f"about {size(found.memory.total_bytes)} of memory, {estimate.verdict_text(found)}"]
        if found.cost is not None and found.cost.hours is not None:
            parts.append(estimate.time_text(found.cost.hours))
        return ", ".join(parts)

    def _values(self) -> CaptionValues:
        keymap = keymap_of(self._screen) if self._screen is not None else {}
        values = CaptionValues(self._answers)
        for action in ("app.setup", "setup.start", "app.help", "app.quit"):
            values[f"key_{action.partition('.')[2]}"] = first_key(action, keymap)
        for run in self.runs.values():
            values |= run.values()
        if forecast := self.forecast_text():
            values["forecast"] = forecast
        return values

    def _show_caption(self, text: str) -> str:
        self._text = lambda: text.format_map(self._values()).strip()
        self.caption = self._current_caption()
        self.shown.append(self.caption)
        self._draw()
        return self.caption.text

    def _current_caption(self) -> Caption:
        title, number = CHAPTERS[self.number].title, self.number + 1
        keys, brief = self._keys()
        return Caption(self._text(), title, number, len(CHAPTERS), self.label, keys, brief, self.is_paused)

    @property
    def label(self) -> str:
        """Says when and where the recording in view was made; "" when nothing of it is in view."""
        if self.is_over or self.recording is None or not CHAPTERS[self.number].recorded:
            return ""
        return f"recorded earlier, {self.recording.label}"

    def _keys(self) -> tuple[str, str]:
        """The keys that work now, in full and in brief."""
        if self.is_over:
            return ("the demo is over",) * 2
        if self.is_typing:
            return "paused, keys are text; Esc, then Space continues", "paused: Esc Space"
        if self.is_paused:
            return "paused, keys go to the lab; Space continues, Q quits", "paused: Space"
        arrows = "< >" if self.app.settings.ascii else "← →"
        return f"Space pause, {arrows} chapter, Q quit", f"Space {arrows} Q"

    @property
    def _screen(self) -> Screen[object] | None:
        """The top screen; None between two modes, and while the lab closes."""
        try:
            return self.app.screen
        except ScreenStackError:
            return None

    def _draw(self) -> None:
        """Shows the caption on the pane in view. A pane gets its bar the first time."""
        screen = self._screen
        if not isinstance(screen, Pane) or not screen.is_laid_out:
            return
        self.caption = self._current_caption()
        bars = screen.query(CaptionBar)
        if bars:
            bars.first().show(self.caption)
            return
        footers = screen.query(Footer)
        with contextlib.suppress(MountError):  # the pane is closing
            screen.mount(
                CaptionBar(self.caption, self.app.settings.ascii), before=footers.first() if footers else None
            )


def quoted(text: str) -> str:
    """An answer in one line of at most :data:`QUOTED_CHARS` cells."""
    return cut(sanitize(" ".join(text.split())), QUOTED_CHARS)
