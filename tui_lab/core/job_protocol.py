"""The child's side of the job protocol. A job is a short-lived ``python -m`` process that needs torch or
a tokenizer while the lab must not: it reads one JSON object from stdin and writes JSON lines to stdout,
``{"kind": "progress"}`` any number of times, then exactly one ``{"kind": "result"}`` or
``{"kind": "error"}``. Libraries print whatever they like; so that none of it lands between those lines,
the real stdout is set aside and file descriptor 1 points to stderr from then on."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from tui_lab.core.errors import LabError

Progress = Callable[..., None]
Handler = Callable[[dict[str, Any], Progress], dict[str, Any]]

EXIT_OK, EXIT_REFUSED, EXIT_FAULT = 0, 1, 2
CHILD_NICENESS = 5  # jobs give way to the lab, which must stay responsive on the same cores


def plain(value: Any) -> Any:
    """``value`` as strict JSON can hold it: NaN and infinities as strings, tuples and sets as lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


class Lines:
    """Writes one JSON object a line, from any thread; a reader that has gone away ends the job quietly."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, kind: str, **fields: Any) -> None:
        # ensure_ascii keeps lone surrogates and control characters from the data out of the byte stream.
        line = json.dumps({"kind": kind, **plain(fields)}, ensure_ascii=True, allow_nan=False, default=str)
        try:
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()
        except BrokenPipeError:
            os._exit(EXIT_OK)  # nobody listens any more


def read_request(stream: TextIO) -> dict[str, Any]:
    """The one JSON object on ``stream``: on its first line or spread over all of them."""
    first = stream.readline()
    try:
        request = json.loads(first)
    except ValueError:
        try:
            request = json.loads(first + stream.read())
        except ValueError as error:
            raise LabError(f"The job's request on stdin is not valid JSON: {error}.") from None
    if not isinstance(request, dict):
        raise LabError(f"The job's request on stdin must be a JSON object, not {type(request).__name__}.")
    return request


def run(handler: Handler, stdin: TextIO, stdout: TextIO) -> int:
    """Answers one request: ``handler(request, progress)`` returns the fields of the result."""
    lines = Lines(stdout)

    def progress(text: str, done: int | None = None, total: int | None = None) -> None:
        lines.write("progress", text=text, done=done, total=total)

    try:
        lines.write("result", **handler(read_request(stdin), progress))
    except LabError as error:
        lines.write("error", message=str(error))
        return EXIT_REFUSED
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        lines.write("error", message=f"The job failed unexpectedly ({type(error).__name__}: {error}).")
        return EXIT_FAULT
    return EXIT_OK


def set_apart() -> TextIO:
    """The real stdout, for protocol lines alone: whatever else is printed goes to stderr from now on. Lowers
    the priority of the process too."""
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    with contextlib.suppress(OSError):
        os.nice(CHILD_NICENESS)
    return stdout


def serve(handler: Handler) -> int:
    """The whole of a job's ``__main__``: sets the streams apart, lowers the priority, answers, returns the
    exit status (0 result, 1 refused with a sentence, 2 a fault of ours)."""
    stdout = set_apart()
    try:
        return run(handler, sys.stdin, stdout)
    finally:
        with contextlib.suppress(BrokenPipeError):
            stdout.close()
