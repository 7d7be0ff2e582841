"""The parent's side of the job protocol (see :mod:`tui_lab.core.job_protocol`).

All three pipes of the child are given, so that it can never touch the terminal; a cancelled job is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

import msgspec

from tui_lab.core import changed_inputs
from tui_lab.core.changed_inputs import ChangedInputs
from tui_lab.core.errors import LabError
from tui_lab.core.job_protocol import JobError, JobMessage, JobProgress, JobResult
from tui_lab.core.records import from_plain, to_json
from tui_lab.core.subprocesses import LINE_LIMIT_BYTES, collect_stderr, spawn, stderr_tail
from tui_lab.core.time_left import SILENT_S, TICK_S, so_far

AnswerT = TypeVar("AnswerT")
ProgressListener = Callable[[str, int | None, int | None], None]


@overload
async def run_job(
    module: str,
    request: msgspec.Struct | Mapping[str, object],
    on_progress: ProgressListener | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    answer: type[AnswerT],
) -> AnswerT: ...


@overload
async def run_job(
    module: str,
    request: msgspec.Struct | Mapping[str, object],
    on_progress: ProgressListener | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]: ...


async def run_job(
    module: str,
    request: msgspec.Struct | Mapping[str, object],
    on_progress: ProgressListener | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    answer: Any = dict,
) -> Any:
    """Runs ``python -m module`` with a request and returns its answer as the type ``answer``. The listener
    hears of every stage, and of the time that a stage without a count has taken.

    Args:
        environment: variables on top of this process's.

    Raises:
        ChangedInputs: what it reads has changed since, and that is not accepted here.
        LabError: the job's own sentence, or how its process ended.
    """
    process = await spawn(module, {**(environment or {}), **changed_inputs.for_child()})
    assert process.stdin and process.stdout and process.stderr
    tail = stderr_tail()
    reading = asyncio.create_task(collect_stderr(process.stderr, tail))
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(to_json(request).encode() + b"\n")
            await process.stdin.drain()
            process.stdin.close()
        last = await _read_messages(process.stdout, on_progress)
        await process.wait()
        await reading
    except BaseException:
        reading.cancel()
        # kills the child and closes its pipes at once: the lab may be closing, so there may be no later
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
        await process.wait()
        raise
    match last:
        case JobResult():
            return from_plain(last.answer, answer, f"the answer of {module}")
        case JobError(_, what, changes) if changes:
            raise ChangedInputs(what, changes)
        case JobError():
            raise LabError(last.message or f"{module} failed")
    reason = f": {tail[-1]}" if tail else ""
    raise LabError(f"{module} ended without an answer (exit status {process.returncode}){reason}")


class _Stages:
    """Passes progress on to a listener, with the time that a stage without a count takes."""

    def __init__(self, listener: ProgressListener) -> None:
        self._listener, self._text, self._is_counted = listener, "starting", False
        self._began = time.monotonic()

    def take(self, progress: JobProgress) -> None:
        if progress.text != self._text:
            self._began = time.monotonic()
        self._text, self._is_counted = progress.text, bool(progress.total)
        self._listener(progress.text, progress.done, progress.total)

    async def report_time(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            spent = time.monotonic() - self._began
            if spent >= SILENT_S and not self._is_counted:
                self._listener(so_far(self._text, spent), None, None)


async def _read_messages(
    stdout: asyncio.StreamReader, on_progress: ProgressListener | None
) -> JobResult | JobError | None:
    """The last message of a job."""
    if on_progress is None:
        return await _last_message(stdout, lambda _: None)
    stages = _Stages(on_progress)
    ticking = asyncio.create_task(stages.report_time())
    try:
        return await _last_message(stdout, stages.take)
    finally:
        ticking.cancel()


async def _last_message(
    stdout: asyncio.StreamReader, on_progress: Callable[[JobProgress], None]
) -> JobResult | JobError | None:
    """Reads messages until the end. Lines that are none (libraries print) and unknown kinds are skipped."""
    last: JobResult | JobError | None = None
    while True:
        try:
            line = await stdout.readline()
        except ValueError:
            raise LabError(f"the job's answer is longer than {LINE_LIMIT_BYTES >> 20} MiB") from None
        if not line:
            return last
        try:
            message: JobMessage = msgspec.convert(json.loads(line), JobMessage)
        except (ValueError, RecursionError):
            continue
        if isinstance(message, JobProgress):
            on_progress(message)
        else:
            last = message
