"""The lab's side of the job protocol: a short-lived child process that may load a tokenizer or torch while
the lab may not. One JSON object goes to its stdin; progress lines come back, then one result or error.
All three pipes are given, so that the child can never touch the terminal; a cancelled job is ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.subprocesses import LINE_LIMIT_BYTES, keep_last_words, last_words, spawn

Progress = Callable[[str, int | None, int | None], None]


async def run_job(
    module: str,
    request: dict[str, Any],
    progress: Progress | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Runs ``python -m module`` with a request, and ``environment`` on top of the lab's; returns the
    fields of its result. Raises LabError."""
    process = await spawn(module, environment)
    assert process.stdin and process.stdout and process.stderr
    words = last_words()
    listening = asyncio.create_task(keep_last_words(process.stderr, words))
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
            process.stdin.close()
        answer = await _answer(process.stdout, progress)
        await process.wait()
        await listening
    except BaseException:
        listening.cancel()
        # kills the child and closes its pipes at once: when the lab is leaving there is no later
        process._transport.close()  # type: ignore[attr-defined]
        await process.wait()
        raise
    if answer is None:
        said = f": {words[-1]}" if words else ""
        raise LabError(f"{module} ended without an answer (exit status {process.returncode}){said}")
    if answer["kind"] == "error":
        raise LabError(str(answer.get("message") or f"{module} failed"))
    return answer


async def _answer(stdout: asyncio.StreamReader, progress: Progress | None) -> dict[str, Any] | None:
    answer = None
    while True:
        try:
            line = await stdout.readline()
        except ValueError:
            raise LabError(f"the job's answer is longer than {LINE_LIMIT_BYTES >> 20} MiB") from None
        if not line:
            return answer
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if not isinstance(message, dict):
            continue
        match message.get("kind"):
            case "progress":
                if progress is not None:
                    progress(str(message.get("text") or ""), message.get("done"), message.get("total"))
            case "result" | "error":
                answer = message
