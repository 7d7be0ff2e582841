"""Compare's answers in the demo: a host that writes down what it is asked and what comes, and one that says
again what was written down, at the pace that it came. Both are clients as the panes know them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.playground.client import HostClient
from tui_lab.playground.messages import Event, HostStatus, State, event_fields, read, read_event

#: Seconds that answers are played in at most, however slow the machine was that they were recorded on.
LONGEST_S = 6.0

Change = Callable[[HostStatus], None]


class RecordingHost(HostClient):
    """A host whose answers can be saved."""

    def __init__(self, on_change: Change) -> None:
        super().__init__(on_change)
        self.answers: list[dict[str, Any]] = []

    async def _request(
        self, do: str, state: State, on_event: Callable[[Event], None] | None = None, **values: Any
    ) -> dict[str, Any]:
        if do != "generate" or on_event is None:
            return await super()._request(do, state, on_event, **values)
        began = time.monotonic()
        heard: list[tuple[float, str, dict[str, Any]]] = []

        def hear(event: Event) -> None:
            kind, fields = event_fields(event)
            heard.append((round(time.monotonic() - began, 3), kind, fields))
            on_event(event)

        answer = await super()._request(do, state, hear, **values)
        self.answers.append(
            {
                "prompt": values["prompt"],
                "lanes": list(values["lanes"]),
                "status": asdict(self.status),
                "events": heard,
                "perplexities": answer["perplexities"],
            }
        )
        return answer

    def save(self, path: Path) -> None:
        """Writes what was answered, one answer a line."""
        lines = [json.dumps(answer, separators=(",", ":")) + "\n" for answer in self.answers]
        path.write_text("".join(lines), encoding="utf-8")


class RecordedHost(HostClient):
    """Answers from a recording. ``wait`` lets time pass as the demo does: not while that is held."""

    def __init__(
        self, answers: list[dict[str, Any]], on_change: Change, wait: Callable[[float], Awaitable[None]]
    ) -> None:
        super().__init__(on_change)
        self._answers, self._wait = answers, wait
        self._stopped = False
        first = answers[0].get("status") if answers else None
        self._base: HostStatus = read(HostStatus, first or {})

    async def _start(self) -> None:
        """There is no process."""

    def stop(self) -> None:
        self._stopped = True

    async def _request(
        self, do: str, state: State, on_event: Callable[[Event], None] | None = None, **values: Any
    ) -> dict[str, Any]:
        def now(state: State, names: tuple[str, ...]) -> None:
            told = {**vars(self._base), "state": state, "text": "recorded earlier", "names": names}
            self._change(HostStatus(**told))

        names = self.status.names
        match do:
            case "load":
                now("ready", ("base",))
            case "add":
                now("ready", (*names, str(values["name"])))
            case "count":
                return {"tokens": 0, "context": self._base.context, "fits": True}
            case "generate" if on_event is not None:
                now("busy", names)
                try:
                    return await self._play(self._found(values), on_event)
                finally:
                    now("ready", names)
            case _:
                raise LabError("this is a recording: `tui-lab` without `demo --replay` does that for real")
        return {}

    def _found(self, values: dict[str, Any]) -> dict[str, Any]:
        for answer in self._answers:
            if answer["prompt"] == values["prompt"] and answer["lanes"] == list(values["lanes"]):
                return answer
        raise LabError("this prompt is not in the recording: `tui-lab` without `demo --replay` answers it")

    async def _play(self, answer: dict[str, Any], on_event: Callable[[Event], None]) -> dict[str, Any]:
        self._stopped = False
        events = answer["events"]
        pace = min(1.0, LONGEST_S / max(1e-3, events[-1][0])) if events else 1.0
        at = 0.0
        for t, kind, fields in events:
            if self._stopped:
                break
            if t > at:
                await self._wait((t - at) * pace)
                at = t
            if (event := read_event(kind, fields)) is not None:
                on_event(event)
        await asyncio.sleep(0)
        return {"perplexities": [float(value) for value in answer["perplexities"]]}
