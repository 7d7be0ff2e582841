"""How the rows of a data set are read: the plan, the values of a row by role, and its choices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tui_lab.data.cells import is_missing, structure_of
from tui_lab.data.files import RAGGED_CELLS
from tui_lab.data.streams import FileRecord


@dataclass(frozen=True)
class ColumnPlan:
    """How the rows of a set are read.

    ``names`` maps a canonical name to the column; ``roles`` a role to canonical names in order of preference;
    ``spread`` are the columns of choices that are no list. ``counts_from``: the number of the first choice,
    None where answers are texts. ``uses`` says of each used column what it becomes. ``opened`` are columns of
    objects whose fields count as columns (conversation.messages), ``turn_fields`` fields of turns that are
    not used; ``hint``: what may be meant otherwise, "" for nothing."""

    format: str
    reason: str
    names: Mapping[str, str]
    roles: Mapping[str, tuple[str, ...]]
    spread: tuple[str, ...] = ()
    counts_from: int | None = 0
    uses: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    opened: frozenset[str] = frozenset()
    turn_fields: tuple[str, ...] = ()
    hint: str = ""

    @property
    def known(self) -> frozenset[str]:
        """All columns of the rows that were looked at."""
        return frozenset([*self.uses, *self.unused, RAGGED_CELLS])


def inner_object(cell: object) -> dict[str, object] | None:
    """The object in a cell: itself, as text, or the only one in a list."""
    value = structure_of(cell)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else None


def opened(value: Mapping[str, object], columns: frozenset[str]) -> Mapping[str, object]:
    """A row with the fields of the objects in ``columns`` as columns; a column may be such a field itself
    (data.conversation)."""
    if not columns:
        return value
    found: dict[str, object] = {}
    for column, cell in value.items():
        inner = inner_object(cell) if column in columns else None
        if inner is None:
            found[column] = cell
        else:
            found.update(opened({f"{column}.{key}": each for key, each in inner.items()}, columns))
    return found


class Row:
    """The values of one row by role. Empty cells of pandas (NaN) count as None."""

    __slots__ = ("plan", "values")

    def __init__(self, plan: ColumnPlan, values: Mapping[str, object]) -> None:
        self.plan, self.values = plan, values

    def column(self, role: str) -> str | None:
        """The column of a role: the first that has a value, else the first that the row has."""
        first: str | None = None
        for name in self.plan.roles.get(role, ()):
            column = self.plan.names[name]
            if column in self.values:
                value = self.values[column]
                if not is_missing(value) and value != "":
                    return column
                first = first or column
        return first

    def value(self, role: str) -> object:
        """The value of a role, None for an empty cell and where the row has no such column."""
        column = self.column(role)
        value = None if column is None else self.values[column]
        return None if is_missing(value) else value


def choices_of(row: Row) -> tuple[list[object], list[str]]:
    """The choices of a row and the labels that the data gives them ([] for none)."""
    if row.plan.spread:
        columns = [row.plan.names[name] for name in row.plan.spread]
        present = [
            row.values[c] for c in columns if not is_missing(row.values.get(c)) and row.values.get(c) != ""
        ]
        return present, []
    value = structure_of(row.value("choices"))
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        labels = value.get("label")
        return list(value["text"]), [str(label) for label in labels] if isinstance(labels, list) else []
    if isinstance(value, dict):
        return list(value.values()), [str(key) for key in value]
    if (
        isinstance(value, list)
        and value
        and all(isinstance(entry, dict) and "text" in entry for entry in value)
    ):
        labels = [str(entry["label"]) for entry in value if "label" in entry]
        return [entry["text"] for entry in value], labels if len(labels) == len(value) else []
    if not isinstance(value, list):
        return [], []
    filled = len(value)
    while filled and is_missing(value[filled - 1]):  # a table fills shorter lists up
        filled -= 1
    return value[:filled], []


def whole_number(value: object) -> int | None:
    """A whole number, also as text or as the float that pandas makes of it; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\d{1,6}", value.strip()):
        return int(value)
    return None


def first_choice_number(draft: ColumnPlan, records: Sequence[FileRecord]) -> int | None:
    """From what the numbers of right choices count, over all rows: 0, or 1 where a number is as large as the
    choices are many and none is 0. None where every number is itself one of the choices, as text."""
    numbers: list[tuple[int, int, bool]] = []
    for _, value in records:
        if not isinstance(value, dict):
            continue
        row = Row(draft, value)
        answer = row.value("answer")
        answer = row.value("key") if answer is None else answer
        number = whole_number(answer)
        if number is not None:
            choices, labels = choices_of(row)
            if not labels:
                as_text = isinstance(answer, str) and answer.strip() in map(str, choices)
                numbers.append((number, len(choices), as_text))
    if numbers and all(as_text for _, _, as_text in numbers):
        return None
    if numbers and all(0 < number <= many for number, many, _ in numbers):
        return 1 if any(number == many for number, many, _ in numbers) else 0
    return 0
