"""Rows of the standard benchmarks, from the hub through `datasets` or from local files.

Local files have the layout of the hub, of the original authors or of a plain export: a folder with splits,
or one JSONL, JSON, CSV, TSV, Parquet or text file. Only data are read, never a loading script. Each row has
its place in the file for messages."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.data.files import EXTENSIONS
from tui_lab.data.rows import RawRow
from tui_lab.data.streams import FileRecord
from tui_lab.retention.suites.custom import BadItem, records_of
from tui_lab.retention.suites.records import BenchmarkSource, Item
from tui_lab.retention.suites.safety import flat_stereoset, toxicity_pairs
from tui_lab.retention.suites.standard import BUILDERS, FEW_SHOT, pages_of
from tui_lab.retention.suites.superglue import EXPANDED
from tui_lab.retention.suites.template import from_template

MMLU_COLUMNS = ("question", "choice0", "choice1", "choice2", "choice3", "answer")
COLA_COLUMNS = ("source", "label", "star", "sentence")
#: Example rows by subject.
Examples: TypeAlias = dict[str, list[RawRow]]
_DATA = frozenset(EXTENSIONS) - {".md"}
_MOST_FILES = 5_000  # a folder with more is no benchmark but a mistake


def items_of(
    task: str, benchmark: BenchmarkSource, records: list[FileRecord], shown: str, examples: Examples
) -> list[Item]:
    """The rows of a benchmark as items, with `examples` (by subject) before each question. Raises
    LabError for a row that is no item."""
    items: list[Item] = []
    taken: set[str] = set()
    counts: dict[str, int] = defaultdict(int)
    if task == "realtoxicityprompts":
        records = _paired(records, shown)
    for place, found in records:
        try:
            for row in EXPANDED[task](found) if task in EXPANDED else (found,):
                if not isinstance(row, dict):
                    raise BadItem(f"this is {type(row).__name__}, not a row with columns")
                subject = str(row.get("subject") or "")
                counts[subject] += 1
                identity = _identity(task, row, subject, counts[subject])
                if identity in taken:
                    identity = f"{task}-row-{len(items) + 1}"
                taken.add(identity)
                items.append(_item_of(task, benchmark, row, identity, examples.get(subject, ())))
        except BadItem as error:
            raise LabError(f"{shown}, {place} is no item of {task}: {sanitize(str(error))}.") from None
    return items


def _paired(records: list[FileRecord], shown: str) -> list[FileRecord]:
    try:
        return toxicity_pairs(records)
    except BadItem as error:
        raise LabError(f"{shown} cannot be paired: {sanitize(str(error))}.") from None


def _item_of(
    task: str, benchmark: BenchmarkSource, row: RawRow, identity: str, examples: Sequence[RawRow]
) -> Item:
    if benchmark.prompt:
        return from_template(benchmark, row, identity)
    if task in FEW_SHOT:
        return FEW_SHOT[task](row, identity, examples)
    return BUILDERS[task](row, identity)


def _identity(task: str, row: RawRow, subject: str, number: int) -> str:
    """The data set's own number of a row where it has one, so that a part of the set keeps its ids."""
    for key in ("id", "ind", "idx", "pairID", "index", "qID", "key", "example_id"):
        value = row.get(key)
        if isinstance(value, dict):  # {"paragraph": 0, "question": 1, "answer": 2}
            value = "-".join(map(str, value.values()))
        if (
            isinstance(value, str | int)
            and not isinstance(value, bool)
            and re.fullmatch(r"[\w.#-]{1,80}", str(value))
        ):
            return f"{task}-{value}"
    return f"{subject or task}-{number}"


# --- local files ------------------------------------------------------------------------------------


def read_local(
    task: str, path: Path, benchmark: BenchmarkSource, shots: int
) -> tuple[list[FileRecord], Examples]:
    """(rows, examples by subject) of a benchmark from a file or folder, with `shots` examples a subject.
    Raises LabError."""
    if not path.exists():
        raise LabError(f"There is no file or folder {path} to read {task} from.")
    if path.is_dir() and (path / "dataset_dict.json").is_file():
        return _saved(task, path, benchmark, shots)
    if path.is_dir():
        files = _files(path, task, benchmark, benchmark.splits)
        if not files:
            raise LabError(
                f"The folder {path} holds no file that looks like the split {benchmark.splits[0]} of {task}; "
                f"name the file itself ({task}:FILE)."
            )
    else:
        files = [path]
    rows = [record for file in files for record in _rows(task, file, many=len(files) > 1)]
    examples: Examples = {}
    if shots:
        found = _example_files(path, files, task, benchmark)
        examples = _by_subject([row for file in found for _, row in _rows(task, file, many=True)], shots)
        _check_examples(task, str(path), rows, examples, shots)
    return rows, examples


