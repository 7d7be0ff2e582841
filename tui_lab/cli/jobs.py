"""Jobs started from the command line: the lab's own client, its progress written to stderr on a terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from tui_lab.core import job_client
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize


def _print_progress(text: str, done: int | None, total: int | None) -> None:
    count = f" {done:,}/{total:,}" if isinstance(done, int) and isinstance(total, int) else ""
    print(f"\r\033[K{sanitize(text)}{count} …", end="", file=sys.stderr, flush=True)


def run_job(
    module: str, request: dict[str, Any], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Runs ``python -m module`` with a request, and ``environment`` on top of this process's; returns the
    fields of its result. Raises LabError with the job's message."""
    show = sys.stderr.isatty()
    try:
        return asyncio.run(
            job_client.run_job(module, request, _print_progress if show else None, environment)
        )
    except LabError as error:
        raise LabError(sanitize(str(error))) from None
    finally:
        if show:
            print("\r\033[K", end="", file=sys.stderr)
