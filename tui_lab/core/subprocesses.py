"""Child processes of the lab: ``python -m`` with all three pipes, so that a child can never touch the
terminal, and the last lines of its stderr for error messages. No torch, no textual."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from tui_lab.core import privacy
from tui_lab.core.errors import LabError

#: Longer than asyncio's 64 KiB, because a message holds whole rows of data.
LINE_LIMIT_BYTES = 32 << 20
STDERR_TAIL_LINES = 5
#: A line without end is cut here.
STDERR_LINE_BYTES = 4096


@contextlib.contextmanager
def temporary_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of this process and of the children that it starts within the block; restores them at
    its end."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


async def spawn(module: str, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """Starts ``python -m module`` with ``environment`` on top of this process's. Raises LabError."""
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


def detached(
    module: str,
    *arguments: str,
    log: IO[bytes],
    place: Path,
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    descriptors: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts ``python -m module`` in its own session, without a terminal, so that it outlives this process.
    All that it prints goes to ``log``. Raises OSError."""
    return subprocess.Popen(
        # -P: the folder that the lab was started in must not shadow any module
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=stdin,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=place,
        env=child_environment(environment),
        start_new_session=True,
        pass_fds=tuple(descriptors),
    )


def stderr_tail() -> deque[str]:
    """An empty buffer for :func:`collect_stderr`."""
    return deque(maxlen=STDERR_TAIL_LINES)


async def collect_stderr(stderr: asyncio.StreamReader, tail: deque[str]) -> None:
    """Reads stderr to its end, so that the child never blocks on it, and keeps the last lines in ``tail``."""
    rest = b""
    while chunk := await stderr.read(1 << 16):
        *lines, rest = (rest[-STDERR_LINE_BYTES:] + chunk).split(b"\n")
        tail.extend(line.decode("utf-8", "replace").strip() for line in lines if line.strip())
    if rest.strip():
        tail.append(rest.decode("utf-8", "replace").strip())


def describe_exit(returncode: int | None) -> str:
    """How a process ended, as the end of a sentence."""
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


#: How long a thread of libgomp (torch's on Linux) spins at a barrier before it sleeps. By default it spins
#: for about a millisecond at each of thousands of barriers per step, which helps only on idle cores: next to
#: two busy processes on two cores a step of the bundled model took 2 to 7 times as long as with this value,
#: which is libgomp's own for more threads than cores. On an idle machine it costs 1 to 9 %.
#: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
SPIN = {"GOMP_SPINCOUNT": "1000"}


#: torch's CUDA allocator grows its segments instead of adding fixed ones: rows of varying length leave no
#: holes of unusable memory.
#: https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-alloc-conf
ALLOCATOR = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
#: The user's own settings of it: by its name, and by its former name.
ALLOCATOR_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def child_environment(
    more: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of this process (or ``environment``) for a child that computes, with ``more`` on top.
    The user's settings for OpenMP and torch's allocator apply."""
    env = os.environ if environment is None else environment
    spin = {} if "OMP_WAIT_POLICY" in env else SPIN
    allocator = {} if any(name in env for name in ALLOCATOR_SETTINGS) else ALLOCATOR
    return {
        **privacy.environment(),
        **spin,
        **allocator,
        **env,
        "TOKENIZERS_PARALLELISM": "false",
        **(more or {}),
    }