def _files(folder: Path, task: str, benchmark: BenchmarkSource, splits: tuple[str, ...]) -> list[Path]:
    """The data files of the best split that a folder has, of the right configuration where it has several."""
    found: list[Path] = []
    for path in folder.rglob("*"):
        if path.suffix.lower() in _DATA and path.is_file() and path.stem.lower() not in ("readme", "license"):
            found.append(path)
        if len(found) > _MOST_FILES:
            raise LabError(
                f"The folder {folder} holds more than {_MOST_FILES:,} files; name the file of {task}."
            )
    found.sort()
    config = str(benchmark.config or "").lower()
    of_config = [path for path in found if _belongs(path.relative_to(folder), config)] if config else []
    found = of_config or found
    for split in splits:
        chosen = [path for path in found if _is_split(path.relative_to(folder), split)]
        if chosen:
            return chosen
    return found if len(found) == 1 else []


def _belongs(path: Path, config: str) -> bool:
    parts = [part.lower() for part in path.parts[:-1]]
    return config in parts or path.stem.lower().startswith(config)


def _is_split(path: Path, split: str) -> bool:
    """Whether the name of a file (validation-00000-of-00001, ARC-Easy-Test) or of its folder is a split's."""
    names = [path.stem.lower(), *(part.lower() for part in path.parts[:-1])]
    return any(re.search(rf"(?<![a-z]){split}(?![a-z])(?!_mismatched)", name) for name in names)


def _rows(task: str, path: Path, many: bool) -> list[FileRecord]:
    """The rows of one file; the place of a row names its file where there are several."""
    suffix = path.suffix.lower()
    if task == "mmlu" and suffix == ".csv":
        records = _mmlu_table(path)
    elif suffix == ".tsv":
        records = _tsv(task, path)
    elif task == "stereoset" and suffix == ".json" and (rows := flat_stereoset(_read_text(path))):
        records = [(f"row {number}", row) for number, row in enumerate(rows, 1)]
    elif task == "wikitext" and suffix in ("", ".txt", ".text", ".raw", ".tokens"):
        records = [(f"page {n}", {"page": page}) for n, page in enumerate(pages_of(_read_text(path)), 1)]
    else:
        records = records_of(path)
        if (
            task == "wikitext"
            and records
            and not any(isinstance(row, dict) and "page" in row for _, row in records)
        ):
            lines = [row.get("text", "") if isinstance(row, dict) else str(row) for _, row in records]
            text = "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
            records = [(f"page {n}", {"page": page}) for n, page in enumerate(pages_of(text), 1)]
    if task == "perplexity":
        records = [(place, {"text": row} if isinstance(row, str) else row) for place, row in records]
        records = [(place, row) for place, row in records if not _blank(row)]
    if not records:
        raise LabError(f"{path} holds no rows for {task}.")
    return [(f"{path.name} {place}", row) for place, row in records] if many else records


def _blank(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("text"), str) and not row["text"].strip()


def _read_text(path: Path) -> str:
    try:
        blob = input_files.read_bytes(path, input_files.SCORES_BYTES)
    except OSError as error:
        raise LabError(f"{path} could not be read: {error.strerror or first_line(error)}.") from None
    try:
        return blob.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = blob.count(b"\n", 0, error.start) + 1
        raise LabError(f"{path}, line {line}: this is not valid UTF-8; save the file as UTF-8.") from None


def _cells(path: Path, text: str, **shape: Any) -> list[list[str]]:
    try:
        return [
            row for row in csv.reader(io.StringIO(text, newline=""), **shape) if any(c.strip() for c in row)
        ]
    except csv.Error as error:
        raise LabError(f"{path} is no usable table ({sanitize(str(error))}).") from None


def _mmlu_table(path: Path) -> list[FileRecord]:
    """The authors' CSV (no header: question, four choices, letter) or one with a header."""
    table = _cells(path, _read_text(path))
    header = [cell.strip().lower() for cell in table[0]] if table else []
    names = list(MMLU_COLUMNS)
    if "question" in header and "answer" in header:
        names, table = header, table[1:]
    subject = re.sub(r"_(test|dev|val|validation)$", "", path.stem)
    records: list[FileRecord] = []
    for number, cells in enumerate(table, 1):
        if len(cells) != len(names):
            raise LabError(f"{path}, row {number} has {len(cells)} cells, not {len(names)}.")
        row: dict[str, object] = dict(zip(names, cells, strict=True))
        if "choices" not in row:
            row["choices"] = [row.get(f"choice{n}") for n in range(4)]
        records.append((f"row {number}", {"subject": subject, **row}))
    return records


def _tsv(task: str, path: Path) -> list[FileRecord]:
    """GLUE's own files: cells parted by tabs, quotation marks mean nothing, CoLA without a header."""
    table = _cells(path, _read_text(path), delimiter="\t", quoting=csv.QUOTE_NONE)
    if not table:
        return []
    headless = task == "cola" and len(table[0]) == len(COLA_COLUMNS) and table[0][1] in ("0", "1")
    names, first = (list(COLA_COLUMNS), 0) if headless else ([cell.strip() for cell in table[0]], 1)
    return [
        (f"row {number}", dict(zip(names, cells, strict=False)))
        for number, cells in enumerate(table[first:], 1)
    ]


