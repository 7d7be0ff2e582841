"""The memory that this process and others hold of the GPUs that CUDA shows it, by torch and by the driver.
torch is imported when it is needed."""

from __future__ import annotations

import os

from tui_lab.core.format import size
from tui_lab.core.sanitize import sanitize
from tui_lab.hardware.gpu import Gpu, GpuMonitor
from tui_lab.hardware.telemetry import match_uuids, memory_shares

#: Memory of other processes from which they are named as a cause when memory runs out.
OTHERS_FROM_BYTES = 512 << 20
#: What a process holds at most besides torch's own account: its context, kernels and workspaces. Assumed.
MOST_CONTEXT_BYTES = 1 << 30


def cuda_uuids() -> list[str]:
    """The UUIDs of the devices that CUDA shows this process, in CUDA's order; "" where it has none."""
    import torch

    properties = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [str(getattr(one, "uuid", "")) for one in properties]


def reserved_bytes() -> list[int | None]:
    """Bytes that torch has reserved on each device; None for all before CUDA is initialised."""
    import torch

    count = torch.cuda.device_count()
    if not torch.cuda.is_initialized():
        return [None] * count
    return [torch.cuda.memory_reserved(i) for i in range(count)]


def memory_of_others() -> str:
    """What other processes hold of the GPUs of this process, for a message about memory that ran out:
    "other processes (process 4711, python) hold 10.6 GiB of this GPU". "" when they hold under
    :data:`OTHERS_FROM_BYTES`, when it is unknown, or without CUDA."""
    import torch

    if not torch.cuda.is_available():
        return ""
    monitor = GpuMonitor(lambda cards: match_uuids(cards, cuda_uuids(), os.environ))
    reserved = reserved_bytes()
    pid = os.getpid()
    held, pids, about = 0, set[int](), ""
    for i, card in enumerate(monitor.read()):
        mine = reserved[i] if i < len(reserved) else None
        _, others = memory_shares(card, (pid,), mine)
        is_listed = others is not None
        if others is None and mine is not None:
            others = _rest(card, mine)  # in a container the driver lists no process, or those of the host
        if others is None or others < OTHERS_FROM_BYTES:
            continue
        held += others
        if is_listed:
            pids |= {process.pid for process in card.processes or () if process.pid != pid}
        else:
            about = "about "
    if not held:
        return ""
    listed = ", ".join(_named(each) for each in sorted(pids))
    named = f" (process {listed})" if 0 < len(pids) <= 4 else ""
    return f"other processes{named} hold {about}{size(held)} of this GPU"


def _rest(card: Gpu, mine: int) -> int | None:
    """The memory in use that cannot be this process's, which has reserved ``mine`` bytes."""
    if card.memory_used_bytes is None:
        return None
    return card.memory_used_bytes - (card.memory_reserved_bytes or 0) - mine - MOST_CONTEXT_BYTES


def _named(pid: int) -> str:
    """A process by its number and, where it can be read, its name."""
    import psutil

    try:
        return f"{pid}, {sanitize(psutil.Process(pid).name())[:40]}"
    except psutil.Error:
        return str(pid)
