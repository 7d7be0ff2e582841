"""Scores on disk, one line an item, written as each is ready: an interrupted evaluation goes on where it
stopped, and what a base model scored is computed once. A file is named by everything that changes a score
(model and its files, revision, adapter, quantisation, dtype, device, suite, scorer), so that nothing is ever
mistaken for something else; of what differs only in how the model was loaded one can ask. No torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tui_lab.core import paths, records
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.retention import results
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.suites.records import Suite

#: Of scores: raised when the scorer's figures change, which makes all cached ones void.
SCORER = 1
_VERSION = 1
#: What of a folder decides the scores of the model in it.
_DECIDES = (".safetensors", ".json", ".jinja", ".model", ".txt")


@dataclass(frozen=True)
class LoadConfig:
    """How a model is loaded."""

    quantization: str = "none"
    dtype: str = "float32"
    device: str = "cpu"

    def __str__(self) -> str:
        loaded = "without quantisation" if self.quantization == "none" else f"in {self.quantization}"
        return f"{loaded} in {self.dtype} on {self.device}"


def folder() -> Path:
    """Where baselines are kept."""
    return paths.cache_dir() / "baselines"


def identity(location: str, revision: str = "", adapter: Path | None = None) -> str:
    """What a model is, for a name on disk: of folders also the sizes and times of the files that decide, so
    that a model saved again is another one; of hub ids the commit that is in the cache."""
    parts = [location, revision]
    for place in (Path(location), adapter):
        if place is None:
            continue
        if place.is_dir():
            parts += _files(place)
        elif place is not adapter:
            parts.append(_commit(location, revision))
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "replace")).hexdigest()


def _files(place: Path) -> list[str]:
    found = []
    for path in sorted(place.iterdir()):
        if path.suffix in _DECIDES and path.is_file():
            stat = path.stat()
            found.append(f"{path.name} {stat.st_size} {stat.st_mtime_ns}")
    return found


def _commit(hub_id: str, revision: str) -> str:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(hub_id, "config.json", revision=revision or "main")
    except (HFValidationError, ValueError):
        return ""
    return Path(found).parent.name if isinstance(found, str) else ""


class ScoreFile:
    """The scores of one model on one suite. Use as a context manager; ``done`` is what was there."""

    def __init__(self, place: Path, model: str, how: LoadConfig, suite: Suite) -> None:
        key = hashlib.sha256(f"{model} {suite.sha256} {SCORER}".encode()).hexdigest()[:32]
        loaded = f"{how.quantization}-{how.dtype}-{how.device}"
        self.path = place / f"{key}-{loaded}.jsonl"
        self._stem, self._how, self._suite = key, how, suite
        self.done: dict[str, ItemScore] = {}
        self._descriptor = -1

    @property
    def complete(self) -> bool:
        """Whether every item of the suite has a score."""
        return len(self.done) == len(self._suite.items)

    def others(self) -> list[LoadConfig]:
        """How else this model was loaded when it was scored on this suite."""
        found = []
        for path in sorted(self.path.parent.glob(f"{self._stem}-*.jsonl")):
            if path == self.path:
                continue
            header = next(_objects(path), {})
            try:
                found.append(LoadConfig(**header["how"]))
            except (KeyError, TypeError):
                continue
        return found

    def __enter__(self) -> ScoreFile:
        """Reads what is there and opens the file for more. Raises LabError where it cannot be written."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
            found = [score for value in _objects(self.path) if (score := results.score_of(value)) is not None]
            size = os.fstat(self._descriptor).st_size
            if not size:
                header = {"v": _VERSION, "suite": self._suite.name, "how": asdict(self._how)}
                self._write(header)
            elif os.pread(self._descriptor, 1, size - 1) != b"\n":
                os.write(self._descriptor, b"\n")  # a line that was cut off ends here
        except OSError as error:
            self.close()
            raise LabError(
                f"{sanitize(str(self.path.parent))} cannot be written ({error.strerror}); free the place, or "
                "name another with TUI_LAB_CACHE_DIR"
            ) from None
        self.done = results.valid_scores(self._suite, {score.id: score for score in found})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def add(self, score: ItemScore) -> None:
        """Writes a score: one write, so that two evaluations of the same thing do not mix their lines."""
        self._write(results.score_record(score))
        self.done[score.id] = score

    def _write(self, value: dict[str, Any]) -> None:
        line = json.dumps(records.jsonable(value), ensure_ascii=True, allow_nan=False)
        os.write(self._descriptor, line.encode() + b"\n")


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file; damaged ones are left out."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(value, dict):
                    yield value
    except OSError:
        return
