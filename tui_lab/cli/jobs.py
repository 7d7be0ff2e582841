"""Jobs started from the command line: the job client, with progress on stderr where that is a terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any, TypeVar, overload

import msgspec

from tui_lab.core import job_client
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize

AnswerT = TypeVar("AnswerT")


def _print_progress(text: str, done: int | None, total: int | None) -> None:
    count = f" {done:,}/{total:,}" if done is not None and total is not None else ""
    print(f"\r\033[K{sanitize(text)}{count} …", end="", file=sys.stderr, flush=True)


@overload
def run_job(
    module: str,
    request: msgspec.Struct | Mapping[str, object],
    environment: Mapping[str, str] | None = None,
    *,
    answer: type[AnswerT],
) -> AnswerT: ...


@overload
def run_job(
    module: str,
    request: msgspec.Struct | Mapping[str, object],
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]: ...


def run_job(
    module: str,
    request: msgspec.Struct | Mapping[str, object],
    environment: Mapping[str, str] | None = None,
    *,
    answer: Any = dict,
) -> Any:
    """Runs ``python -m module`` with a request and returns its answer as the type ``answer``.
    ``environment`` is set on top of this process's. Raises LabError."""
    on_progress = _print_progress if sys.stderr.isatty() else None
    try:
        return asyncio.run(job_client.run_job(module, request, on_progress, environment, answer=answer))
    except LabError as error:
        raise LabError(sanitize(str(error))) from None
    finally:
        if on_progress:
            print("\r\033[K", end="", file=sys.stderr)
