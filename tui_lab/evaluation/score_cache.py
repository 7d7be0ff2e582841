"""Scores on disk, one line per item, written as each is ready: an interrupted evaluation resumes, and a base
is scored once. The file name has everything that changes a score: model and its files, revision, adapter,
quantisation, dtype, device, suite and scorer. No torch."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tui_lab.core import input_files, paths
from tui_lab.core.errors import LabError
from tui_lab.core.records import to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.retention import results
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.suites.records import Suite

#: Version of the scorer: raised when its figures change, which makes all cached scores void.
SCORER = 1
_VERSION = 1


class LoadConfig(msgspec.Struct, frozen=True):
    """How a model is loaded."""

    quantization: str = "none"
    dtype: str = "float32"
    device: str = "cpu"
    unquantized_modules: tuple[str, ...] = ()  # that nf4 leaves as they are

    @property
    def key(self) -> str:
        """A file name's part; the same for the same weights."""
        names = "\n".join(sorted(self.unquantized_modules)).encode()
        rest = f"-without-{hashlib.sha256(names).hexdigest()[:8]}" if names else ""
        return f"{self.quantization}{rest}-{self.dtype}-{self.device}"

    def __str__(self) -> str:
        loaded = "without quantisation" if self.quantization == "none" else f"in {self.quantization}"
        loaded += f" but {len(self.unquantized_modules)} layers" if self.unquantized_modules else ""
        return f"{loaded} in {self.dtype} on {self.device}"


class ScoreFileHeader(msgspec.Struct, frozen=True):
    """The first line of a score file."""

    suite: str
    how: LoadConfig
    v: int = _VERSION


def folder() -> Path:
    """The folder of baselines."""
    return paths.cache_dir() / "baselines"


class ScoreFile:
    """The scores of one model on one suite. A context manager; ``done`` has the scores so far by item id."""

    def __init__(self, directory: Path, model: str, how: LoadConfig, suite: Suite) -> None:
        """``model``: the ``digests.identity`` of its weights."""
        key = hashlib.sha256(f"{model} {suite.sha256} {SCORER}".encode()).hexdigest()[:32]
        self.path = directory / f"{key}-{how.key}.jsonl"
        self._key, self._how, self._suite = key, how, suite
        self.done: dict[str, ItemScore] = {}
        self._descriptor = -1

    @property
    def complete(self) -> bool:
        """Whether every item of the suite has a score."""
        return len(self.done) == len(self._suite.items)

    def other_configs(self) -> list[LoadConfig]:
        """How else this model was loaded when it was scored on this suite."""
        configs = []
        for path in sorted(self.path.parent.glob(f"{self._key}-*.jsonl")):
            if path == self.path:
                continue
            try:
                configs.append(msgspec.convert(next(_read_lines(path), None), ScoreFileHeader).how)
            except msgspec.ValidationError:
                continue
        return configs

    def __enter__(self) -> ScoreFile:
        """Reads the scores and opens the file for appending. Raises LabError if it cannot be written."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
            scores = [s for value in _read_lines(self.path) if (s := results.score_of(value)) is not None]
            size = os.fstat(self._descriptor).st_size
            if not size:
                self._append(ScoreFileHeader(self._suite.name, self._how))
            elif os.pread(self._descriptor, 1, size - 1) != b"\n":
                os.write(self._descriptor, b"\n")  # ends a line that was cut off
        except OSError as error:
            self.close()
            raise LabError(
                f"{sanitize(str(self.path.parent))} cannot be written ({error.strerror}); free some space, "
                "or name another folder with TUI_LAB_CACHE_DIR"
            ) from None
        self.done = results.valid_scores(self._suite, {score.id: score for score in scores})
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def add(self, score: ItemScore) -> None:
        """Appends a score with a single write, so that lines of two evaluations do not mix."""
        self._append(results.score_record(score))
        self.done[score.id] = score

    def _append(self, value: ScoreFileHeader | dict[str, object]) -> None:
        os.write(self._descriptor, to_json(value).encode() + b"\n")


def _read_lines(path: Path) -> Iterator[object]:
    """The JSON values of a file's lines; damaged lines are skipped."""
    try:
        lines = input_files.read_text(path, input_files.SCORES_BYTES, "replace").splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            yield input_files.parse_json(line)
