"""The lab's client of the playground process: starts it when it is needed, matches answers to requests by id,
reports why it ended, and restores what was loaded after a restart. Imports no torch and no textual."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from tui_lab.core.changed_inputs import ChangedInputs, accepted, accepting
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.core.subprocesses import LINE_LIMIT_BYTES, collect_stderr, describe_exit, spawn, stderr_tail
from tui_lab.decoding.records import ScoredToken
from tui_lab.hardware import memory_budget
from tui_lab.playground.messages import (
    DETAILS,
    AddRequest,
    CancelRequest,
    DamagedMessage,
    Done,
    ErrorMessage,
    EventMessage,
    Generated,
    GenerateRequest,
    GenerationEvent,
    LaneDone,
    LoadRequest,
    PlaygroundMessage,
    PlaygroundStatus,
    ProgressMessage,
    PromptLength,
    PromptTooLongError,
    RemoveRequest,
    Request,
    RequestMessage,
    Result,
    ResultMessage,
    Scored,
    ScoreRequest,
    StatusMessage,
    TooLong,
    UnloadRequest,
    WorkerStatus,
    decode_message,
    encode_line,
)

MODULE = "tui_lab.playground"
#: Seconds that the process gets to end by itself when the lab closes.
GRACE_S = 2.0

OnEvent = Callable[[PromptLength | GenerationEvent], None]
ResultT = TypeVar("ResultT", bound=msgspec.Struct)


@dataclass
class _Pending:
    """A request without a result yet, and the state of the process while it works on it."""

    state: WorkerStatus
    result: asyncio.Future[Result]
    on_event: OnEvent | None = None


class PlaygroundClient:
    """The client; the lab has one. ``on_change`` is called with every new status, on the event loop."""

    def __init__(self, on_change: Callable[[PlaygroundStatus], None] = lambda _status: None) -> None:
        self.on_change = on_change
        self.status = PlaygroundStatus()
        #: Variables that select the GPU from the next start on; empty: the one with the most free memory.
        self.environment: Mapping[str, str] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._pending: dict[int, _Pending] = {}
        self._last_id = 0
        self._start_lock = asyncio.Lock()
        self._load: LoadRequest | None = None  # what to load after a restart
        self._run_name = ""  # if that is a run: the name of its adapter
        self._added: dict[str, str] = {}  # name → location, likewise
        self._accepts: set[str] = set()  # of those names ("" for the base): changed inputs were accepted
        self._restore_lock = asyncio.Lock()
        self._is_restored = True
        self._closing = False
        self._ending: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ requests

    async def load(
        self,
        model: str,
        *,
        revision: str = "",
        quantization: str = "none",
        dtype: str = "auto",
        allow_large: bool = False,
    ) -> PlaygroundStatus:
        """Loads a base model; what was added before is removed. A run is loaded with its base. Raises
        LabError."""
        request = LoadRequest(model, revision, quantization, dtype, allow_large)
        self._load, self._added, self._accepts, self._is_restored = None, {}, set(), True
        await self._load_base(request)
        self._load, self._is_restored = request, True
        return self.status

    async def _load_base(self, request: LoadRequest) -> None:
        await self._result(request, "loading", Done)
        self._run_name = next(iter(self.status.names[1:]), "")
        self._remember_acceptance("")

    def _remember_acceptance(self, name: str) -> None:
        """A yes to changed inputs counts for later restores, too: Blind and the inspector do not ask."""
        if accepted():
            self._accepts.add(name)

    async def add(self, name: str, location: str) -> PlaygroundStatus:
        """Adds an adapter (a run, a folder, a hub id) or a whole model for comparison, unless it is there
        under this name. Raises LabError."""
        await self._restore()
        if self._added.get(name) == location:
            return self.status
        await self._result(AddRequest(name, location), "loading", Done)
        self._added[name] = location
        self._remember_acceptance(name)
        return self.status

    async def remove(self, name: str) -> PlaygroundStatus:
        """Removes what was added under a name. Raises LabError."""
        await self._restore()
        await self._result(RemoveRequest(name), "loading", Done)
        self._added.pop(name, None)
        self._accepts.discard(name)
        return self.status

    async def generate(
        self,
        request: GenerateRequest,
        on_event: Callable[[GenerationEvent], None],
        on_prompt: Callable[[PromptLength], None] = lambda _length: None,
    ) -> list[LaneDone]:
        """Decodes all lanes of a prompt; returns their results in the order of the lanes.

        ``on_prompt`` is called with the length of the encoded prompt before the first event. Cancelling the
        waiting task ends the lanes within a step. Raises PromptTooLongError, and LabError."""
        await self._restore()
        done: dict[int, LaneDone] = {}

        def dispatch(event: PromptLength | GenerationEvent) -> None:
            if isinstance(event, PromptLength):
                on_prompt(event)
                return
            if isinstance(event, LaneDone):
                done[event.lane] = event
            on_event(event)

        result = await self.request(request, "busy", dispatch)
        if isinstance(result, TooLong):
            raise PromptTooLongError(result)
        perplexities = _expect(result, Generated).perplexities
        return [
            msgspec.structs.replace(done[lane], perplexity_base=perplexity)
            for lane, perplexity in sorted(perplexities.items())
            if lane in done
        ]

    def stop(self) -> None:
        """Ends all lanes at their next step; ``generate`` returns what they have."""
        for request_id, pending in self._pending.items():
            if pending.on_event is not None:
                self._send(CancelRequest(request_id))

    async def score_tokens(
        self, prompt_ids: tuple[int, ...], token_ids: tuple[int, ...], on: list[str], top: int = DETAILS
    ) -> list[list[ScoredToken]]:
        """Scores every token of a text with each model of ``on``. Raises LabError."""
        scored = await self.score(ScoreRequest(prompt_ids, token_ids, tuple(on), top))
        return [list(scored.tokens[name]) for name in on]

    async def score(self, request: ScoreRequest) -> Scored:
        """Scores every token of a text, with the texts of its prompt's tokens. Raises LabError."""
        await self._restore()
        return await self._result(request, "busy", Scored)

    async def unload(self) -> None:
        """Frees the model's memory; the next request loads it again. On a GPU the process ends with it, since
        its CUDA context keeps hundreds of MiB."""
        if self._process is not None:
            on_gpu = self._is_on_gpu
            await self._result(UnloadRequest(), "busy", Done)
            if on_gpu:
                await self._end_when_unused()

    @property
    def _is_on_gpu(self) -> bool:
        return self.status.device.startswith("cuda")

    async def _end_when_unused(self) -> None:
        """Ends a process that has no model and no request; the text of its status stays."""
        async with self._start_lock:
            if not self._pending:
                text = self.status.text
                await self.close()
                self._change(PlaygroundStatus(text=text))

    async def close(self) -> None:
        """Ends the process; kills it after a grace period."""
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
        if self._reader is not None:
            await self._reader

    @property
    def wants(self) -> str:
        """The model that is loaded, or that the next request loads; empty if there is none."""
        return self._load.model if self._load else ""

    @property
    def added(self) -> Mapping[str, str]:
        """The locations of what is compared with the base, by name, also while the memory is free."""
        run = {self._run_name: self._load.model} if self._load and self._run_name else {}
        return {**run, **self._added}

    def location(self, name: str) -> str:
        """Where the adapter or model of a name comes from; empty for the base and for unknown names."""
        return self.added.get(name, "")

    @property
    def names(self) -> tuple[str, ...]:
        """What lanes can run on, the base first, also while the memory is free; empty before a load."""
        wanted = ("base", *self.added) if self._load else ()
        return self.status.names if self._is_restored and self.status.names else wanted

    @property
    def pid(self) -> int | None:
        """The id of the process; None if it does not run."""
        return self._process.pid if self._process else None

    # ------------------------------------------------------------------ the process

    async def _restore(self) -> None:
        """Loads again what a process that ended, or freed its memory, had loaded."""
        await self._start()
        async with self._restore_lock:
            if self._load is None or (self.status.loaded and self._is_restored):
                return
            self._is_restored = False  # until all of it is there: else the next request tries again
            with accepting(accepted() or "" in self._accepts):
                await self._load_base(self._load)
            for name, location in list(self._added.items()):
                if name not in self.status.names:
                    with accepting(accepted() or name in self._accepts):
                        await self._result(AddRequest(name, location), "loading", Done)
                        self._remember_acceptance(name)
            self._is_restored = True

    async def _start(self) -> None:
        async with self._start_lock:
            if self._process is not None and self._process.returncode is not None and self._reader:
                await self._reader  # it has just ended: its last messages are handled first
            if self._process is not None:
                return
            self._closing = False
            self._change(PlaygroundStatus("starting", "starting the inference process …"))
            try:
                chosen = self.environment or await asyncio.to_thread(_device_environment)
                self._process = await spawn(MODULE, chosen)
            except LabError as error:
                self._change(PlaygroundStatus("died", str(error)))
                raise
            self._reader = asyncio.create_task(self._read(self._process))

    async def _result(self, request: Request, state: WorkerStatus, kind: type[ResultT]) -> ResultT:
        return _expect(await self.request(request, state), kind)

    async def request(self, request: Request, state: WorkerStatus, on_event: OnEvent | None = None) -> Result:
        """Sends a request and waits for its result. ``state``: of the process meanwhile. Raises LabError."""
        await self._start()
        self._last_id += 1
        request_id = self._last_id
        pending = _Pending(state, asyncio.get_running_loop().create_future(), on_event)
        self._pending[request_id] = pending
        if self.status.state == "ready":
            self._change(self.status)
        try:
            self._send(request, request_id)
            return await asyncio.shield(pending.result)
        except asyncio.CancelledError:
            # the caller has gone: its events are dropped, and the process ends the request at the next step
            pending.on_event = None
            pending.result.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._send(CancelRequest(request_id))
            raise

    def _send(self, request: Request, request_id: int = 0) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
            # the reader reports a process that has ended, with the reason
            message = RequestMessage(request_id, request, accepts_changes=accepted())
            self._process.stdin.write(encode_line(message))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Handles the messages of a process until it ends, then fails the pending requests."""
        assert process.stdout and process.stderr
        tail = stderr_tail()
        stderr_reader = asyncio.create_task(collect_stderr(process.stderr, tail))
        failure = ""
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                failure = f"sent a line longer than {LINE_LIMIT_BYTES >> 20} MiB"
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                break
            if not line:
                break
            try:
                if (message := decode_message(line)) is not None:
                    self._handle(message)
            except DamagedMessage as error:
                failure = f"sent a message that cannot be read ({error})"
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                break
        await process.wait()
        await stderr_reader
        self._process = None
        reason = failure or describe_exit(process.returncode)
        if tail and process.returncode is not None and process.returncode > 0:
            reason += f": {sanitize(tail[-1])}"
        pending, self._pending = self._pending, {}
        for request in pending.values():
            if not request.result.done():
                request.result.set_exception(LabError(f"the playground process {reason}"))
        if self._closing:
            self._change(PlaygroundStatus())
        else:
            self._change(PlaygroundStatus("died", f"the playground process {reason}"))

    def _handle(self, message: PlaygroundMessage) -> None:
        match message:
            case StatusMessage(status):
                was_on_gpu = self._is_on_gpu
                self._change(status)
                if was_on_gpu and not status.loaded:  # after a time without requests
                    self._ending = asyncio.create_task(self._end_when_unused())
            case ProgressMessage(request_id, text):
                if request_id in self._pending:
                    self._change(msgspec.structs.replace(self.status, text=sanitize(text)))
            case EventMessage(request_id, event):
                pending = self._pending.get(request_id)
                if pending and pending.on_event:
                    pending.on_event(event)
            case ResultMessage(request_id, result, status):
                pending = self._pending.pop(request_id, None)
                self._change(status)
                if pending and not pending.result.done():
                    pending.result.set_result(result)
            case ErrorMessage(request_id, text, error_status, what, changes):
                pending = self._pending.pop(request_id, None) if request_id is not None else None
                ready = msgspec.structs.replace(self.status, state="ready", text="")
                self._change(error_status or ready)
                if pending and not pending.result.done():
                    error = ChangedInputs(what, changes) if changes else LabError(text)
                    pending.result.set_exception(error)

    def _change(self, status: PlaygroundStatus) -> None:
        """Takes a new status. While requests are pending, the state is that of the oldest, not "ready"."""
        if status.state == "ready" and self._pending:
            state = next(iter(self._pending.values())).state
            status = msgspec.structs.replace(status, state=state)
        self.status = status
        self.on_change(status)


def _device_environment() -> dict[str, str]:
    """The variables that make the process use the GPU with the most free memory. Raises LabError where torch
    cannot use it."""
    return memory_budget.current().check().environment


def _expect(result: Result, kind: type[ResultT]) -> ResultT:
    """``result``, which must be of this kind. Raises LabError."""
    if not isinstance(result, kind):
        raise LabError(f"the playground process answered with {type(result).__name__}, not {kind.__name__}")
    return result
