"""How much of a data set of the hub has arrived, while the library ``datasets`` downloads it: the bytes in
the hub's cache, read at intervals, of those that its files have. :func:`reporting` sets who is told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

from tui_lab.core.sanitize import sanitize
from tui_lab.models import catalog
from tui_lab.models.download import DownloadProgress, OnDownload

#: Seconds between two readings of the cache.
POLL_S = 1.0

_listener: ContextVar[OnDownload | None] = ContextVar("on_download", default=None)


class _Builder(Protocol):
    """What is used of a builder of the library."""

    @property
    def config(self) -> object: ...


@contextlib.contextmanager
def reporting(on_download: OnDownload) -> Iterator[None]:
    """Inside, downloads of data sets are reported; ``on_download`` is called in another thread."""
    token = _listener.set(on_download)
    try:
        yield
    finally:
        _listener.reset(token)


def is_reported() -> bool:
    """Whether anyone listens."""
    return _listener.get() is not None


@contextlib.contextmanager
def watched(name: str, total_bytes: int) -> Iterator[None]:
    """Inside, reports what arrives of the data set ``name``; ``total_bytes`` is 0 where it is not known."""
    listener = _listener.get()
    if listener is None:
        yield
        return
    ended, first = threading.Event(), arrived_bytes(name)
    watch = threading.Thread(
        target=_watch, args=(name, (first, total_bytes), listener, ended), name="data download", daemon=True
    )
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join(POLL_S)


def folder(name: str) -> Path:
    """Where the hub's cache keeps the files of a data set."""
    return catalog.hub_cache_dir() / f"datasets--{name.replace('/', '--')}" / "blobs"


def arrived_bytes(name: str) -> int:
    """The bytes of a data set that are in the cache, complete files or not."""
    found = 0
    with contextlib.suppress(OSError):
        for path in folder(name).iterdir():
            with contextlib.suppress(OSError):
                found += path.stat().st_size
    return found


def _watch(name: str, known: tuple[int, int], listener: OnDownload, ended: threading.Event) -> None:
    """``known``: the bytes that were there first, and those of all files."""
    first, total_bytes = known
    last, at = first, time.monotonic()
    while not ended.wait(POLL_S):
        now, done = time.monotonic(), arrived_bytes(name)
        if done > last:
            shown = min(done, total_bytes) if total_bytes else done - first
            listener(DownloadProgress(sanitize(name), shown, total_bytes, (done - last) / (now - at)))
        last, at = done, now


def size_of(builder: _Builder, size: Callable[[str], int]) -> int:
    """The bytes of the files that a builder reads; 0 where it does not say. ``size``: of one file by its
    address."""
    files = getattr(builder.config, "data_files", None)
    if not isinstance(files, Mapping):
        return 0
    addresses = {str(address) for split in files.values() for address in split}
    if not addresses or not all(address.startswith("hf://") for address in addresses):
        return 0
    return sum(size(address) for address in addresses)
