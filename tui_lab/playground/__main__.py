"""``python -m tui_lab.playground``: JSON lines in, JSON lines out, until stdin closes (the lab has gone).

A thread reads requests, so that a cancellation arrives while lanes decode; the main thread works them off
one after the other. Nothing that a request holds ends the process."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from dataclasses import asdict
from typing import Any, BinaryIO

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.playground.messages import Event, GenerateRequest, event_fields, read

#: Seconds without a request after which the model's memory is freed; the lab loads it again when asked.
IDLE_S = float(os.environ.get("TUI_LAB_HOST_IDLE_S", "600"))


_KIND_NAMES: dict[type, str] = {str: "text", int: "whole number", bool: "yes or no"}
_ASK: dict[str, type | tuple[type]] = {
    "prompt": str,
    "lanes": (str,),
    "system": str,
    "raw": bool,
    "max_new_tokens": int,
    "stop": (str,),
    "details": bool,
    "cut": bool,
}


class Host:
    """See the module's docstring."""

    def __init__(self, lines: job_protocol.LineWriter) -> None:
        self._lines = lines
        self._requests: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelled: set[int] = set()

    def listen(self, stdin: BinaryIO) -> None:
        """Reads requests until the lab goes; then there is nothing left to do, whatever is in hand."""
        for line in stdin:
            try:
                request = json.loads(line)
                if not isinstance(request, dict):
                    raise ValueError(f"a JSON object is wanted, not {type(request).__name__}")
            except (ValueError, RecursionError) as error:
                self._lines.write("error", id=None, message=f"the request is not valid JSON: {error}")
                continue
            if request.get("do") == "cancel":
                of = request.get("of")
                if isinstance(of, int):
                    self._cancelled.add(of)
            else:
                self._requests.put(request)
        os._exit(0)

    def work(self) -> None:
        """Answers requests, for ever."""
        from tui_lab.playground.worker import Worker

        worker = Worker()
        self._lines.write("status", **asdict(worker.status))
        rested = False
        while True:
            try:
                request = self._requests.get(timeout=None if rested else IDLE_S)
            except queue.Empty:
                rested = True
                if worker.status.loaded:
                    worker.unload()
                    text = f"the model's memory was freed after {IDLE_S / 60:g} min without a request"
                    self._lines.write("status", **{**asdict(worker.status), "text": text})
                continue
            rested = False
            self._answer(worker, request)

    def _answer(self, worker: Any, request: dict[str, Any]) -> None:
        from tui_lab.playground.worker import out_of_memory

        number = request.get("id")
        number = number if isinstance(number, int) else None
        try:
            fields = self._do(worker, number, request)
        except LabError as error:
            self._lines.write("error", id=number, message=str(error), status=asdict(worker.status))
        except Exception as error:
            sentence = out_of_memory(error, worker.status.quantization == "nf4")
            if sentence is None:
                traceback.print_exc(file=sys.stderr)
                first = sanitize((str(error).strip().splitlines() or [""])[0])
                sentence = f"the host failed unexpectedly ({type(error).__name__}: {first})"
            self._lines.write("error", id=number, message=sentence, status=asdict(worker.status))
        else:
            self._lines.write("result", id=number, status=asdict(worker.status), **fields)
        if number is not None:
            self._cancelled.discard(number)

    def _do(self, worker: Any, number: int | None, request: dict[str, Any]) -> dict[str, Any]:
        def say(text: str) -> None:
            self._lines.write("progress", id=number, text=text)

        def tell(event: Event) -> None:
            kind, fields = event_fields(event)
            self._lines.write(kind, id=number, **fields)

        values = {key: value for key, value in request.items() if key not in ("id", "do")}
        what = request.get("do")
        if problem := _problem(what, values):
            raise LabError(f"the request {sanitize(str(what))!r} does not have the right fields: {problem}")
        match what:
            case "load" | "add" | "remove":
                getattr(worker, what)(say, **values)
                return {}
            case "unload":
                worker.unload()
                return {}
            case "count":
                return asdict(worker.count(_ask(values)))
            case "generate":
                heard = worker.generate(_ask(values), tell, lambda: number in self._cancelled)
                return {"perplexities": heard}
            case "judge":
                judged = worker.judge(**values)
                return {"judged": [[asdict(token) for token in one] for one in judged]}
        raise LabError(f"the host does not know the request {sanitize(str(what))!r}")


def _ask(values: dict[str, Any]) -> GenerateRequest:
    ask = read(GenerateRequest, values)
    assert isinstance(ask, GenerateRequest)
    return ask


#: What every request must bring, and of what kind its fields are; more fields than these are refused.
_FIELDS: dict[str, tuple[set[str], dict[str, type | tuple[type]]]] = {
    "load": (
        set(),
        {"model": str, "revision": str, "quantization": str, "dtype": str, "allow_large": bool},
    ),
    "add": ({"name", "location"}, {"name": str, "location": str}),
    "remove": ({"name"}, {"name": str}),
    "unload": (set(), {}),
    "judge": (
        {"prompt_ids", "token_ids", "on"},
        {"prompt_ids": (int,), "token_ids": (int,), "on": (str,), "top": int},
    ),
    "generate": ({"prompt", "lanes"}, _ASK),
    "count": ({"prompt", "lanes"}, _ASK),
}


def _problem(what: Any, values: dict[str, Any]) -> str:
    """What is wrong with a request's fields, in words; empty when nothing is. A kind in a tuple means a list
    of it."""
    if not isinstance(what, str) or what not in _FIELDS:
        return ""  # said by name elsewhere
    needed, kinds = _FIELDS[what]
    found = [f"{name} is missing" for name in sorted(needed - values.keys())]
    for name, value in values.items():
        kind = kinds.get(name)
        if kind is None:
            found.append(f"{sanitize(name)!r} is none of {', '.join(kinds) or 'its fields'}")
        elif isinstance(kind, tuple):
            if not isinstance(value, list) or any(type(each) is not kind[0] for each in value):
                found.append(f"{name} is a list of {_KIND_NAMES[kind[0]]}s")
        elif type(value) is not kind:
            found.append(f"{name} is a {_KIND_NAMES[kind]}")
    return "; ".join(found)


def main() -> int:
    """Serves until stdin closes."""
    host = Host(job_protocol.LineWriter(job_protocol.reserve_stdout()))
    threading.Thread(target=host.listen, args=(sys.stdin.buffer,), daemon=True).start()
    from tui_lab.models.loading import quiet_libraries

    with quiet_libraries():
        host.work()
    return 0


if __name__ == "__main__":
    sys.exit(main())
