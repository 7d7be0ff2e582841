"""A memory limit for tests of running out of memory: off unless TUI_LAB_MEMORY_LIMIT_BYTES is set.

On a CUDA card it is the allocator's own (``set_per_process_memory_fraction``). Elsewhere the storages that
operations of the main thread read or create are counted, and an operation whose results exceed the limit
raises ``torch.OutOfMemoryError``, as CUDA's would.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tui_lab.core.errors import LabError
from tui_lab.core.format import size
from tui_lab.training.live_storages import LiveStorages

ENVIRONMENT = "TUI_LAB_MEMORY_LIMIT_BYTES"


class LimitedStorages(LiveStorages):
    """Counts real tensors, weights from their first use on. ``limit_bytes``: 0 for no limit."""

    def __init__(self, limit_bytes: int = 0) -> None:
        super().__init__()
        self.limit_bytes = limit_bytes
        self.peak_bytes: int = 0
        self.refusals = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self.track(leaf)
        before = self.live_bytes
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.track(leaf)
        wanted = self.live_bytes
        if self.limit_bytes and wanted > max(before, self.limit_bytes):
            del result, leaf  # an allocation that failed leaves nothing behind
            self.refusals += 1
            raise torch.OutOfMemoryError(
                f"out of memory: {size(wanted)} wanted, {size(self.limit_bytes)} allowed ({ENVIRONMENT})"
            )
        self.peak_bytes = max(self.peak_bytes, wanted)
        return result


def limit_bytes() -> int:
    """The limit that is set, 0 for none. Raises LabError."""
    text = os.environ.get(ENVIRONMENT, "").strip()
    if not text:
        return 0
    if len(text) > 20 or not text.isdecimal() or not int(text):
        raise LabError(f"{ENVIRONMENT} = {text[:40]!r}: it takes a number of bytes; unset it for no limit")
    return int(text)


def limited() -> AbstractContextManager[object]:
    """Applies the limit that is set, if any, while it is entered. Raises LabError."""
    limit = limit_bytes()
    if not limit:
        return contextlib.nullcontext()
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), 0)
        return contextlib.nullcontext()
    return LimitedStorages(limit)