# --- examples (few-shot) ----------------------------------------------------------------------------


def _example_files(path: Path, files: list[Path], task: str, benchmark: BenchmarkSource) -> list[Path]:
    splits = benchmark.shots
    if path.is_dir():
        found = _files(path, task, benchmark, splits)
        return [] if found == files else found
    for split in splits:  # test/anatomy_test.csv → dev/anatomy_dev.csv, or beside it
        name = re.sub(r"(test|val|validation)(?=\.\w+$)", split, path.name)
        for candidate in (path.parent.parent / split / name, path.parent / name):
            if candidate != path and candidate.is_file():
                return [candidate]
    return []


def _by_subject(rows: Sequence[object], shots: int) -> Examples:
    """The first so many rows of each subject: the harness takes the first ones too."""
    found: Examples = defaultdict(list)
    for row in rows:
        if isinstance(row, dict) and len(found[str(row.get("subject") or "")]) < shots:
            found[str(row.get("subject") or "")].append(row)
    return dict(found)


def _check_examples(task: str, shown: str, rows: list[FileRecord], examples: Examples, shots: int) -> None:
    for _, row in rows:
        subject = str(row.get("subject") or "") if isinstance(row, dict) else ""
        have = len(examples.get(subject, ()))
        if have < shots:
            raise LabError(
                f"{shown} has {have} examples for {sanitize(subject) or task}, but {task}@{shots} needs "
                f"{shots}; give the folder that holds test and dev, or ask for fewer."
            )


# --- datasets ---------------------------------------------------------------------------------------


def _saved(
    task: str, path: Path, benchmark: BenchmarkSource, shots: int
) -> tuple[list[FileRecord], Examples]:
    import datasets

    try:
        loaded: Any = datasets.load_from_disk(str(path))
        split = next(name for name in benchmark.splits if name in loaded)
        rows = _records(loaded[split], split)
        split_shots = next((name for name in benchmark.shots if name in loaded), None)
        examples = _by_subject([dict(row) for row in loaded[split_shots]], shots) if split_shots else {}
    except StopIteration:
        raise LabError(f"The folder {path} has no split {benchmark.splits[0]} of {task}.") from None
    except Exception as error:  # noqa: BLE001 - datasets raises whatever its readers and the hub do
        raise LabError(
            f"The folder {path} could not be read as a saved data set: {first_line(error)}."
        ) from None
    if shots:
        _check_examples(task, str(path), rows, examples, shots)
    return rows, examples


def _records(rows: Iterable[RawRow], split: str) -> list[FileRecord]:
    return [(f"{split} row {number}", dict(row)) for number, row in enumerate(rows, 1)]


def read_hub(task: str, benchmark: BenchmarkSource, shots: int) -> tuple[list[FileRecord], Examples]:
    """(rows, examples by subject) of a benchmark from the hub or its local cache. Raises LabError."""
    import datasets

    from tui_lab.data import hub, hub_download

    datasets.disable_progress_bars()
    within_reach = hub.reachable()
    name, config = benchmark.hub, benchmark.config
    try:
        with contextlib.nullcontext() if within_reach else hub.cache_only():
            if within_reach:
                hub_download.fetch(datasets.load_dataset_builder(name, config))
            rows = _records(
                datasets.load_dataset(name, config, split=benchmark.splits[0]), benchmark.splits[0]
            )
            examples: Examples = {}
            if shots:
                split = benchmark.shots[0]
                examples = _by_subject(
                    [dict(r) for r in datasets.load_dataset(name, config, split=split)], shots
                )
    except LabError:
        raise
    except Exception as error:  # noqa: BLE001 - datasets raises whatever its readers and the hub do
        if not within_reach:
            raise LabError(
                f"The suite {task} comes from the hub ({name}), which is not reachable from here, and it is "
                f"not in the local cache: give its files as {task}:PATH, or take a bundled suite."
            ) from None
        raise LabError(
            f"The suite {task} could not be loaded from the hub ({name}): {type(error).__name__}, "
            f"{first_line(error)}; give its files as {task}:PATH."
        ) from None
    if shots:
        _check_examples(task, name, rows, examples, shots)
    return rows, examples


def is_stereoset(path: Path) -> bool:
    """Whether a JSON file has the parts of StereoSet's own one."""
    return bool(flat_stereoset(_read_text(path)))


def is_wikitext(path: Path) -> bool:
    """Whether a text has WikiText's headings (" = Title = ") near its beginning."""
    try:
        with input_files.open_regular(path) as stream:
            head = stream.read(20_000).decode("utf-8", "replace")
    except OSError:
        return False
    return re.search(r"^ = [^=\n]+ = *\r?$", head, re.MULTILINE) is not None
