"""What values of the data mean, as a mapping says it beside its columns: who speaks where turns name persons
("Alice=user,Bob=assistant"), and what the numbers of labels stand for ("0=negative,1=positive"). The names
of labels may also lie in a file beside the data, one a line (labels.txt)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.format import and_more
from tui_lab.core.input_files import read_text
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.data.cells import is_missing, structure_of
from tui_lab.data.column_plan import ColumnPlan, whole_number
from tui_lab.data.column_roles import MAPPED_NAMES, canonical
from tui_lab.data.files import RawData, Stream
from tui_lab.data.streams import SNIFFED_ROWS, FileRecord, Records
from tui_lab.data.turns import ROLE_KEYS, SPEAKER_ROLES, shown_speakers, transcript

MAX_DEPTH = 6  # of lists and objects in a cell
MOST_LABELS = 50
MAX_LABEL_CHARS = 40
NAMED_LABELS = 5  # labels that a message names
LABEL_FILES = ("labels.txt", "label_names.txt", "classes.txt", "class_names.txt")
LABEL_FILE_BYTES = 1 << 20
#: Columns that hold the class of a text.
LABEL_COLUMNS = (
    "label", "labels", "label_text", "label_name", "class", "class_name", "category", "intent", "sentiment",
    "emotion", "topic", "target",
)  # fmt: skip
LABEL_ROLES = ("answer", "completion", "output")  # roles that a column of labels can be given


@dataclass(frozen=True)
class ValueNames:
    """``columns``: the pairs of a mapping about columns, as text. ``speakers``: the role of each, ``labels``:
    the name of each number; ``answer``: the column that the mapping says is the answer, "" for none."""

    columns: str
    speakers: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    answer: str = ""


def split_mapping(pairs: Mapping[str, str], columns: Sequence[str]) -> ValueNames:
    """A mapping taken apart."""
    known = {canonical(column) for column in columns} | set(columns)
    rest: dict[str, str] = {}
    speakers: dict[str, str] = {}
    labels: dict[str, str] = {}
    for left, right in pairs.items():
        if right.lower() in SPEAKER_ROLES and left not in known and canonical(left) not in MAPPED_NAMES:
            speakers[left.lower()] = right.lower()
        elif (
            left.lower() in SPEAKER_ROLES
            and left.lower() not in MAPPED_NAMES
            and canonical(right) not in known
        ):
            speakers[right.lower()] = left.lower()
        elif _whole(left) is not None and left not in known and right not in known:
            labels[left] = right
        else:
            rest[left] = right
    answer = next((column for role, column in rest.items() if canonical(role) in LABEL_ROLES), "")
    return ValueNames(",".join(f"{a}={b}" for a, b in rest.items()), speakers, labels, answer)


def named(raw: RawData, first: Sequence[FileRecord], names: ValueNames) -> RawData:
    """The data, which begins with the rows ``first``, with roles in place of speakers and names in place of
    the numbers of labels."""
    changes: list[Callable[[dict[str, Any]], dict[str, Any]]] = []
    notes = list(raw.notes)
    values = [value for _, value in first]
    if names.speakers:
        lines = re.compile(
            rf"^([ \t]*)({'|'.join(map(re.escape, names.speakers))})(?=[ \t]*:)", re.IGNORECASE | re.MULTILINE
        )
        changes.append(lambda row: _with_roles(row, names.speakers, lines))
        rows = [
            _with_roles(each, names.speakers, lines)
            if isinstance(each, dict)
            else _renamed(each, names.speakers, MAX_DEPTH)
            for each in values
        ]
        plain = [{k: structure_of(v) for k, v in e.items()} if isinstance(e, dict) else e for e in values]
        if rows == plain:
            raise LabError(f"columns: no turn in the first rows is by {shown_speakers(names.speakers)}.")
        notes.append(_listed("speakers", names.speakers))
    column, labels = _labels([value for value in values if isinstance(value, dict)], raw.paths, names)
    if labels:
        changes.append(lambda row: {**row, column: labels.get(str(_whole(row.get(column))), row.get(column))})
        notes.append(_listed(f"the numbers of {sanitize(column)[:40]}", labels))
    if not changes:
        return raw

    def changed(records: Records) -> Iterator[FileRecord]:
        for place, value in records:
            if isinstance(value, dict):
                for change in changes:
                    value = change(value)
            elif names.speakers:
                value = _renamed(value, names.speakers, MAX_DEPTH)
            yield place, value

    validation = raw.validation
    return replace(
        raw,
        train=Stream(lambda: changed(raw.train)),
        validation=None if validation is None else Stream(lambda: changed(validation)),
        notes=notes,
    )


def _listed(what: str, names: Mapping[str, str]) -> str:
    shown = ", ".join(f"{a} is {b}" for a, b in itertools.islice(names.items(), NAMED_LABELS))
    return sanitize(f"{what}: {shown}{and_more(len(names) - NAMED_LABELS)}")


# --- speakers -----------------------------------------------------------------------------------------


def _with_roles(row: dict[str, Any], speakers: Mapping[str, str], lines: re.Pattern[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column, cell in row.items():
        value = structure_of(cell)
        if isinstance(value, str):
            if canonical(column) in ROLE_KEYS:
                value = speakers.get(value.strip().lower(), value)
            else:
                text = lines.sub(lambda mark: mark[1] + speakers[mark[2].lower()], value)
                value = text if transcript(text) else value
        else:
            value = _renamed(value, speakers, MAX_DEPTH)
        found[column] = value
    return found


def _renamed(value: Any, speakers: Mapping[str, str], depth: int) -> Any:
    """A list of turns with the roles of their speakers."""
    if not depth:
        return value
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and value[0].strip().lower() in speakers:
            return [speakers[value[0].strip().lower()], value[1]]
        return [_renamed(structure_of(each), speakers, depth - 1) for each in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, cell in value.items():
        if isinstance(cell, str) and key in ROLE_KEYS:
            cell = speakers.get(cell.strip().lower(), cell)
        elif isinstance(cell, str):
            key = speakers.get(str(key).lower(), key)
        else:
            cell = _renamed(cell, speakers, depth - 1)
        found[key] = cell
    return found


# --- labels -------------------------------------------------------------------------------------------


def _labels(
    rows: Sequence[Mapping[str, Any]], paths: Sequence[Path], names: ValueNames
) -> tuple[str, dict[str, str]]:
    """The column of labels that are numbers, and their names; ("", {}) for none. Raises LabError."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    answer = next((c for c in columns if names.answer and canonical(c) == canonical(names.answer)), "")
    candidates = [answer] if answer else [c for c in columns if canonical(c) in LABEL_COLUMNS]
    column = next((each for each in candidates if _numbers(rows, each)), "")
    if not column:
        if names.labels:
            raise LabError(
                f"columns: {_listed('names', names.labels)}, but no column holds such numbers; "
                "answer=COLUMN says which one does."
            )
        return "", {}
    if names.labels:
        without = [str(number) for number in _numbers(rows, column) if str(number) not in names.labels]
        if without:
            raise LabError(
                f"columns: {sanitize(column)[:40]} holds {', '.join(without[:NAMED_LABELS])}, for which no "
                f"name is given: add {without[0]}=NAME."
            )
    if names.labels or not answer:
        return column, dict(names.labels)
    return column, _names_beside(paths, max(_numbers(rows, column)))


