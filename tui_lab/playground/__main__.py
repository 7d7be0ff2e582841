"""``python -m tui_lab.playground``: reads requests and writes answers, as JSON lines, until stdin closes,
which means that the lab has ended. A thread reads the requests, so that a cancellation arrives while lanes
decode; the main thread answers them one after the other. No request ends the process."""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from tui_lab.core import gpu_errors, job_protocol
from tui_lab.core.changed_inputs import ChangedInputs, accepting
from tui_lab.core.errors import LabError
from tui_lab.core.imports import without_collections
from tui_lab.core.sanitize import first_line
from tui_lab.playground.messages import (
    AddRequest,
    BadRequest,
    CancelRequest,
    Done,
    ErrorMessage,
    EventMessage,
    GenerateRequest,
    LoadRequest,
    ProgressMessage,
    RemoveRequest,
    RequestMessage,
    Result,
    ResultMessage,
    ScoreRequest,
    StatusMessage,
    UnloadRequest,
    decode_request,
)

if TYPE_CHECKING:
    from tui_lab.playground.worker import Worker

#: Seconds without a request after which the model's memory is freed; the next request loads it again.
IDLE_S = float(os.environ.get("TUI_LAB_PLAYGROUND_IDLE_S", "600"))


class Server:
    """Reads requests from one thread and answers them in another."""

    def __init__(self, writer: job_protocol.JobLineWriter) -> None:
        self._writer = writer
        self._requests: queue.Queue[RequestMessage | None] = queue.Queue()  # None: stdin is closed
        self._cancelled: set[int] = set()

    def read_requests(self, stdin: BinaryIO) -> None:
        """Queues requests until stdin closes."""
        for line in stdin:
            try:
                message = decode_request(line)
            except BadRequest as error:
                self._writer.send(ErrorMessage(error.id, str(error)))
                continue
            if isinstance(message.request, CancelRequest):
                self._cancelled.add(message.request.of)
            else:
                self._requests.put(message)
        self._requests.put(None)

    def serve(self) -> None:
        """Answers requests until stdin closes. Frees the model's memory after ``IDLE_S`` seconds without
        one."""
        with without_collections():
            from tui_lab.playground.worker import Worker

        worker = Worker()
        self._writer.send(StatusMessage(worker.status))
        idle_s: float | None = IDLE_S
        while True:
            try:
                message = self._requests.get(timeout=idle_s)
            except queue.Empty:
                idle_s = None
                if worker.status.loaded:
                    worker.unload()
                    text = f"the model's memory was freed after {IDLE_S / 60:g} min without a request"
                    self._writer.send(StatusMessage(msgspec.structs.replace(worker.status, text=text)))
                continue
            if message is None:
                return
            idle_s = IDLE_S
            self._answer(worker, message)

    def _answer(self, worker: Worker, message: RequestMessage) -> None:
        from tui_lab.playground.worker import out_of_memory_message

        try:
            with accepting(message.accepts_changes):
                result = self._result(worker, message)
        except ChangedInputs as error:
            text, status = str(error), worker.status
            self._writer.send(ErrorMessage(message.id, text, status, error.what, error.changes))
        except LabError as error:
            self._writer.send(ErrorMessage(message.id, str(error), worker.status))
        except Exception as error:  # noqa: BLE001 (the process must answer, whatever failed)
            sentence = out_of_memory_message(error, worker.status.quantization == "nf4")
            sentence = sentence or gpu_errors.explain(error)
            if not sentence:
                traceback.print_exc(file=sys.stderr)
                cause = f"{type(error).__name__}: {first_line(error)}"
                sentence = f"the playground failed unexpectedly ({cause})"
            self._writer.send(ErrorMessage(message.id, sentence, worker.status))
        else:
            self._writer.send(ResultMessage(message.id, result, worker.status))
        self._cancelled.discard(message.id)

    def _result(self, worker: Worker, message: RequestMessage) -> Result:
        def on_progress(text: str) -> None:
            self._writer.send(ProgressMessage(message.id, text))

        match message.request:
            case LoadRequest() as request:
                worker.load(request, on_progress)
            case AddRequest(name, location):
                worker.add(name, location, on_progress)
            case RemoveRequest(name):
                worker.remove(name)
            case UnloadRequest():
                worker.unload()
            case GenerateRequest() as request:
                return worker.generate(
                    request,
                    lambda event: self._writer.send(EventMessage(message.id, event)),
                    lambda: message.id in self._cancelled,
                )
            case ScoreRequest() as request:
                return worker.score(request)
        return Done()


def main() -> int:
    """Serves until stdin closes."""
    server = Server(job_protocol.JobLineWriter(job_protocol.reserve_stdout()))

    def read() -> None:
        server.read_requests(sys.stdin.buffer)
        os._exit(0)  # the lab has ended: requests in progress end with it

    threading.Thread(target=read, daemon=True).start()
    from tui_lab.models.loading import quiet_libraries

    with quiet_libraries():
        server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
