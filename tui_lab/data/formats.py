"""From the rows of a data set to examples: Alpaca, OpenAI/ChatML messages, ShareGPT, prompt–completion,
question–answer, raw text.

``columns`` decides which column is what. Every row becomes an ``Example``: messages, or a prompt with its
completion, or plain text. Rows that cannot be used are counted and named with their place and cause; the set
is refused only when no row is left."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tui_lab.core.errors import LabError
from tui_lab.core.format import and_more, plural
from tui_lab.core.sanitize import sanitize
from tui_lab.data import code_tests
from tui_lab.data.cells import clean, is_missing
from tui_lab.data.column_plan import ColumnPlan, Row, opened
from tui_lab.data.column_roles import FORMATS, LABELS, QUESTIONS
from tui_lab.data.columns import columns_of, listed, parse_mapping, plans
from tui_lab.data.convert import CONVERTERS, bare_example
from tui_lab.data.examples import Example
from tui_lab.data.files import RAGGED_CELLS, RawData, is_empty
from tui_lab.data.rows import BadRow
from tui_lab.data.sources import read_raw
from tui_lab.data.streams import SNIFFED_ROWS, FileRecord, OnBytes, Records
from tui_lab.data.threads import gathered
from tui_lab.data.value_names import named, split_mapping

__all__ = [
    "FORMATS",
    "LABELS",
    "DataSource",
    "Example",
    "OpenedData",
]  # names that other modules take from here

TASK_CHARS = 40  # the longest name of a task, from a column "task"
TRIED_ROWS = 20  # first rows by which a plan is tried
NAMED_ROWS = 5  # bad rows that a message names; the others are counted
COUNTED_CAUSES = 1_000  # different causes that are told apart


@dataclass
class DataSource:
    """A data set as read: ``rows``, and ``validation`` where the source brings its own.

    ``reason`` says how the format was found, ``columns`` what each column is used for; ``scorer`` names the
    score that fits, if any (see :mod:`tui_lab.data.scoring`). ``rows_read`` counts all rows, ``rows_empty``
    and ``rows_bad`` those that were left out."""

    name: str
    rows: list[Example]
    validation: list[Example] | None
    format: str
    reason: str
    rows_read: int
    rows_empty: int = 0
    rows_bad: int = 0
    warnings: list[str] = field(default_factory=list)
    scorer: str | None = None
    description: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


# --- all rows -------------------------------------------------------------------------------------


@dataclass
class Examples:
    """The examples of records, converted while they are iterated; then the counts are those of all rows.

    ``bad``: rows that were left out, by cause: how many, and the places of the first ones. ``later``: columns
    that only rows after the first ones have."""

    records: Records
    plan: ColumnPlan
    read: int = 0
    empty: int = 0
    left_out: int = 0
    bad: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    later: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Example]:
        self.read = self.empty = self.left_out = 0
        self.bad, self.later = {}, {}
        for place, value in self.records:
            self.read += 1
            try:
                yield self._convert(place, value)
            except BadRow as error:
                self._leave_out(place, error)

    def _convert(self, place: str, value: object) -> Example:
        if not isinstance(value, dict):
            bare = bare_example(value, self.plan.format)
            if bare is None:
                kind = type(value).__name__
                raise BadRow(f"it is {kind}, not an object with columns", empty=is_missing(value))
            return replace(bare, place=place)
        if RAGGED_CELLS in value:
            raise BadRow(f"it has {value[RAGGED_CELLS]}")
        value = opened(value, self.plan.opened)
        if not value.keys() <= self.plan.known and len(self.later) < SNIFFED_ROWS:
            for column in value.keys() - self.plan.known:
                self.later.setdefault(str(column), place)
        row = Row(self.plan, value)
        example = CONVERTERS[self.plan.format](row)
        task = row.value("task")
        name = sanitize(clean(str(task)).strip())[:TASK_CHARS] if isinstance(task, str | int) else ""
        tests = code_tests.tests_of(row, _asked(example))
        return replace(example, place=place, task=name or example.task, tests=tests)

    def _leave_out(self, place: str, error: BadRow) -> None:
        self.left_out += 1
        self.empty += error.empty
        reason = str(error)
        if reason not in self.bad and len(self.bad) >= COUNTED_CAUSES:
            reason = "other causes"
        count, places = self.bad.get(reason, (0, []))
        self.bad[reason] = (count + 1, places if len(places) >= NAMED_ROWS else [*places, place])

    def complaints(self) -> list[str]:
        """One sentence a cause, the most frequent first."""
        ranked = sorted(self.bad.items(), key=lambda item: -item[1][0])
        lines = [f"{_named(places, count)}: {reason}" for reason, (count, places) in ranked[:NAMED_ROWS]]
        if len(ranked) > NAMED_ROWS:
            lines.append(f"and {sum(count for _, (count, _) in ranked[NAMED_ROWS:])} rows of other causes")
        return lines


def _asked(example: Example) -> str:
    prompt = example.generation_prompt
    return prompt if isinstance(prompt, str) else prompt[-1]["content"] if prompt else ""


def _named(places: list[str], count: int) -> str:
    return ", ".join(places) + and_more(count - len(places))


@dataclass
class OpenedData:
    """A data set whose rows are read as a stream. The counts of ``train`` and ``validation`` are complete
    once they were iterated."""

    name: str
    train: Examples
    validation: Examples | None
    plan: ColumnPlan
    notes: list[str] = field(default_factory=list)
    scorer: str | None = None
    description: str = ""
    reason: str = ""
    raw: RawData | None = None

    @property
    def rows_read(self) -> int:
        return sum(part.read for part in self.parts)

    @property
    def rows_empty(self) -> int:
        return sum(part.empty for part in self.parts)

    @property
    def rows_bad(self) -> int:
        return sum(part.left_out - part.empty for part in self.parts)

    @property
    def parts(self) -> list[Examples]:
        """The training rows, and the validation rows where the source has its own."""
        return [self.train, *([self.validation] if self.validation is not None else [])]

    def warnings(self) -> list[str]:
        """Rows that were left out and columns that are not used, among the rows read so far."""
        found = []
        for part, what in zip(self.parts, ("row", "validation row"), strict=False):
            if part.left_out:
                found.append(f"{plural(part.left_out, what)} left out: " + "; ".join(part.complaints()))
        if self.plan.hint:
            found.append(self.plan.hint)
        if self.plan.unused:
            found.append(
                f"not used: {listed(self.plan.unused)}. --columns can give them a role, such as context=…"
            )
        if self.plan.turn_fields:
            fields = listed(self.plan.turn_fields).replace("the columns", "the fields", 1)
            found.append(f"not used: {fields} of the turns.")
        later = {column: place for part in self.parts for column, place in part.later.items()}
        if later:
            shown = ", ".join(
                f"{sanitize(c)[:40]} (first in {p})" for c, p in list(later.items())[:NAMED_ROWS]
            )
            more = and_more(len(later) - NAMED_ROWS)
            found.append(f"not used, because the first rows do not have them: the columns {shown}{more}.")
        return found


def _readable(name: str, first: list[FileRecord], data_format: str, columns: str) -> ColumnPlan:
    """The first plan by which one of the first rows can be read, else the likeliest. Raises LabError where
    the format is not known."""
    likeliest: ColumnPlan | None = None
    try:
        for decided in plans(name, first, data_format, columns):
            if next(iter(Examples(first[:TRIED_ROWS], decided)), None) is not None:
                return decided
            likeliest = likeliest or decided
    except LabError:
        if likeliest is None:
            raise
    assert likeliest is not None, "plans yields one or raises"
    return likeliest


def _first(records: Records) -> list[FileRecord]:
    return list(itertools.islice(records, SNIFFED_ROWS))


def _is_chat(record: FileRecord) -> bool:
    """Whether a row was put together, and not left out."""
    return not isinstance(record[1], dict) or record[1].keys() != {RAGGED_CELLS}


def open_raw(raw: RawData, data_format: str = "auto", columns: str = "") -> OpenedData:
    """The examples of raw records as a stream. Raises LabError where the format is not known."""
    first = _first(raw.train)
    if not first:
        raise LabError(f"{raw.name} holds no training rows: there is nothing to train on.")
    pairs = parse_mapping(columns)
    names = split_mapping(pairs, columns_of(first))
    columns = names.columns
    shaped = named(raw, first, names)
    if shaped is not raw:
        raw, first = shaped, _first(shaped.train)
    if data_format in ("auto", "messages", "question_answer"):
        shaped = gathered(raw, first, frozenset([*pairs, *pairs.values()]))
    if shaped is not raw:
        raw, first = shaped, _first(shaped.train)
        if first and not any(map(_is_chat, first)):
            causes = dict.fromkeys(str(value[RAGGED_CELLS]) for _, value in first if isinstance(value, dict))
            first = _first(filter(_is_chat, raw.train))
            if not first:
                raise LabError(f"{raw.name} holds no chat: its messages have {', or '.join(causes)}.")
    decided = _readable(raw.name, first, data_format, columns)
    validation = raw.validation
    if validation is not None and is_empty(validation):
        validation = None
    own = decided
    if validation is not None:
        first = list(itertools.islice(validation, TRIED_ROWS))
        if next(iter(Examples(first, decided)), None) is None:
            with contextlib.suppress(LabError):  # else their rows are left out, and named
                own = _readable(raw.name, first, data_format, columns)
    return OpenedData(
        name=raw.name,
        train=Examples(raw.train, decided),
        validation=Examples(validation, own) if validation is not None else None,
        plan=decided,
        notes=raw.notes,
        scorer=_scorer(decided),
        reason="; ".join([decided.reason, *raw.notes]),
        raw=raw,
    )


def _scorer(decided: ColumnPlan) -> str | None:
    """Tests of code and questions with one right answer can be scored; the other formats have no score of
    their own."""
    if decided.roles.get("tests"):
        return code_tests.PASS
    asked = decided.roles.get("question", ())
    return "exact" if decided.format == "question_answer" and set(asked) & set(QUESTIONS) else None


def none_usable(opened: OpenedData) -> LabError:
    """The error for a set of which no row can be used."""
    return LabError(
        f"{opened.name}: none of its {opened.train.read} rows can be used as {LABELS[opened.plan.format]}; "
        f"{'; '.join(opened.train.complaints()[:3])}."
    )


def from_opened(opened: OpenedData) -> DataSource:
    """All examples of a set, in memory. Raises LabError when no row can be used."""
    rows = list(opened.train)
    if not rows:
        raise none_usable(opened)
    validation = list(opened.validation) if opened.validation is not None else []
    return DataSource(
        name=opened.name,
        rows=rows,
        validation=validation or None,
        format=opened.plan.format,
        reason=opened.reason,
        rows_read=opened.rows_read,
        rows_empty=opened.rows_empty,
        rows_bad=opened.rows_bad,
        warnings=opened.warnings(),
        scorer=opened.scorer,
        description=opened.description,
        columns=dict(opened.plan.uses),
        unused=list(opened.plan.unused),
    )


def open_data(
    path_or_name: str,
    data_format: str = "auto",
    max_rows: int = 0,
    columns: str = "",
    on_bytes: OnBytes | None = None,
) -> OpenedData:
    """Opens a data set; its rows are read while they are iterated.

    Args:
        path_or_name: a file, a folder, a bundled set or a name on the hub.
        data_format: one of FORMATS; auto detects it from the columns.
        max_rows: > 0 reads no more than that many rows of each split.
        columns: which column is which, as "question=prompt,answer=reply"; "" goes by the names.
        on_bytes: called with the bytes of the present file that were read.

    Raises:
        LabError: there is no such set, or it cannot be read; also while the rows are iterated.
    """
    from tui_lab.data import bundled

    name = str(path_or_name).strip()
    if not name:
        raise LabError(
            f"No data set was given. Name a file, a folder, a hub set or one of {', '.join(bundled.NAMES)}."
        )
    if "\0" in name:
        raise LabError("The name of the data set holds a zero byte; no file is called so.")
    if name not in bundled.NAMES:
        return open_raw(read_raw(name, max_rows, bundled.NAMES, on_bytes), data_format, columns)
    _, form = bundled.PREFERENCES.get(name, ("", "messages"))
    if data_format not in ("auto", form) or columns:
        raise LabError(
            f"The bundled set {name} is made of {LABELS[form]}; leave the data format at auto and columns "
            "empty."
        )
    loaded = bundled.load(name)
    rows, held = (bundled.rows_of(loaded, chats) for chats in (loaded.train, loaded.validation))
    train: list[FileRecord] = [(f"row {n}", row) for n, row in enumerate(rows[: max_rows or None], 1)]
    held_out: list[FileRecord] = [(f"validation row {n}", row) for n, row in enumerate(held, 1)]
    opened = open_raw(RawData(name, train, held_out), form)
    opened.reason = f"bundled set {name} → {LABELS[form] if form != 'messages' else form}"
    opened.scorer, opened.description = loaded.scorer, loaded.description
    return opened


def read(path_or_name: str, data_format: str = "auto", max_rows: int = 0, columns: str = "") -> DataSource:
    """Reads a data set into memory, see :func:`open_data`. Raises LabError, also when no row can be used."""
    return from_opened(open_data(path_or_name, data_format, max_rows, columns))
