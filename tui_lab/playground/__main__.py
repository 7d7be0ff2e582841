"""``python -m tui_lab.playground``: reads requests and writes answers, as JSON lines, until stdin closes,
which means that the lab has ended. A thread reads the requests, so that a cancellation arrives while lanes
decode; the main thread answers them one after the other, those that may join in one batch. No request ends
the process."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
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
    Generated,
    GenerateRequest,
    LoadRequest,
    ProgressMessage,
    RemoveRequest,
    RequestMessage,
    Result,
    ResultMessage,
    ScoreRequest,
    StatusMessage,
    TooLong,
    UnloadRequest,
    decode_request,
)

if TYPE_CHECKING:
    from tui_lab.playground.worker import Worker

#: Seconds without a request after which the model's memory is freed; the next request loads it again.
IDLE_S = float(os.environ.get("TUI_LAB_PLAYGROUND_IDLE_S", "600"))
#: Seconds that a request that may join others waits for them: clients that ask at once do so within this.
JOIN_S = 0.01


class Server:
    """Reads requests from one thread and answers them in another."""

    def __init__(self, writer: job_protocol.JobLineWriter) -> None:
        self._writer = writer
        self._requests: queue.Queue[RequestMessage | None] = queue.Queue()  # None: stdin is closed
        self._cancelled: set[int] = set()
        self._put_back: list[RequestMessage | None] = []  # read and not answered yet

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
                message = self._put_back.pop() if self._put_back else self._requests.get(timeout=idle_s)
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
            if _joins(message):
                self._answer_joined(worker, [message, *self._joining()])
            else:
                self._answer(worker, message)

    def _answer(self, worker: Worker, message: RequestMessage) -> None:
        try:
            with accepting(message.accepts_changes):
                result = self._result(worker, message)
        except ChangedInputs as error:
            text, status = str(error), worker.status
            self._writer.send(ErrorMessage(message.id, text, status, error.what, error.changes))
        except Exception as error:  # noqa: BLE001 (the process must answer, whatever failed)
            self._writer.send(ErrorMessage(message.id, _sentence(worker, error), worker.status))
        else:
            self._writer.send(ResultMessage(message.id, result, worker.status))
        self._cancelled.discard(message.id)

    def _joining(self) -> Iterator[RequestMessage]:
        """The next requests that may join the one in hand."""
        from tui_lab.playground.joined import MOST_JOINED

        end = time.monotonic() + JOIN_S
        for _ in range(MOST_JOINED - 1):
            try:
                message = self._requests.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return
            if message is None or not _joins(message):
                self._put_back.append(message)
                return
            yield message

    def _answer_joined(self, worker: Worker, messages: Sequence[RequestMessage]) -> None:
        from tui_lab.playground.joined import JoinedRequest

        waiting = {message.id for message in messages}
        status = worker.status

        def joined(message: RequestMessage) -> JoinedRequest:
            def finish(result: Generated | TooLong | LabError) -> None:
                waiting.discard(message.id)
                if isinstance(result, LabError):
                    self._writer.send(ErrorMessage(message.id, str(result), status))
                else:
                    self._writer.send(ResultMessage(message.id, result, status))
                self._cancelled.discard(message.id)

            assert isinstance(message.request, GenerateRequest)
            return JoinedRequest(
                message.request,
                lambda event: self._writer.send(EventMessage(message.id, event)),
                finish,
                lambda: message.id in self._cancelled,
            )

        try:
            worker.generate_joined([joined(message) for message in messages])
        except Exception as error:  # noqa: BLE001 (the process must answer, whatever failed)
            sentence = _sentence(worker, error)
            for number in sorted(waiting):
                self._writer.send(ErrorMessage(number, sentence, worker.status))
                self._cancelled.discard(number)

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


def _joins(message: RequestMessage) -> bool:
    return isinstance(message.request, GenerateRequest) and message.request.joins


def _sentence(worker: Worker, error: Exception) -> str:
    """What an error says to the client; an unexpected one is written to stderr whole."""
    from tui_lab.playground.worker import out_of_memory_message

    if isinstance(error, LabError):
        return str(error)
    known = out_of_memory_message(error, worker.status.quantization == "nf4") or gpu_errors.explain(error)
    if known:
        return known
    traceback.print_exception(error, file=sys.stderr)
    return f"the playground failed unexpectedly ({type(error).__name__}: {first_line(error)})"


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
