"""Jobs started from the command line: the job client, with progress on stderr where that is a terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from tui_lab.cli.output import Progress
from tui_lab.core import job_client
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize

AnswerT = TypeVar("AnswerT")


def run_job(
    module: str,
    request: msgspec.Struct,
    environment: Mapping[str, str] | None = None,
    *,
    answer: type[AnswerT],
) -> AnswerT:
    """Runs ``python -m module`` with a request and returns its answer as the type ``answer``.
    ``environment`` is set on top of this process's. Raises LabError."""
    progress = Progress()
    on_progress = progress.on_progress if sys.stderr.isatty() else None
    try:
        return asyncio.run(job_client.run_job(module, request, on_progress, environment, answer=answer))
    except LabError as error:
        raise LabError(sanitize(str(error))) from None
    finally:
        progress.close()
