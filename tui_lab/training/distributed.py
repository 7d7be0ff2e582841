"""The processes of one run: which one this is, and how they agree. A run on several GPUs is several
processes that do the same steps on different rows. The first one (rank 0) alone reads commands, looks at
the clock and writes the run's folder; what it decides is told to the others before anybody acts on it, so
that all pause, save and stop after the same step. Talk goes over gloo, beside the gradients' own channel,
and may wait as long as a pause lasts.
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
from tui_lab.runs.schema import Event, WarningEvent

T = TypeVar("T")

#: A pause may last for days, and the others wait for the word of the first.
PATIENCE = timedelta(days=365)
#: How long the first process waits for another's last words when it lost the connection.
LAST_WORDS_S = 3.0


def rank() -> int:
    """Which process of the run this is; 0 for the only one."""
    return int(os.environ.get("RANK", "0") or 0)


def size() -> int:
    """How many processes the run has."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1)


class ProcessGroup:
    """See the module's docstring. With one process everything is at once and nothing is sent."""

    def __init__(self) -> None:
        self.rank, self.size = rank(), size()
        self._talk: Any = None
        if self.size > 1:
            import torch
            from accelerate import PartialState

            PartialState(cpu=not torch.cuda.is_available())
            self._talk = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)

    @property
    def is_sharded(self) -> bool:
        """Whether no process has the whole model (FSDP, DeepSpeed, as accelerate's launcher says): a forward
        is then the work of all, and none may look at the model by itself."""
        names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
        return self.size > 1 and any(os.environ.get(name, "").lower() in ("1", "true") for name in names)

    @property
    def runs_evaluation(self) -> bool:
        """Whether this process draws samples, scores and probes."""
        return self.is_main and not self.is_sharded

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and decides."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """What the first process says; the others' ``value`` does not count."""
        if self.size == 1:
            return value
        import torch

        box = [value if self.is_main else None]
        torch.distributed.broadcast_object_list(box, src=0, group=self._talk)
        return box[0]  # type: ignore[return-value]

    def all_gather(self, value: T) -> list[T]:
        """What every process says, by rank."""
        if self.size == 1:
            return [value]
        import torch

        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, value, group=self._talk)
        return found


# --------------------------------------------------------------------------------------------------
# the processes after the first


class NullEventWriter(EventWriter):
    """The events of a process that is not the first: the run has one log. What is a warning goes to
    ``worker.log``, since the first process may not have met it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: Event) -> None:
        if isinstance(event, WarningEvent):
            print(f"warning: {event.text}", file=sys.stderr)  # noqa: T201

    def close(self) -> None:
        return None


class PrefixedStream(io.TextIOBase):
    """A stream whose lines begin with the process that wrote them."""

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


def _words_path(run: Run, number: int) -> Path:
    return run.path / f".process-{number}"


def write_exit_reason(run: Run, number: int, text: str) -> None:
    """A process tells the first one why it ends ("": it begins)."""
    if text:
        _words_path(run, number).write_text(text, encoding="utf-8")
    else:
        _words_path(run, number).unlink(missing_ok=True)


def exit_reason_of_others(run: Run, patience_s: float = LAST_WORDS_S) -> str:
    """Why another process of this run ended, in a sentence; "" when none left a word."""
    deadline = time.monotonic() + patience_s
    while True:
        for number in range(1, size()):
            try:
                text = _words_path(run, number).read_text(encoding="utf-8")
            except OSError:
                continue
            if text:
                return f"process {number} of {size()}: {text}"
        if time.monotonic() > deadline:
            return ""
        time.sleep(0.1)


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error says no more than that another process went away."""
    text = f"{type(error).__name__} {error}".lower()
    words = (
        "gloo",
        "nccl",
        "connection closed",
        "connection reset",
        "distbackend",
        "distnetwork",
        "broken pipe",
    )
    return size() > 1 and any(word in text for word in words)
