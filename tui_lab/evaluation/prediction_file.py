"""The file of predictions: JSON lines, first the settings, then one record a row, appended as each is ready.
An interrupted prediction goes on from the rows that are in it; a complete file is in the order of the rows.
No torch."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from tui_lab.core import files, input_files
from tui_lab.core.errors import LabError
from tui_lab.core.records import from_json, to_json
from tui_lab.core.sanitize import sanitize

#: Rows that are read to be shown.
MOST_READ = 20_000
#: A line of the file is at most this long: a row of a data set and two answers.
_LONGEST_LINE = 16 << 20


class PredictedAnswer(msgspec.Struct, frozen=True):
    """One model's answer to a row. ``score``: by the metric of the data; ``scores``: by every metric, 0 to 1;
    null and empty for a row without a reference. ``tokens``: with the token that ended it. ``others``: the
    other samples; then the scores are means over all, and pass@k is estimated from them."""

    text: str
    tokens: int
    finish_reason: str
    score: float | None = None
    scores: dict[str, float] = {}
    others: list[str] = []


class Prediction(msgspec.Struct, tag_field="kind", tag="prediction", kw_only=True, frozen=True):
    """A row of a data set with the answers of the base and of what was made of it. ``row`` counts from 1;
    ``place``: where it is in the data; ``prompt``: its last turn; ``expected``: its reference, null where it
    has none; ``turns``: how many turns stand before the last one; ``raw``: whether the prompt is continued as
    text; ``skipped``: why it has no answers, "" where it has. ``seconds``: of its answers, where they
    were timed."""

    v: int = 1
    row: int
    place: str
    prompt: str
    prompt_tokens: int
    expected: str | None
    base: PredictedAnswer | None = None
    tuned: PredictedAnswer | None = None
    skipped: str = ""
    turns: int = 0
    raw: bool = False
    seconds: float | UnsetType = UNSET


class PredictionSettings(
    msgspec.Struct, tag_field="kind", tag="prediction_settings", kw_only=True, frozen=True
):
    """The first line of a file of predictions: what its answers depend on. ``base_sha256`` and
    ``tuned_sha256``: of the weights and of how rows are asked; ``data_sha256``: of the rows."""

    v: int = 1
    model: str
    tuned: str
    data: str
    lane: str
    max_new_tokens: int
    metric: str
    loaded: str
    base_sha256: str
    tuned_sha256: str
    data_sha256: str
    samples: int = 1  # answers a row and model


#: What a changed field is called, in this order.
_NAMES = {
    "data_sha256": "the rows",
    "base_sha256": "the base or how it is asked",
    "tuned_sha256": "the tuned model",
    "lane": "the lane",
    "max_new_tokens": "max_new_tokens",
    "loaded": "how weights are loaded",
    "metric": "the metric",
    "samples": "samples",
}
_SHOWN = ("lane", "max_new_tokens", "loaded", "metric", "samples")


def _changes(before: PredictionSettings, now: PredictionSettings) -> list[str]:
    """What differs between two settings, in words."""
    found = []
    for field, name in _NAMES.items():
        was, is_now = getattr(before, field), getattr(now, field)
        if was != is_now:
            found.append(f"{name} ({sanitize(str(was))}, now {is_now})" if field in _SHOWN else name)
    return found


class PredictionFile:
    """A file of predictions that is open for appending: a context manager. ``row in file`` says whether a row
    has a prediction."""

    def __init__(self, path: Path, settings: PredictionSettings, replace: bool = False) -> None:
        """``replace``: a file that is there with other settings or of another kind is replaced."""
        self.path = path
        self._settings, self._replace = settings, replace
        self._offsets: dict[int, int] = {}  # of the lines, by row
        self._size = 0
        self._in_order = True
        self._descriptor = -1
        self._lock: files.FileLock | None = None

    def __contains__(self, row: int) -> bool:
        return row in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def __enter__(self) -> PredictionFile:
        """Reads what is there. Raises LabError for a file that cannot be continued or written."""
        try:
            self._descriptor = input_files.open_to_append(self.path)
            self._lock = files.FileLock.acquire(self.path)
        except OSError as error:
            self.close()
            raise self._unwritable(error) from None
        if self._lock is None:
            self.close()
            raise LabError(f"{self._name} is being written by another command; wait until it ends")
        try:
            self._read()
            os.ftruncate(self._descriptor, self._size)
            if not self._size:
                self._append(self._settings)
        except OSError as error:
            self.close()
            raise self._unwritable(error) from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def add(self, prediction: Prediction) -> None:
        """Appends a row with a single write. Raises LabError."""
        offset = self._size
        try:
            self._append(prediction)
        except OSError as error:
            raise self._unwritable(error) from None
        self._note(prediction.row, offset)

    def finish(self) -> None:
        """Puts the lines into the order of the rows. Raises LabError."""
        if self._in_order:
            return
        try:
            with (
                files.atomic_file(self.path) as target,
                input_files.open_regular(self.path) as source,
                target.open("wb") as out,
            ):
                out.write(source.readline())
                for row in sorted(self._offsets):
                    source.seek(self._offsets[row])
                    self._offsets[row] = out.tell()
                    out.write(source.readline())
        except OSError as error:
            raise self._unwritable(error) from None
        self._in_order = True

    def predictions(self) -> Iterator[Prediction]:
        """The predictions in the order of the rows. Raises LabError."""
        try:
            with input_files.open_regular(self.path) as source:
                for row in sorted(self._offsets):
                    source.seek(self._offsets[row])
                    yield from_json(source.readline(), Prediction, f"{self._name}, row {row}")
        except OSError as error:
            raise LabError(f"{self._name} cannot be read ({error.strerror})") from None

    @property
    def _name(self) -> str:
        return sanitize(str(self.path))

    def _unwritable(self, error: OSError) -> LabError:
        return LabError(f"{self._name} cannot be written ({error.strerror}); name another file with --out")

    def _append(self, record: PredictionSettings | Prediction) -> None:
        line = to_json(record).encode() + b"\n"
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(line)

    def _note(self, row: int, offset: int) -> None:
        self._in_order = self._in_order and row > next(reversed(self._offsets), 0)
        self._offsets[row] = offset

    def _read(self) -> None:
        """Finds the rows that are in the file, without a line that was cut off and without damaged ones."""
        with input_files.open_regular(self.path) as source:
            first = source.readline(_LONGEST_LINE)
            if not self._continues(first):
                return
            self._size = len(first)
            for line in _lines(source):
                offset, self._size = self._size, self._size + len(line)
                with contextlib.suppress(LabError):  # a damaged row is answered again
                    row = from_json(line, Prediction, self._name).row
                    if row not in self._offsets:
                        self._note(row, offset)
                        continue
                self._in_order = False

    def _continues(self, first: bytes) -> bool:
        """Whether the file has the present settings, by its first line. Raises LabError for another one that
        is not to be replaced."""
        if not first:
            return False
        try:
            before = from_json(first, PredictionSettings, self._name)
        except LabError:
            cut_off = not first.endswith(b"\n") and to_json(self._settings).encode().startswith(first)
            if self._replace or cut_off:
                return False
            raise LabError(
                f"{self._name} exists and is no file of predictions; --force replaces it, --out names "
                "another file"
            ) from None
        changes = _changes(before, self._settings)
        if changes and not self._replace:
            raise LabError(
                f"{self._name} has predictions with other settings, changed: {', '.join(changes)}; --force "
                "replaces it, --out names another file"
            )
        return not changes and first.endswith(b"\n")


def is_predictions(path: Path) -> bool:
    """Whether a file begins as one of predictions."""
    try:
        with input_files.open_regular(path) as source:
            from_json(source.readline(_LONGEST_LINE), PredictionSettings, path.name)
    except (OSError, LabError):
        return False
    return True


def read_predictions(path: Path) -> tuple[PredictionSettings, list[Prediction]]:
    """The settings and the predictions of a file, which may be being written, in the order of the rows, at
    most :data:`MOST_READ`. Damaged lines are left out. Raises LabError."""
    name = sanitize(str(path))
    found: dict[int, Prediction] = {}
    try:
        with input_files.open_regular(path) as source:
            settings = from_json(source.readline(_LONGEST_LINE), PredictionSettings, name)
            for line in itertools.islice(_lines(source), MOST_READ):
                with contextlib.suppress(LabError):
                    prediction = from_json(line, Prediction, name)
                    found.setdefault(prediction.row, prediction)
    except OSError as error:
        raise LabError(f"{name} cannot be read ({error.strerror})") from None
    return settings, [found[row] for row in sorted(found)]


def default_name(data: str) -> str:
    """The name of the file of predictions for a data set."""
    stem = re.sub(r"[^A-Za-z0-9._@-]+", "-", re.split(r"[/\\]", data.rstrip("/\\"))[-1]).strip("-.")
    for ending in (".gz", ".bz2", ".xz", ".zst", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt"):
        stem = stem.removesuffix(ending)
    return f"predictions-{stem[:80] or 'data'}.jsonl"


def _lines(source: BufferedReader) -> Iterator[bytes]:
    """The whole lines of a file; one without its end, and what follows one that is too long, are left out."""
    while (line := source.readline(_LONGEST_LINE)).endswith(b"\n"):
        yield line
