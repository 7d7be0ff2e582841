"""Progress of loading and saving a model: bytes downloaded from the hub, then weights in memory or files,
counted by transformers' progress bars."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tui_lab.models import download

#: Seconds between two messages.
INTERVAL_S = 0.25
#: The first word of a progress bar of transformers: what happens to a model, and what is counted.
STAGES = {"Loading": ("loading", "weights"), "Writing": ("saving", "files")}

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
        self.update(0)
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
    on_progress: OnProgressText,
    name: str,
    location: str = "",
    revision: str = "",
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Downloads what is missing of a model, and reports the progress of loading or saving it inside.
    ``location``: its hub id or folder. Raises LabError."""
    from transformers.utils import logging

    if location:
        download.ensure(location, revision, lambda progress: on_progress(progress.text))
    last = -INTERVAL_S

    def hook(factory: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        stage = STAGES.get(str(kwargs.get("desc") or "").partition(" ")[0])
        if stage is None:
            return factory(*args, **kwargs)
        what, things = stage

        def count(done: int, total: int) -> None:
            nonlocal last
            now = clock()
            if total and (now - last >= INTERVAL_S or done == total):
                last = now
                on_progress(f"{what} {name}: {done} of {total} {things}")

        return _Bar(count, args[0] if args else kwargs.get("iterable"), kwargs.get("total"))

    before = logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)