def _whole(value: object) -> int | None:
    """A whole number, also below 0, as number or text."""
    if isinstance(value, str) and value.strip().startswith("-"):
        number = whole_number(value.strip()[1:])
        return None if number is None else -number
    return whole_number(value)


def _numbers(rows: Sequence[Mapping[str, Any]], column: str) -> list[int]:
    """The different whole numbers that a column holds in all rows; [] where it holds something else."""
    cells = [row.get(column) for row in rows if not is_missing(row.get(column)) and row.get(column) != ""]
    found = [_whole(cell) for cell in cells]
    numbers = sorted({number for number in found if number is not None})
    return numbers if found and None not in found and len(numbers) <= MOST_LABELS else []


def _names_beside(paths: Sequence[Path], most: int) -> dict[str, str]:
    """The names of labels by number, from a file beside the data that has one for each."""
    for path in paths[:1]:
        for name in LABEL_FILES:
            if (file := path.parent / name).is_file() and file not in paths:
                try:
                    lines = read_text(file, LABEL_FILE_BYTES, "replace").splitlines()
                except OSError as error:
                    raise LabError(
                        f"{file} could not be read: {error.strerror or first_line(error)}."
                    ) from None
                texts = [line.strip() for line in lines if line.strip()]
                if most < len(texts) <= MOST_LABELS:
                    return {str(number): text for number, text in enumerate(texts)}
    return {}


def _different(rows: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    """The labels in a column; [] where its values are no labels: too many, or each another one."""
    cells = [str(row[column]) for row in rows if isinstance(row.get(column), str | int)]
    found = sorted(set(cells))
    is_short = all(len(label) <= MAX_LABEL_CHARS for label in found)
    return found if 2 <= len(found) <= MOST_LABELS and len(cells) > len(found) and is_short else []


def label_hint(plan: ColumnPlan, records: Sequence[FileRecord]) -> str:
    """How to train with a column of labels that is not used, or with the names of its numbers; "" where there
    is nothing to say."""
    rows = [value for _, value in records[:SNIFFED_ROWS] if isinstance(value, dict)]
    if plan.format == "text" and plan.roles.get("text"):
        text = plan.names[plan.roles["text"][0]]
        for column in sorted(plan.unused, key=lambda each: bool(_numbers(rows, each))):  # names come first
            if canonical(column) in LABEL_COLUMNS and (labels := _different(rows, column)):
                names = [f"{label}=NAME" for label in labels[:2]] if _numbers(rows, column) else []
                mapping = ",".join([f"question={text}", f"answer={column}", *names])
                shown = ", ".join(each[:20] for each in labels[:NAMED_LABELS])
                more = ", …" if len(labels) > NAMED_LABELS else ""
                return sanitize(
                    f"{column} holds {len(labels)} labels ({shown}{more}), which are not trained: "
                    f"--columns {mapping} trains to answer with them."
                )
    answer = plan.roles.get("answer", ()) if plan.format == "question_answer" else ()
    column = plan.names[answer[0]] if answer else ""
    if not column or plan.spread or plan.roles.get("choices") or canonical(column) not in LABEL_COLUMNS:
        return ""
    numbers = _numbers(rows, column)
    if len(numbers) < 2:
        return ""
    return sanitize(
        f"the answers are the numbers {numbers[0]} to {numbers[-1]} of {column}, whose names are not in the "
        f"data: --columns …,{numbers[0]}=NAME,{numbers[1]}=NAME gives them, or a file labels.txt beside it."
    )
