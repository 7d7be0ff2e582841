"""The processes of one run, and how they communicate.

A run on several GPUs is several processes that do the same steps on different rows. Only the first (rank 0)
reads commands, reads the clock and writes the run's folder; its decisions are broadcast before any process
acts on them, so that all pause, save and stop after the same step. Messages go over gloo, apart from the
gradients, and may wait as long as a pause lasts.
"""

from __future__ import annotations

import io
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import RunEvent, WarningEvent

T = TypeVar("T")

#: A pause may last for days, while the other processes wait for the first.
PATIENCE = timedelta(days=365)
#: How long the first process waits for the exit reason of another when it lost the connection, seconds.
EXIT_REASON_S = 3.0


def rank() -> int:
    """The number of this process; 0 for the first or only one."""
    return int(os.environ.get("RANK", "0") or 0)


def size() -> int:
    """The number of processes of the run."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1)


class ProcessGroup:
    """The processes of a run. With one process nothing is sent."""

    def __init__(self) -> None:
        self.rank, self.size = rank(), size()
        self._channel: Any = None
        if self.size > 1:
            import torch
            from accelerate import PartialState

            PartialState(cpu=not torch.cuda.is_available())
            self._channel = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)

    @property
    def is_sharded(self) -> bool:
        """Whether no process has the whole model (FSDP, DeepSpeed, by the variables of accelerate's
        launcher). Each forward then needs all processes."""
        names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
        return self.size > 1 and any(os.environ.get(name, "").lower() in ("1", "true") for name in names)

    @property
    def runs_evaluation(self) -> bool:
        """Whether this process draws samples, scores and probes."""
        return self.is_main and not self.is_sharded

    @property
    def is_main(self) -> bool:
        """Whether this is the first process, which writes and decides."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """The ``value`` of the first process, for all of them."""
        if self.size == 1:
            return value
        import torch

        box = [value if self.is_main else None]
        torch.distributed.broadcast_object_list(box, src=0, group=self._channel)
        return box[0]  # type: ignore[return-value]

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        import torch

        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, value, group=self._channel)
        return found


# --------------------------------------------------------------------------------------------------
# the processes after the first


class NullEventWriter(EventWriter):
    """Drops the events of a process that is not the first, since the run has one log. Warnings go to
    ``worker.log``: they may concern this process alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: RunEvent) -> None:
        if isinstance(event, WarningEvent):
            print(f"warning: {event.text}", file=sys.stderr)  # noqa: T201

    def close(self) -> None:
        return None


class PrefixedStream(io.TextIOBase):
    """A stream that begins each line with a prefix."""

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self._stream, self._prefix, self._rest = stream, prefix, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._stream.write(f"{self._prefix}{line}\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()


def _exit_reason_path(run: Run, number: int) -> Path:
    return run.path / f".process-{number}"


def write_exit_reason(run: Run, number: int, text: str) -> None:
    """Leaves the reason why this process ends for the first one to read; "" removes it (at the start)."""
    if text:
        _exit_reason_path(run, number).write_text(text, encoding="utf-8")
    else:
        _exit_reason_path(run, number).unlink(missing_ok=True)


def exit_reason_of_others(run: Run, patience_s: float = EXIT_REASON_S) -> str:
    """Why another process of this run ended, in a sentence; "" when none left a reason within ``patience_s``
    seconds."""
    deadline = time.monotonic() + patience_s
    while True:
        for number in range(1, size()):
            try:
                text = _exit_reason_path(run, number).read_text(encoding="utf-8")
            except OSError:
                continue
            if text:
                return f"process {number} of {size()}: {text}"
        if time.monotonic() > deadline:
            return ""
        time.sleep(0.1)


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error only means that another process ended."""
    text = f"{type(error).__name__} {error}".lower()
    signs = (
        "gloo",
        "nccl",
        "connection closed",
        "connection reset",
        "distbackend",
        "distnetwork",
        "broken pipe",
    )
    return size() > 1 and any(sign in text for sign in signs)
