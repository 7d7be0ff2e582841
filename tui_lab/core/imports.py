"""Faster imports of large libraries."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """For importing large libraries: Python collects no garbage inside, and never again visits what was
    imported (``gc.freeze``). The imports of a run take about a quarter less CPU time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
