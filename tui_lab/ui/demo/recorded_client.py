"""The Playground's answers in the demo: one client that records the answers of the playground process, and
one that plays recorded answers back at their original speed, without a process."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
from msgspec.structs import replace

from tui_lab.core.errors import LabError
from tui_lab.core.records import from_plain, jsonable
from tui_lab.decoding.strategies import Lane, parse
from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.messages import (
    GenerateRequest,
    GenerationEvent,
    LaneDone,
    PlaygroundStatus,
    PromptLength,
    Scored,
    ScoreRequest,
    WorkerStatus,
    event_fields,
    read_event,
)
from tui_lab.ui.demo.recording import RecordedAnswer

#: An answer that took longer than this many seconds is played back in this time.
MAX_PLAYBACK_S = 6.0

StatusCallback = Callable[[PlaygroundStatus], None]
EventCallback = Callable[[GenerationEvent], None]
PromptCallback = Callable[[PromptLength], None]


class RecordingClient(PlaygroundClient):
    """The client of a live demo. It keeps every answer with the times of its events."""

    def __init__(self, on_change: StatusCallback) -> None:
        super().__init__(on_change)
        self.answers: list[RecordedAnswer] = []

    async def generate(
        self,
        request: GenerateRequest,
        on_event: EventCallback,
        on_prompt: PromptCallback = lambda _length: None,
    ) -> list[LaneDone]:
        start = time.monotonic()
        events: list[tuple[float, str, dict[str, object]]] = []

        def record(event: GenerationEvent) -> None:
            events.append((round(time.monotonic() - start, 3), *event_fields(event)))
            on_event(event)

        done = await super().generate(request, record, on_prompt)
        perplexities = tuple(lane.perplexity_base for lane in done)
        answer = RecordedAnswer(
            request.prompt, request.lanes, tuple(events), perplexities, msgspec.structs.asdict(self.status)
        )
        self.answers.append(answer)
        return done

    def save(self, path: Path) -> None:
        """Writes the answers, one JSON object a line."""
        records = [jsonable(msgspec.structs.asdict(answer)) for answer in self.answers]
        lines = [json.dumps(record, separators=(",", ":")) + "\n" for record in records]
        path.write_text("".join(lines), encoding="utf-8")


class RecordedClient(PlaygroundClient):
    """The client of a replay. ``wait`` lets demo time pass, which stands still while the demo is paused."""

    def __init__(
        self,
        answers: Sequence[RecordedAnswer],
        on_change: StatusCallback,
        wait: Callable[[float], Awaitable[None]],
    ) -> None:
        super().__init__(on_change)
        self._answers, self._wait = tuple(answers), wait
        self._is_stopped = False
        self._model = ""
        self._recorded = from_plain(
            answers[0].status if answers else {}, PlaygroundStatus, "the recorded status"
        )

    def _set_status(self, state: WorkerStatus, names: tuple[str, ...]) -> PlaygroundStatus:
        self.status = replace(self._recorded, state=state, text="recorded earlier", names=names)
        self.on_change(self.status)
        return self.status

    @property
    def wants(self) -> str:
        return self._model

    async def load(
        self,
        model: str,
        *,
        revision: str = "",
        quantization: str = "none",
        dtype: str = "auto",
        allow_large: bool = False,
    ) -> PlaygroundStatus:
        del revision, quantization, dtype, allow_large  # the recording has one model
        self._model, self._added = model, {}
        return self._set_status("ready", ("base",))

    async def add(self, name: str, location: str) -> PlaygroundStatus:
        self._added[name] = location
        return self._set_status("ready", ("base", *self._added))

    async def remove(self, name: str) -> PlaygroundStatus:
        self._added.pop(name, None)
        return self._set_status("ready", ("base", *self._added))

    async def score(self, request: ScoreRequest) -> Scored:
        del request
        _refuse("this is a recording")

    async def unload(self) -> None:
        """Nothing is loaded."""

    async def close(self) -> None:
        """There is no process."""

    def stop(self) -> None:
        self._is_stopped = True

    async def generate(
        self,
        request: GenerateRequest,
        on_event: EventCallback,
        on_prompt: PromptCallback = lambda _length: None,
    ) -> list[LaneDone]:
        names = self.status.names
        self._set_status("busy", names)
        try:
            answer = self._find(request)
            on_prompt(PromptLength(0, self._recorded.context))
            return await self._play(answer, request.lanes, on_event)
        finally:
            self._set_status("ready", names)

    def _find(self, ask: GenerateRequest) -> RecordedAnswer:
        lanes = _by_role(ask.lanes)
        for answer in self._answers:
            if answer.prompt == ask.prompt and _by_role(answer.lanes) == lanes and not any(ask.turns):
                return answer
        _refuse("this prompt is not in the recording")

    async def _play(
        self, answer: RecordedAnswer, lanes: Sequence[str], on_event: EventCallback
    ) -> list[LaneDone]:
        self._is_stopped = False
        duration = answer.events[-1][0] if answer.events else 0.0
        pace = min(1.0, MAX_PLAYBACK_S / max(1e-3, duration))
        done: dict[int, LaneDone] = {}
        at = 0.0
        for seconds, kind, fields in answer.events:
            if self._is_stopped:
                break
            if seconds > at:
                await self._wait((seconds - at) * pace)
                at = seconds
            event = read_event(kind, fields)
            if isinstance(event, LaneDone):
                lane = lanes[event.lane]  # the recording may know the adapter by another name
                event = replace(event, description=lane, on=parse(lane).on or event.on)
                done[event.lane] = event
            if event is not None:
                on_event(event)
        await asyncio.sleep(0)
        return [
            replace(done[lane], perplexity_base=perplexity)
            for lane, perplexity in enumerate(answer.perplexities)
            if lane in done
        ]


def _by_role(lanes: Sequence[str]) -> list[Lane]:
    """The lanes with one name for whatever was tuned."""
    parsed = (parse(lane) for lane in lanes)
    return [dataclasses.replace(lane, on="tuned") if lane.on not in ("", "base") else lane for lane in parsed]


def _refuse(problem: str) -> NoReturn:
    raise LabError(f"{problem}: `tui-lab` without `demo --replay` computes it")
