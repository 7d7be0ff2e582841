"""What people see while a model is loaded: bytes that have come from the hub, weights that are in memory.
The libraries' own progress bars are listened to where they can be, the hub's cache is looked at where not."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tui_lab.core.format import size

#: Seconds between two messages: people read no faster, and a loader has hundreds of weights.
INTERVAL_S = 0.25

OnProgressText = Callable[[str], None]


class _Bar:
    """Stands in for a progress bar of transformers: counts, and says so."""

    def __init__(
        self, say: Callable[[int, int], None], items: Iterable[object] | None, total: int | None
    ) -> None:
        self._say, self._items = say, items
        self.n = 0
        self.total = total if total is not None else len(items) if hasattr(items, "__len__") else 0  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[object]:
        for item in self._items or ():
            yield item
            self.update(1)

    def update(self, n: int = 1) -> None:
        self.n += n
        self._say(self.n, self.total)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None  # set_description, close …


@contextlib.contextmanager
def report_load_progress(
    say: OnProgressText, name: str, location: str = "", clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """While a model loads inside, says how far it is. ``location`` is the hub id or folder that it comes
    from."""
    from transformers.utils import logging

    last = -INTERVAL_S

    def weights(done: int, total: int) -> None:
        nonlocal last
        now = clock()
        if total and (now - last >= INTERVAL_S or done == total):
            last = now
            say(f"loading {name}: {done} of {total} weights")

    def hook(factory: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        if str(kwargs.get("desc") or "").startswith("Loading"):
            return _Bar(weights, args[0] if args else kwargs.get("iterable"), kwargs.get("total"))
        return factory(*args, **kwargs)

    over = threading.Event()
    watcher = None
    if location and not Path(location).exists():
        blobs = blobs_of(location)
        how = (say, name, blobs, bytes_of(blobs), over)
        watcher = threading.Thread(target=_watch_download, args=how, daemon=True)
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
    """Where the hub's client puts the files of a model."""
    from tui_lab.models.catalog import hub_cache_dir

    return hub_cache_dir() / f"models--{hub_id.replace('/', '--')}" / "blobs"


def _watch_download(
    say: OnProgressText, name: str, blobs: Path, first_bytes: int, over: threading.Event
) -> None:
    """Says how much has come into a folder, as long as it grows."""
    seen = first_bytes
    while not over.wait(INTERVAL_S):
        now = bytes_of(blobs)
        if now > seen:
            seen = now
            say(f"downloading {name}: {size(now - first_bytes)} so far")


def bytes_of(folder: Path) -> int:
    """What the files of a folder take on the disk; sparse and half-written files count what is there."""
    total = 0
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                total += path.stat().st_blocks * 512
    return total
