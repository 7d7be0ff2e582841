"""Plays the demo's story in the lab: does what a beat says, waits for what must really be so, captions it.
What cannot be had in time on this machine comes from the recording, and the caption bar says so. Time stands
still while the demo is held; nothing is waited for by sleeping it out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from textual.app import ScreenStackError
from textual.screen import Screen
from textual.widgets import Footer, Input, TextArea

from tui_lab.core.errors import LabError
from tui_lab.core.format import duration
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.registry import BY_ID, first_key
from tui_lab.ui.demo import script
from tui_lab.ui.demo.caption import CaptionBar, Said
from tui_lab.ui.demo.recording import Recording
from tui_lab.ui.demo.runs import CHANGES, DATA, RUN_LIMIT_S, SUITE, UNKNOWN, Figures, Part
from tui_lab.ui.demo.script import CHAPTERS, Beat
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.terminal.textual_internals import keymap_of

if TYPE_CHECKING:
    from tui_lab.ui.demo.app import DemoApp

TICK_S = 0.1
#: Characters a second that people read beside looking, and seconds for finding the line.
READING_CHARS_PER_S, FINDING_S = 16.0, 1.0
#: Seconds that the host may take to load, and lanes to answer.
ANSWERS_S = 45.0
#: Characters of an answer that a caption quotes.
QUOTED = 40
PROMPTS = {"story": script.STORY, "shop": script.SHOP, "world": script.WORLD}


class Player:
    """One a demo. ``live``: train and decode for real; ``pace``: times as fast as people read (for tests);
    ``patient``: wait for slow runs instead of showing the recording."""

    def __init__(
        self, app: DemoApp, recording: Recording | None, live: bool, pace: float = 1.0, patient: bool = False
    ) -> None:
        self.app, self.recording, self.live, self.pace, self.patient = app, recording, live, pace, patient
        self.parts = {name: Part(name) for name in CHANGES}
        self.number = 0
        self.held = self.over = False
        self.taken = False  # held, and somebody has used the lab since
        self.recorded_answers = False
        self.told: list[Said] = []  # every caption, as it was when it was first said
        self.said = Said()
        self._lanes: dict[str, str] = {"base": UNKNOWN, "tuned": UNKNOWN}
        self._prompt = ""
        self._text: Callable[[], str] = str
        self._moved = 0  # grows with every leap to another chapter
        self._last = time.monotonic()
        self._time_s = 0.0  # of the demo: stands still while it is held

    # ------------------------------------------------------------------ time

    def tick(self) -> None:
        """Ten times a second: time passes, recordings play, runs are read, the bar is drawn."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        if not self.held and isinstance(self._screen, Pane):  # nor while a question lies over it
            self._time_s += passed
        for part in self.parts.values():
            if part.replay is not None:
                part.replay.paused = self.held
                part.replay.advance()
            part.poll()
            self._look_after(part)
        self._draw()

    def hold(self, on: bool, taken: bool = False) -> None:
        """Lets time stand still, or go on. ``taken``: by a key or a click that is the lab's."""
        self.held, self.taken = on, on and taken

    @property
    def typing(self) -> bool:
        """Whether somebody types: the letters are theirs then. The prompt of Compare has the focus as soon as
        it is shown, which alone says nothing."""
        return self.taken and isinstance(self.app.focused, Input | TextArea)

    async def wait(self, seconds: float) -> None:
        """Lets so much time of the demo pass."""
        until = self._time_s + seconds / self.pace
        while self._time_s < until:  # noqa: ASYNC110 (time goes on by ticks)
            await asyncio.sleep(min(TICK_S / 2, max(0.005, until - self._time_s)))

    async def until(self, holds: Callable[[], Any], most_s: float) -> bool:
        """Waits for a condition; whether it came to hold. Held time does not count."""
        end = self._time_s + most_s
        while not holds():
            if self._time_s >= end and not self.patient:
                return False
            await asyncio.sleep(TICK_S / 2)
        return True

    # ------------------------------------------------------------------ the runs

    def _look_after(self, part: Part) -> None:
        """What became of a run that trains: measured when it has ended, recorded when it cannot be had."""
        if part.process is None or part.recorded:
            return
        if whole := 0.0 if self.patient else part.too_slow():
            forecast = f"this machine would take {duration(whole)}, there is time for {RUN_LIMIT_S:.0f} s"
            late = f"it is not over after {RUN_LIMIT_S:.0f} s"
            self.record(part.name, forecast if whole >= RUN_LIMIT_S + 1 else late)
        elif part.ended == "finished" and not part.asked and part.kept is None:
            part.asked = True
            self.app.measure(part)
        elif part.ended not in ("", "finished"):
            words = part.run.last_words() if part.run else []
            message = str(part.state.end.get("message") or "") or (words[-1] if words else part.ended)
            self.record(part.name, f"the run ended: {sanitize(message)}")

    def record(self, name: str, why: str = "", whole: bool = False) -> bool:
        """Shows the recording of a run from now on; whether there is one."""
        part = self.parts[name]
        shown = part.run is not None and self.app.run_id == part.run.id
        try:
            if self.recording is None:
                raise LabError("there is no recording")
            part.use_recording(self.recording, self.pace, why, whole)
        except LabError as error:
            if part.problem != str(error):
                part.problem = str(error)
                self.app.tell(f"{why}; {error}" if why else str(error), "warning")
            part.end_process()
            return False
        if why:
            self.app.tell(f"{name}: {why}. It was recorded earlier: {self.recording.label}.")
        if shown or not self.app.run_id:
            self._show(name)
        if name == "naive" and not self.recorded_answers:
            self.app.recorded_answers(self.recording)  # its weights are not here
            self.recorded_answers = True
        return True

    async def measure(self, part: Part) -> None:
        """Puts the suite's questions to base and run, as Keep does."""
        from tui_lab.core.job_client import run_job

        def progress(text: str, done: int | None, total: int | None) -> None:
            part.measuring = f"{text} {done} of {total}." if done is not None and total else f"{text} …"

        assert part.run is not None
        part.measuring = "Loading the model …"
        request = {"run": part.run.id, "suites": [SUITE], "limit": 0}
        try:
            await run_job("tui_lab.evaluation.evaluate", request, progress)
        except LabError as error:
            self.record(part.name, str(error), whole=True)
        part.measuring = ""

    def close(self, leave_running: bool) -> None:
        for part in self.parts.values():
            part.close(leave_running)

    # ------------------------------------------------------------------ the story

    async def play(self, number: int) -> None:
        """Plays from a chapter on, to the end."""
        for self.number in range(number, len(CHAPTERS)):
            chapter = CHAPTERS[self.number]
            for beat in chapter.beats:
                if self.live or beat.short != "":
                    await self._beat(beat)
        self.over = True

    async def _beat(self, beat: Beat) -> None:
        """Does, waits, says, and gives time to read. Whatever fails is a sentence, and the story goes on."""
        if beat.waiting:
            self._say(beat.waiting)
        try:
            for act in beat.do:
                await self._do(act)
            reached = await self.until(lambda: self._holds(beat.until), beat.most_s)
            if not reached:
                reached = await self._instead(beat.until)
            if not reached and beat.until != "forecast":
                return  # why was said; there is nothing to caption
            for act in beat.then:
                await self._do(act)
        except LabError as error:
            self.app.tell(str(error), "warning")
            return
        except Exception as error:  # on a stage a part that is left out is better than a story that stands
            self.app.tell(f"this part cannot be shown: {type(error).__name__}: {error}", "error")
            return
        text = beat.caption if self.live or beat.short is None else beat.short
        said = self._say(text)
        await self.wait(FINDING_S + len(said) / READING_CHARS_PER_S)

    def _holds(self, condition: str) -> bool:
        name, _, what = condition.partition(" ")
        if name in self.parts:
            part = self.parts[name]
            if not part.begun and not self.record(name, whole=True):
                raise LabError(part.problem)
            return bool(getattr(part, what))
        match condition:
            case "answers":
                return self._answered()
            case "forecast":
                return bool(self.forecast())
        return True

    async def _instead(self, condition: str) -> bool:
        """What was waited for in vain, from the recording."""
        name = condition.partition(" ")[0]
        if name in self.parts and not self.parts[name].recorded:
            self.record(name, "it takes longer than there is time for", whole=True)
            return await self.until(lambda: self._holds(condition), 5)
        if condition == "answers" and not self.recorded_answers and self.recording is not None:
            self.app.recorded_answers(self.recording)
            self.recorded_answers = True
            await self._do("ask")
            return await self.until(self._answered, 15)
        return False

    # ------------------------------------------------------------------ what beats do

    async def _do(self, act: str) -> None:
        verb, _, what = act.partition(" ")
        done: dict[str, Callable[[str], Awaitable[None]]] = {
            "action": self._action,
            "choose": self._choose,
            "start": self._start,
            "ahead": self._ahead,
            "show": self._show_part,
            "tab": self._tab,
            "ask": self._ask,
            "beside": self._beside,
            "lane": self._lane,
        }
        await done[verb](what)

    async def _action(self, name: str) -> None:
        action = BY_ID[name]
        while not isinstance(self._screen, Pane):  # noqa: ASYNC110 (a question is open, or the window too small)
            await asyncio.sleep(TICK_S)
        await self.app.run_action(action.action, self.app if action.group == "app" else self._screen)
        await asyncio.sleep(0)

    async def _pane(self, name: str) -> Any:
        """The pane of that name, shown and laid out."""
        await self._action(f"app.{name}")

        def is_shown() -> bool:
            screen = self._screen
            return isinstance(screen, Pane) and name == screen.GROUP and screen.is_laid_out

        if not await self.until(is_shown, 10):
            raise LabError(f"{name} does not open while a question is open")
        return self._screen

    async def _choose(self, preset: str) -> None:
        """Chooses the bundled model, a preset and the data, with what the story changes of it."""
        pane = await self._pane("choose")
        if await self.until(lambda: pane.values and pane.summary is not None, 20):
            pane.action_show("presets")
            pane.choose(preset, {"model": "pocket", "data": DATA, **CHANGES[preset]})

    async def _start(self, name: str) -> None:
        """Lets a run begin, unless it has."""
        part = self.parts[name]
        if part.begun:
            return
        slow = any(each.recorded for each in self.parts.values())
        if not self.live or (slow and not self.patient):
            self.record(name)
            return
        try:
            part.start()
        except LabError as error:
            self.record(name, str(error))

    async def _ahead(self, name: str) -> None:
        """Lets a run begin before it is shown; a recording is played when it can be seen."""
        if self.live and not any(each.recorded for each in self.parts.values()):
            await self._start(name)

    async def _show_part(self, name: str) -> None:
        self._show(name)
        run, pane = self.parts[name].run, self._screen
        if run is not None and getattr(pane, "GROUP", "") == "keep":
            cast("Any", pane)._open(run.id)  # what was measured since it was read

    def _show(self, name: str) -> None:
        part = self.parts[name]
        if part.run is not None:
            self.app.run_id = part.run.id  # the demo's folder of runs is the lab's

    async def _tab(self, name: str) -> None:
        await self.until(lambda: isinstance(self._screen, Pane) and self._screen.is_laid_out, 10)
        screen: Any = self._screen
        if isinstance(screen, Pane) and hasattr(screen, "action_tab"):
            screen.action_tab(name)

    # ------------------------------------------------------------------ compare

    async def _ask(self, name: str) -> None:
        """Sends a prompt, as Enter does, once the model is there."""
        pane = await self._pane("compare")
        self._prompt = PROMPTS.get(name, self._prompt)
        host = self.app.host
        if not await self.until(lambda: host.status.loaded or host.status.state == "died", ANSWERS_S):
            await self._to_recorded_answers()
        from tui_lab.ui.widgets.prompt import Prompt

        pane.query_one(Prompt).text = self._prompt
        pane.results = []
        pane.action_run()

    async def _beside(self, name: str) -> None:
        """Puts a run beside its base."""
        pane = await self._pane("compare")
        part = self.parts[name]
        if not part.begun:
            self.record(name, whole=True)
        if not await self.until(lambda: part.ended, 30):
            self.record(name, "it takes longer than there is time for", whole=True)
        if any(view.lane.on == "tuned" for view in pane.views) or part.run is None:
            return
        for _ in range(2):
            pane.compare_run(part.run.id)
            if await self.until(lambda: any(view.lane.on == "tuned" for view in pane.views), ANSWERS_S):
                return
            if not await self._to_recorded_answers():
                return

    async def _lane(self, number: str) -> None:
        """Goes to a lane where not all can be seen."""
        pane: Any = self._screen
        if getattr(pane, "GROUP", "") == "compare" and pane.grid.places < len(pane.views):
            pane._go_to(int(number) - 1)

    async def _to_recorded_answers(self) -> bool:
        if self.recording is None or self.recorded_answers:
            return False
        self.app.recorded_answers(self.recording)
        self.recorded_answers = True
        await self.app.host.load("pocket")
        return True

    def _answered(self) -> bool:
        """Whether every lane has ended; what greedy said is kept for the captions."""
        pane: Any = self._screen
        if getattr(pane, "GROUP", "") != "compare" or pane.asked is None:
            return False
        if pane.asked.prompt != self._prompt or len(pane.results) != len(pane.views) or not pane.views:
            return False
        for view, done in zip(pane.views, pane.results, strict=True):
            if view.lane.strategy.name == "greedy":
                self._lanes[view.lane.on or "base"] = _quoted(done.text)
        return True

    # ------------------------------------------------------------------ what is said

    def forecast(self) -> str:
        """What Choose says that the run will take, in short."""
        from tui_lab.core.format import size
        from tui_lab.forecast import estimate

        found = getattr(getattr(self._screen, "summary", None), "outlook", None)
        if found is None or found.memory is None:
            return ""
        parts = [f"about {size(found.memory.total_bytes)} of memory, {estimate.verdict_text(found)}"]
        if found.cost is not None and found.cost.hours is not None:
            parts.append(estimate.time_text(found.cost.hours))
        return ", ".join(parts)

    def _figures(self) -> dict[str, Any]:
        keys = {
            name: first_key(action, keymap_of(self.app))
            for name, action in (
                ("choose", "app.choose"),
                ("start", "choose.start"),
                ("help", "app.help"),
                ("quit", "app.quit"),
            )
        }
        known: dict[str, Any] = {name: part.figures() for name, part in self.parts.items()}
        return {**known, **self._lanes, "keys": Figures(keys), "forecast": self.forecast() or UNKNOWN}

    def _say(self, text: str) -> str:
        self._text = lambda: text.format(**self._figures()).strip()
        self.said = self._whole()
        self.told.append(self.said)
        self._draw()
        return self.said.text

    def _whole(self) -> Said:
        """The bar as it is now."""
        title, number = CHAPTERS[self.number].title, self.number + 1
        keys, brief = self._keys()
        return Said(self._text(), title, number, len(CHAPTERS), self.label, keys, brief, self.held)

    @property
    def label(self) -> str:
        """Says of what is on the screen that it was recorded, when and where."""
        if self.over or self.recording is None:
            return ""
        shows = CHAPTERS[self.number].shows
        names = [name for name, part in self.parts.items() if name in shows]
        names = [name for name in names if self.parts[name].recorded or not self.live]
        if "answers" in shows and self.recorded_answers:
            names.append("answers")
        if not names:
            return ""
        which = f"{' and '.join(names)} " if len(names) < len(shows) else ""
        return f"{which}recorded earlier, {self.recording.label}"

    def _keys(self) -> tuple[str, str]:
        """What can be pressed, in full and in brief."""
        if self.over:
            return ("the demo is over",) * 2
        if self.typing:
            return "held, what you type is the lab's; Esc, then Space goes on", "held: Esc Space"
        if self.held:
            return "held, the keys are the lab's; Space goes on, Q leaves", "held: Space"
        arrows = "< >" if self.app.settings.ascii else "← →"
        return f"Space hold, {arrows} chapter, Q leave", f"Space {arrows} Q"

    @property
    def _screen(self) -> Screen[Any] | None:
        """What is in front; None between two modes, and when the lab closes."""
        try:
            return self.app.screen
        except ScreenStackError:
            return None

    def _draw(self) -> None:
        """Shows the bar on the pane in front; a pane that has none yet gets one."""
        screen = self._screen
        if not isinstance(screen, Pane) or not screen.is_laid_out:
            return
        said = self.said = self._whole()
        bars = screen.query(CaptionBar)
        if bars:
            bars.first().say(said)
            return
        footers = screen.query(Footer)
        with contextlib.suppress(Exception):
            screen.mount(
                CaptionBar(said, self.app.settings.ascii), before=footers.first() if footers else None
            )


def _quoted(text: str) -> str:
    """An answer as a caption quotes it."""
    line = sanitize(" ".join(text.split()))
    return line if len(line) <= QUOTED else line[: QUOTED - 1] + "…"
