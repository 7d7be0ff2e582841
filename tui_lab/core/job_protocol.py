"""The job protocol, and the child's side of it.

A job is a short-lived ``python -m`` process that needs torch or a tokenizer while the lab must not load
either. It reads one JSON object, the request, from stdin and writes JSON lines to stdout: any number of
:class:`JobProgress`, then one :class:`JobResult` or :class:`JobError`. Libraries print to stdout as well;
:func:`reserve_stdout` keeps the real stdout for protocol lines and points file descriptor 1 to stderr.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Protocol, TextIO, TypeVar

import msgspec

from tui_lab.core.changed_inputs import ChangedInputs
from tui_lab.core.errors import LabError
from tui_lab.core.privacy import keep_private, mask_output, without_secrets
from tui_lab.core.records import from_plain, to_json

EXIT_OK, EXIT_REFUSED, EXIT_FAULT = 0, 1, 2
CHILD_NICENESS = 5  # jobs give way to the lab, which must stay responsive on the same cores

RequestT = TypeVar("RequestT")


class JobProgress(msgspec.Struct, tag="progress", tag_field="kind", frozen=True):
    """What the job does now; ``done`` of ``total`` where it can be counted."""

    text: str
    done: int | None = None
    total: int | None = None


class JobResult(msgspec.Struct, tag="result", tag_field="kind", frozen=True):
    """The end of a job that succeeded. ``answer`` holds the fields of the job's answer record."""

    answer: object


class JobError(msgspec.Struct, tag="error", tag_field="kind", frozen=True, omit_defaults=True):
    """The end of a job that failed: one sentence. ``changes``: what has changed since, where that is the
    reason; ``what``: the beginning of that sentence."""

    message: str
    what: str = ""
    changes: tuple[str, ...] = ()


JobMessage = JobProgress | JobResult | JobError


class OnProgress(Protocol):
    """Reports progress to the process that started the job."""

    def __call__(self, text: str, done: int | None = None, total: int | None = None) -> None: ...


class JobLineWriter:
    """Writes one JSON object a line, from any thread. When the reader has gone, the process ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, message: msgspec.Struct) -> None:
        """Writes one record."""
        line = to_json(message)
        try:
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()
        except BrokenPipeError:
            os._exit(EXIT_OK)


def read_request(stream: TextIO) -> object:
    """The one JSON value on ``stream``: on its first line or over all of them. Raises LabError."""
    first = stream.readline()
    try:
        return json.loads(first)
    except ValueError:
        try:
            return json.loads(first + stream.read())
        except ValueError as error:
            raise LabError(f"The job's request on stdin is not valid JSON: {error}.") from None


def run(
    handler: Callable[[RequestT, OnProgress], object],
    stdin: TextIO,
    stdout: TextIO,
    request_type: type[RequestT] = dict,  # type: ignore[assignment]
) -> int:
    """Answers one request: ``handler(request, on_progress)`` returns the answer record. The exit status."""
    lines = JobLineWriter(stdout)

    def on_progress(text: str, done: int | None = None, total: int | None = None) -> None:
        lines.send(JobProgress(text, done, total))

    try:
        request = from_plain(read_request(stdin), request_type, "The job's request")
        lines.send(JobResult(handler(request, on_progress)))
    except ChangedInputs as error:
        changes = tuple(map(without_secrets, error.changes))
        lines.send(JobError(without_secrets(str(error)), without_secrets(error.what), changes))
        return EXIT_REFUSED
    except LabError as error:
        lines.send(JobError(without_secrets(str(error))))
        return EXIT_REFUSED
    except Exception as error:  # noqa: BLE001 (the border of the process: every fault becomes one sentence)
        traceback.print_exc(file=sys.stderr)
        lines.send(
            JobError(without_secrets(f"The job failed unexpectedly ({type(error).__name__}: {error})."))
        )
        return EXIT_FAULT
    return EXIT_OK


def reserve_stdout() -> TextIO:
    """The real stdout, for protocol lines alone: everything else that is printed goes to stderr from now on.
    Lowers the priority of the process too."""
    keep_private()
    mask_output()
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    with contextlib.suppress(OSError):
        os.nice(CHILD_NICENESS)
    threading.Thread(target=_end_with_reader, args=(stdout.fileno(),), name="reader", daemon=True).start()
    return stdout


def _end_with_reader(descriptor: int) -> None:
    """Ends the process when nobody reads its answers any more: the lab has gone, even if it was killed."""
    pipe = select.poll()
    pipe.register(descriptor, 0)  # reports only errors: that the other end is closed
    if any(events & select.POLLERR for _, events in pipe.poll()):
        os._exit(EXIT_OK)


def serve(
    handler: Callable[[RequestT, OnProgress], object],
    request_type: type[RequestT] = dict,  # type: ignore[assignment]
) -> int:
    """A job's ``__main__``: reserves stdout, lowers the priority, answers one request. The exit status: 0 for
    a result, 1 for a LabError, 2 for a fault of the lab."""
    stdout = reserve_stdout()
    try:
        return run(handler, sys.stdin, stdout, request_type)
    finally:
        with contextlib.suppress(BrokenPipeError):
            stdout.close()
