"""The lab's side of the host: starts the process when it is needed, gives every request a number and brings
its answers back, says when the host died and why, and starts it again with what was loaded. Imports no
torch and no textual."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.core.subprocesses import LINE_LIMIT_BYTES, collect_stderr, describe_exit, spawn, stderr_tail
from tui_lab.playground.messages import (
    DETAILS,
    Event,
    GenerateRequest,
    HostStatus,
    LaneDone,
    PromptLength,
    ScoredToken,
    State,
    read,
    read_event,
)

MODULE = "tui_lab.playground"
#: Seconds that a host gets to go by itself when the lab closes, or to heed a cancellation.
GRACE_S = 2.0


@dataclass
class _Waiting:
    """A request on its way, and what the host is while it works on it."""

    state: State
    answer: asyncio.Future[dict[str, Any]]
    on_event: Callable[[Event], None] | None = None


@dataclass
class HostClient:
    """One a lab. ``on_change`` is called with every new status, on the event loop."""

    on_change: Callable[[HostStatus], None] = lambda status: None
    status: HostStatus = field(default_factory=HostStatus)

    def __post_init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._last_number = 0
        self._starting = asyncio.Lock()
        self._wanted: dict[str, Any] | None = None  # how the model was loaded
        self._beside: dict[str, str] = {}  # name → where it lies
        self._closing = False

    # ------------------------------------------------------------------ what people want

    async def load(
        self,
        model: str,
        *,
        revision: str = "",
        quantization: str = "none",
        dtype: str = "auto",
        allow_large: bool = False,
    ) -> HostStatus:
        """Loads a base model; nothing is left beside it. Raises LabError in one sentence."""
        wanted: dict[str, Any] = {
            "model": model,
            "revision": revision,
            "quantization": quantization,
            "dtype": dtype,
            "allow_large": allow_large,
        }
        self._wanted, self._beside = None, {}
        await self._request("load", "loading", **wanted)
        self._wanted = wanted
        return self.status

    async def add(self, name: str, location: str) -> HostStatus:
        """Puts an adapter (a run, a folder, a hub id) or a whole model beside the base."""
        await self._restore()
        await self._request("add", "loading", name=name, location=location)
        self._beside[name] = location
        return self.status

    async def remove(self, name: str) -> HostStatus:
        """Forgets what runs beside the base under this name."""
        await self._restore()
        await self._request("remove", "loading", name=name)
        self._beside.pop(name, None)
        return self.status

    async def generate(self, ask: GenerateRequest, on_event: Callable[[Event], None]) -> list[LaneDone]:
        """Decodes all lanes of a prompt. Cancelling the task that waits ends them within a step."""
        await self._restore()
        done: dict[int, LaneDone] = {}

        def hear(event: Event) -> None:
            if isinstance(event, LaneDone):
                done[event.lane] = event
            on_event(event)

        answer = await self._request("generate", "busy", hear, **asdict(ask))
        return [
            replace(done[lane], perplexity_base=float(perplexity))
            for lane, perplexity in enumerate(answer["perplexities"])
            if lane in done
        ]

    def stop(self) -> None:
        """Ends all lanes at their next step; ``generate`` returns what they have."""
        if self._process is not None:
            for number, waiting in self._waiting.items():
                if waiting.on_event is not None:
                    self._write(self._process, {"do": "cancel", "of": number})

    async def judge(
        self, prompt_ids: tuple[int, ...], token_ids: tuple[int, ...], on: list[str], top: int = DETAILS
    ) -> list[list[ScoredToken]]:
        """Every token of a text as each of ``on`` judges it."""
        await self._restore()
        answer = await self._request(
            "judge", "busy", prompt_ids=list(prompt_ids), token_ids=list(token_ids), on=on, top=top
        )
        return [[read(ScoredToken, token) for token in one] for one in answer["judged"]]

    async def count(self, ask: GenerateRequest) -> PromptLength:
        """How long a prompt is for the model that is loaded."""
        await self._restore()
        facts: PromptLength = read(PromptLength, await self._request("count", "busy", **asdict(ask)))
        return facts

    async def unload(self) -> None:
        """Frees the model's memory; the next request loads it again."""
        if self._process is not None:
            await self._request("unload", "busy")

    async def close(self) -> None:
        """Ends the host, by force where it does not go."""
        self._closing = True
        process = self._process
        if process is None:
            return
        assert process.stdin
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), GRACE_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._listening is not None:
            await self._listening

    @property
    def wants(self) -> str:
        """The model that is or will be loaded; empty when none was asked for."""
        return str(self._wanted["model"]) if self._wanted else ""

    def location(self, name: str) -> str:
        """Where something that was put beside the base lies; empty when it was loaded with the base itself
        or is not there."""
        return self._beside.get(name) or (self.wants if name == "tuned" and self._wanted else "")

    # ------------------------------------------------------------------ the process

    async def _restore(self) -> None:
        """Loads again what a host that died, or freed its memory, had loaded."""
        await self._start()
        if self.status.loaded or self._wanted is None:
            return
        wanted, beside = self._wanted, dict(self._beside)
        await self.load(**wanted)
        for name, location in beside.items():
            if name not in self.status.names:
                await self.add(name, location)

    async def _start(self) -> None:
        async with self._starting:
            if self._process is not None and self._process.returncode is not None and self._listening:
                await self._listening  # it has just died; what it left is told first
            if self._process is not None:
                return
            self._closing = False
            self._change(HostStatus("starting", "starting the host …"))
            self._process = await spawn(MODULE)
            self._listening = asyncio.create_task(self._listen(self._process))

    async def _request(
        self, do: str, state: State, on_event: Callable[[Event], None] | None = None, **values: Any
    ) -> dict[str, Any]:
        await self._start()
        process = self._process
        assert process is not None and process.stdin is not None
        self._last_number += 1
        number = self._last_number
        waiting = _Waiting(state, asyncio.get_running_loop().create_future(), on_event)
        self._waiting[number] = waiting
        if self.status.state == "ready":
            self._change(self.status)
        try:
            self._write(process, {"id": number, "do": do, **values})
            return await asyncio.shield(waiting.answer)
        except asyncio.CancelledError:
            # nobody hears the lanes any more; the host ends them at the next step
            waiting.on_event = None
            waiting.answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._write(process, {"do": "cancel", "of": number})
            raise

    def _write(self, process: asyncio.subprocess.Process, message: dict[str, Any]) -> None:
        assert process.stdin
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
            # a process that has died is found by the listener, which knows why
            process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout and process.stderr
        words = stderr_tail()
        hearing = asyncio.create_task(collect_stderr(process.stderr, words))
        broken = ""
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                broken = f"sent a line longer than {LINE_LIMIT_BYTES >> 20} MiB"
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                break
            if not line:
                break
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                self._take(message)
        await process.wait()
        await hearing
        self._process = None
        why = broken or describe_exit(process.returncode)
        if words and process.returncode not in (0, None) and process.returncode > 0:
            why += f": {sanitize(words[-1])}"
        waiting, self._waiting = self._waiting, {}
        for request in waiting.values():
            if not request.answer.done():
                request.answer.set_exception(LabError(f"the host {why}"))
        if self._closing:
            self._change(HostStatus())
        else:
            self._change(HostStatus("died", f"the host {why}"))

    def _take(self, message: dict[str, Any]) -> None:
        kind, number = message.pop("kind", None), message.pop("id", None)
        if kind == "status":
            self._change(read(HostStatus, message))
            return
        waiting = self._waiting.get(number) if isinstance(number, int) else None
        if kind == "progress":
            if waiting:
                self._change(replace(self.status, text=sanitize(str(message.get("text") or ""))))
        elif kind in ("result", "error"):
            self._waiting.pop(number, None)
            now = message.pop("status", None)
            self._change(read(HostStatus, now) if now else replace(self.status, state="ready", text=""))
            if waiting and not waiting.answer.done():
                if kind == "result":
                    waiting.answer.set_result(message)
                else:
                    waiting.answer.set_exception(LabError(str(message.get("message"))))
        elif waiting and waiting.on_event and (event := read_event(str(kind), message)) is not None:
            waiting.on_event(event)

    def _change(self, status: HostStatus) -> None:
        """Takes a new status; a host that still has work is not ready but at its oldest request."""
        if status.state == "ready" and self._waiting:
            status = replace(status, state=next(iter(self._waiting.values())).state)
        self.status = status
        self.on_change(status)
