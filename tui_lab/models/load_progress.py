"""Progress of loading a model: bytes downloaded from the hub, weights in memory. Weights are counted by
transformers' progress bar, downloads by the size of the hub's cache."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tui_lab.core.format import size

#: Seconds between two messages.
INTERVAL_S = 0.25

OnProgressText = Callable[[str], None]


class _Bar:
    """Replaces a progress bar of transformers by calls of ``on_count(done, total)``."""

    def __init__(
        self, on_count: Callable[[int, int], None], items: Iterable[object] | None, total: int | None
    ) -> None:
        self._on_count, self._items = on_count, items
        self.n = 0
        self.total = total if total is not None else len(items) if hasattr(items, "__len__") else 0  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[object]:
        for item in self._items or ():
            yield item
            self.update(1)

    def update(self, n: int = 1) -> None:
        self.n += n
        self._on_count(self.n, self.total)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None  # set_description, close …


@contextlib.contextmanager
def report_load_progress(
    on_progress: OnProgressText, name: str, location: str = "", clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Reports the progress of a model that is loaded inside. ``location``: its hub id or folder."""
    from transformers.utils import logging

    last = -INTERVAL_S

    def weights(done: int, total: int) -> None:
        nonlocal last
        now = clock()
        if total and (now - last >= INTERVAL_S or done == total):
            last = now
            on_progress(f"loading {name}: {done} of {total} weights")

    def hook(factory: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        if str(kwargs.get("desc") or "").startswith("Loading"):
            return _Bar(weights, args[0] if args else kwargs.get("iterable"), kwargs.get("total"))
        return factory(*args, **kwargs)

    over = threading.Event()
    watcher = None
    if location and not Path(location).exists():
        blobs = blobs_of(location)
        arguments = (on_progress, name, blobs, bytes_of(blobs), over)
        watcher = threading.Thread(target=_watch_download, args=arguments, daemon=True)
        watcher.start()
    before = logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)
        over.set()
        if watcher is not None:
            watcher.join()


def blobs_of(hub_id: str) -> Path:
    """The folder where the hub's client stores the files of a model."""
    from tui_lab.models.catalog import hub_cache_dir

    return hub_cache_dir() / f"models--{hub_id.replace('/', '--')}" / "blobs"


def _watch_download(
    on_progress: OnProgressText, name: str, blobs: Path, first_bytes: int, over: threading.Event
) -> None:
    """Reports the growth of a folder until ``over`` is set."""
    seen = first_bytes
    while not over.wait(INTERVAL_S):
        now = bytes_of(blobs)
        if now > seen:
            seen = now
            on_progress(f"downloading {name}: {size(now - first_bytes)} so far")


def bytes_of(folder: Path) -> int:
    """Bytes on the disk of the files of a folder; partial files count what is written."""
    total = 0
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                total += path.stat().st_blocks * 512
    return total
