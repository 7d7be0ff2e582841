"""The world that the fuzz of the lab plays in: a folder with runs of every state and a held queue, a client
that answers hostile text, jobs that fail or hang, and launches that are tests/fake_worker. What would leave
the world (a browser, a download, a real training) is counted instead of done."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import FAKE_WORKER
from tests.ui.helpers import lane_done
from tests.ui.sample_runs import make_run
from tui_lab.core import job_client
from tui_lab.core.errors import LabError
from tui_lab.playground.messages import (
    GenerateRequest,
    GenerationEvent,
    LaneDone,
    PlaygroundStatus,
    PromptLength,
    PromptTooLongError,
    Scored,
    ScoredToken,
    ScoreRequest,
    Tokens,
    TooLong,
)
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import commands, folder, launch
from tui_lab.runs.events import EventWriter
from tui_lab.runs.queue import queue
from tui_lab.runs.schema import EndEvent, PlanEvent, ResumedEvent, SampleEvent, StartedEvent, StepEvent
from tui_lab.runs.state import Watcher

#: Text as a model, a data file or a clipboard may hold it.
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07", "[red]not markup[/red] [/] [@click=app.quit]x[/]", "\u202eevil\u202c \u200b",
    "日本語の長い文 😀 👩‍👩‍👧 ﷽", "e\u0301\u0301\u0301", "\t\r\n\x00\x9b31m", "x" * 3_000, "a\n" * 400,
    "100%", "$(reboot) `id` ; rm -rf ~", "../../etc/passwd", "-1e999", "nan", "",
)  # fmt: skip
#: Runs and queue processes that one fuzz may start.
MOST_STARTS = 8


class World:
    """Everything lies below ``place``: :meth:`enter` points the environment there, :meth:`leave` ends it."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place = place
        self.random = random.Random(seed)
        self.starts = self.refused_starts = self.jobs = 0
        self.made = 0
        self.kept: dict[Path, dict[str, str]] = {}
        self.deleted: set[Path] = set()
        self._undo: list[Callable[[], None]] = []
        self._started: list[Any] = []
        self._others: set[psutil.Process] = set()  # children that the fuzz's process had before

    # ------------------------------------------------------------------ in and out

    def enter(self) -> None:
        self._others = set(psutil.Process().children())
        (self.place / "home").mkdir(parents=True)
        self._environment(
            TUI_LAB_RUNS_DIR=str(self.place / "runs"),
            TUI_LAB_CONFIG_DIR=str(self.place / "config"),
            TUI_LAB_DATA_DIR=str(self.place / "data"),
            TUI_LAB_STATE_DIR=str(self.place / "state"),
            TUI_LAB_CACHE_DIR=str(self.place / "cache"),
            HF_HUB_CACHE=str(self.place / "hub"),
            HF_HUB_OFFLINE="1",
            HOME=str(self.place / "home"),
            XDG_CONFIG_HOME=str(self.place / "home" / "config"),
            PYTHONPATH=os.pathsep.join(filter(None, [str(FAKE_WORKER), os.environ.get("PYTHONPATH")])),
            FAKE_STEP_S="0.25",
        )
        self._replace(launch, "start", self._limited(launch.start))
        self._replace(queue, "start_runner", self._limited(queue.start_runner))
        self._replace(job_client, "run_job", self.job)
        self.stock()
        live = folder.create(Recipe(max_steps=100_000), name="live")
        held = folder.create(Recipe(max_steps=100_000), name="held")
        for run in (live, held):
            self._started.append(launch.start(run))
        self.starts = 0
        commands.send(held, "pause")
        queue.hold()
        queue.add([Recipe(max_steps=6), Recipe(max_steps=8)])

    def leave(self) -> list[str]:
        """Ends runs and queue; the command lines of what is left of this fuzz's children."""
        for run in folder.list_runs():
            pid = Watcher(run).read_all().started.pid if folder.is_locked(run) else None
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for child in self._started:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            child.wait()
        deadline = time.monotonic() + 5  # what is told to end may take a moment
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for undo in reversed(self._undo):
            undo()
        found = []
        for process in left:
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                found.append(" ".join(process.cmdline()))
                process.kill()
        return found

    def _left(self) -> list[psutil.Process]:
        ours = [child for child in psutil.Process().children() if child not in self._others]
        found = []
        for child in ours:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [child, *child.children(recursive=True)]
        return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def _environment(self, **values: str) -> None:
        for name, value in values.items():
            before = os.environ.get(name)
            os.environ[name] = value
            self._undo.append(
                lambda name=name, before=before: (
                    os.environ.pop(name, None)  # type: ignore[misc]
                    if before is None
                    else os.environ.__setitem__(name, before)
                )
            )

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        before = getattr(owner, name)
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, before))

    def _limited(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def start(*args: Any, **kwargs: Any) -> Any:
            if self.starts >= MOST_STARTS:
                self.refused_starts += 1
                raise LabError("the fuzz has started enough\x1b[31m processes")
            self.starts += 1
            child = real(*args, **kwargs)
            if child is not None:
                self._started.append(child)
            return child

        return start

    # ------------------------------------------------------------------ runs

    def stock(self) -> None:
        """Runs that have ended, again where a fuzz has deleted them."""
        here = {run.path for run in folder.list_runs()}
        if sum(path in here for path in self.kept) < 2:
            self.made += 1
            for verdict, gain in (("red", (0.1, 0.9)), ("green", (0.2, 0.4))):
                run = make_run(gain, f"kept-{verdict}-{self.made}", verdict)
                self.kept[run.path] = self._hashes(run.path)
            failed = folder.create(Recipe(max_steps=9), name=f"failed-{self.made} [/]")
            events = EventWriter(failed.events_path)
            events.write(ResumedEvent(from_step=0, attempt=1))
            events.write(StartedEvent(pid=1, host="here", versions={}, device={"type": "cpu"}, threads=1))
            events.write(PlanEvent(total_steps=9, epochs=1.0))
            for step in range(1, 6):
                events.write(StepEvent(step=step, loss=float("nan") if step == 3 else 2.0, tokens=step))
            events.write(SampleEvent(step=5, prompt=HOSTILE[0], text=HOSTILE[1] + HOSTILE[2]))
            events.write(EndEvent(state="failed", step=5, message=f"no room {HOSTILE[5]}"))
            events.close()

    @staticmethod
    def _hashes(path: Path) -> dict[str, str]:
        """What a run that has ended must keep to the byte: all but reports, exports and what people note."""
        kept = [path / "recipe.toml", path / "events.jsonl"]
        kept += [each for part in ("adapter", "retention") for each in sorted((path / part).rglob("*"))]
        return {
            str(each.relative_to(path)): hashlib.sha256(each.read_bytes()).hexdigest()
            for each in kept
            if each.is_file()
        }

    def harmed(self, deletions: int) -> str:
        """What is wrong with the runs that have ended; ``deletions``: how often deleting was said yes to."""
        for path, hashes in list(self.kept.items()):
            if not path.exists():
                if not deletions:
                    return f"{path.name} has gone and nobody was asked"
                del self.kept[path]
            elif (now := self._hashes(path)) != hashes:
                return f"{path.name}: changed: {sorted(set(now.items()) ^ set(hashes.items()))[:4]}"
        return ""

    # ------------------------------------------------------------------ jobs

    async def job(
        self, module: str, request: dict[str, Any], progress: Any = None, environment: Any = None, **_: Any
    ) -> dict[str, Any]:
        """Half of the jobs hang until they are ended, half fail; all talk first."""
        self.jobs += 1
        for done in range(3):
            await asyncio.sleep(0.01)
            if progress is not None:
                progress(self.random.choice(HOSTILE[:6]), done, self.random.choice((3, None)))
        if self.random.random() < 0.3:
            await asyncio.sleep(30)
        raise LabError(f"{module} cannot {self.random.choice(HOSTILE[:6])}")


class FakeClient:
    """Speaks as PlaygroundClient does: streams hostile text, fails now and then, dies and comes back."""

    def __init__(self, change: Callable[[PlaygroundStatus], None], seed: int) -> None:
        self._change = change
        self._random = random.Random(seed)
        self._stopped = asyncio.Event()
        self.status, self.wants = PlaygroundStatus(), ""
        self._places: dict[str, str] = {}
        self.requests = 0

    def _tell(self, status: PlaygroundStatus) -> PlaygroundStatus:
        self.status = status
        self._change(status)
        return status

    @property
    def names(self) -> tuple[str, ...]:
        return self.status.names

    @property
    def added(self) -> dict[str, str]:
        return {name: self._places.get(name, "") for name in self.status.names[1:]}

    def location(self, name: str) -> str:
        return ""

    async def load(self, model: str, **how: Any) -> PlaygroundStatus:
        self._tell(PlaygroundStatus("loading", text="weights 3 of 7"))
        await asyncio.sleep(0.02)
        if self._random.random() < 0.1:
            self._tell(PlaygroundStatus("ready"))
            raise LabError(f"{model} cannot be loaded: {HOSTILE[0]}")
        self.wants = model
        return self._tell(
            PlaygroundStatus(
                "ready", model=model, dtype="float32", device="cpu", names=("base",), context=200
            )
        )

    async def add(self, name: str, location: str) -> PlaygroundStatus:
        names = tuple(dict.fromkeys((*self.status.names, name)))
        self._places[name] = location
        return self._tell(PlaygroundStatus("ready", model=self.wants, device="cpu", names=names, context=200))

    async def remove(self, name: str) -> PlaygroundStatus:
        return self.status

    async def generate(
        self,
        ask: GenerateRequest,
        hear: Callable[[GenerationEvent], None],
        on_prompt: Callable[[PromptLength], None] = lambda _length: None,
    ) -> list[LaneDone]:
        await asyncio.sleep(0.005)
        if len(ask.prompt) >= 200 and not ask.cut:
            raise PromptTooLongError(TooLong(len(ask.prompt), 200))
        on_prompt(PromptLength(len(ask.prompt), 200))
        self.requests += 1
        self._stopped.clear()
        self._tell(
            PlaygroundStatus("busy", model=self.wants, device="cpu", names=self.status.names, context=200)
        )
        texts = [""] * len(ask.lanes)
        try:
            for count in range(1, min(ask.max_new_tokens, 25)):
                for lane in range(len(ask.lanes)):
                    piece = self._random.choice((" word", " and", *HOSTILE[:6]))
                    texts[lane] += piece
                    hear(Tokens(lane, piece, count))
                await asyncio.sleep(0.01)
                if self._stopped.is_set():
                    break
                if self._random.random() < 0.01:
                    raise LabError("the process was killed by SIGKILL")
        finally:
            self._tell(
                PlaygroundStatus(
                    "ready", model=self.wants, device="cpu", names=self.status.names, context=200
                )
            )
        done = [lane_done(lane, ask.lanes[lane], text) for lane, text in enumerate(texts)]
        for each in done:
            hear(each)
        return done

    async def score(self, request: ScoreRequest) -> Scored:
        await asyncio.sleep(0.01)
        tokens = tuple(
            ScoredToken(each, -1.0, 1, 0.5, ((each, HOSTILE[0], -1.0),)) for each in request.token_ids
        )
        return Scored(dict.fromkeys(request.on, tokens), tuple(HOSTILE[:4]))

    def stop(self) -> None:
        self._stopped.set()

    async def unload(self) -> None:
        self._tell(PlaygroundStatus("ready"))

    async def close(self) -> None:
        self._stopped.set()
