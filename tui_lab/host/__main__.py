"""``python -m tui_lab.host``: JSON lines in, JSON lines out, until stdin closes (the lab has gone).

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
from typing import Any, TextIO

from tui_lab import jobs
from tui_lab.errors import LabError
from tui_lab.host.messages import Ask, Event, event_fields, read

#: Seconds without a request after which the model's memory is freed; the lab loads it again when asked.
IDLE_S = float(os.environ.get("TUI_LAB_HOST_IDLE_S", "600"))


class Host:
    """See the module's docstring."""

    def __init__(self, lines: jobs.Lines) -> None:
        self._lines = lines
        self._requests: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelled: set[Any] = set()

    def listen(self, stdin: TextIO) -> None:
        """Reads requests until the lab goes; then there is nothing left to do, whatever is in hand."""
        for line in stdin:
            try:
                request = json.loads(line)
                if not isinstance(request, dict):
                    raise ValueError(f"a JSON object is wanted, not {type(request).__name__}")
            except ValueError as error:
                self._lines.write("error", id=None, message=f"the request is not valid JSON: {error}")
                continue
            if request.get("do") == "cancel":
                self._cancelled.add(request.get("of"))
            else:
                self._requests.put(request)
        os._exit(0)

    def work(self) -> None:
        """Answers requests, for ever."""
        from tui_lab.host.worker import Worker

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
        from tui_lab.host.worker import out_of_memory

        number = request.get("id")
        try:
            fields = self._do(worker, number, request)
        except LabError as error:
            self._lines.write("error", id=number, message=str(error), status=asdict(worker.status))
        except Exception as error:
            sentence = out_of_memory(error)
            if sentence is None:
                traceback.print_exc(file=sys.stderr)
                sentence = f"the host failed unexpectedly ({type(error).__name__}: {error})"
            self._lines.write("error", id=number, message=sentence, status=asdict(worker.status))
        else:
            self._lines.write("result", id=number, status=asdict(worker.status), **fields)
        self._cancelled.discard(number)

    def _do(self, worker: Any, number: Any, request: dict[str, Any]) -> dict[str, Any]:
        def say(text: str) -> None:
            self._lines.write("progress", id=number, text=text)

        def tell(event: Event) -> None:
            kind, fields = event_fields(event)
            self._lines.write(kind, id=number, **fields)

        values = {key: value for key, value in request.items() if key not in ("id", "do")}
        what = request.get("do")
        try:
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
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                raise LabError(f"the request {what!r} does not have the right fields: {error}") from None
            raise
        raise LabError(f"the host does not know the request {what!r}")


def _ask(values: dict[str, Any]) -> Ask:
    try:
        ask = read(Ask, values)
    except TypeError as error:
        raise LabError(f"the request does not have the right fields: {error}") from None
    if not isinstance(ask, Ask) or not isinstance(ask.prompt, str) or not isinstance(ask.lanes, tuple):
        raise LabError("the request does not have the right fields: prompt is a text, lanes a list of texts")
    return ask


def main() -> int:
    """Serves until stdin closes."""
    host = Host(jobs.Lines(jobs.set_apart()))
    threading.Thread(target=host.listen, args=(sys.stdin,), daemon=True).start()
    from tui_lab.decoding.loading import quiet_libraries

    with quiet_libraries():
        host.work()
    return 0


if __name__ == "__main__":
    sys.exit(main())
