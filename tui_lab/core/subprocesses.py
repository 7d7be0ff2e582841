"""Child processes as the lab starts them: ``python -m`` with all three pipes, so that a child can never
touch the terminal, and the last words of one that died kept for people. No torch, no textual."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping

from tui_lab.core.errors import LabError

#: A message holds whole rows of data: longer lines than asyncio's 64 KiB.
LINE_LIMIT_BYTES = 32 << 20
STDERR_TAIL_LINES = 5
STDERR_LINE_BYTES = 4096  # of a line that never ends


async def spawn(module: str, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """Starts ``python -m module`` with ``environment`` on top of ours. Raises LabError when that fails."""
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=child_environment({"PYTHONUNBUFFERED": "1", **(environment or {})}),
            limit=LINE_LIMIT_BYTES,
        )
    except OSError as error:
        raise LabError(f"{module} cannot be started ({error.strerror or error})") from None


def stderr_tail() -> deque[str]:
    """An empty memory for the end of what a child says."""
    return deque(maxlen=STDERR_TAIL_LINES)


async def collect_stderr(stderr: asyncio.StreamReader, words: deque[str]) -> None:
    """Reads stderr, so that the child never blocks on it, and keeps the end."""
    rest = b""
    while chunk := await stderr.read(1 << 16):
        *lines, rest = (rest[-STDERR_LINE_BYTES:] + chunk).split(b"\n")
        words.extend(line.decode("utf-8", "replace").strip() for line in lines if line.strip())
    if rest.strip():
        words.append(rest.decode("utf-8", "replace").strip())


def describe_exit(returncode: int | None) -> str:
    """How a process ended."""
    if returncode is None:
        return "ended"
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    hint = "; the system may have been out of memory" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


#: How long a thread of libgomp (torch's on Linux) waits for the others at full speed before it sleeps. By
#: itself it does so for about a millisecond at every one of thousands of barriers a step, which pays only
#: while no other program wants a core: beside two busy programs on two cores a step of the bundled model took
#: 2 to 7 times as long as with this number, libgomp's own for when there are more threads than cores. Alone
#: it costs 1 to 9 %. (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html)
SPIN = {"GOMP_SPINCOUNT": "1000"}


def child_environment(
    more: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of this process (or ``environment``) for a child that computes, with ``more`` on top.
    What somebody has set there for OpenMP holds."""
    here = os.environ if environment is None else environment
    patience = {} if "OMP_WAIT_POLICY" in here else SPIN
    return {**patience, **here, "TOKENIZERS_PARALLELISM": "false", **(more or {})}
