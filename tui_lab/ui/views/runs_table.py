"""The table of runs as text: its columns for every width, the cells of a run, the lines below the table, and
the tables of differing fields and of a sweep. Pure functions; texts from a folder are sanitized here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile

from rich.cells import cell_len

from tui_lab.core.format import UNKNOWN, compact, duration, memory_name, metric_name, plural, size
from tui_lab.core.sanitize import sanitize
from tui_lab.recipes.mixture import short_name
from tui_lab.runs.index import CURVE_POINTS, RunSummary, shape_values
from tui_lab.runs.queue.sweep import describe, format_value
from tui_lab.runs.queue.sweep_table import BEST, retention, score
from tui_lab.runs.removal import KEPT_DAYS
from tui_lab.runs.state import ENDED
from tui_lab.ui.views.plot_spark import sparkline
from tui_lab.ui.views.run_time import run_time
from tui_lab.ui.views.spans import fit, fitting
from tui_lab.ui.views.states import run_state, state_text

#: The column of sparklines, which sorts nothing.
CURVE = "curve"
#: Cells of a retention with its interval.
INTERVAL = 19
NOTHING_FOUND = "No run matches the filter. {runs.clear} shows every run again."


@dataclass(frozen=True)
class RunColumn:
    """A column of the table. ``id``: the key that it sorts by, see :data:`tui_lab.runs.index.COLUMNS`;
    ``least`` and ``ideal``: its width in cells. Columns with the least ``rank`` are shown first. ``long``:
    the title where it fits. A column that is not ``needed`` is left out while it is empty."""

    id: str
    title: str
    least: int
    ideal: int
    rank: int
    cell: Callable[[RunSummary], str]
    right: bool = False
    long: str = ""
    needed: bool = True


def when(run: RunSummary) -> str:
    """A run by its name, else by the time in its id."""
    if run.name:
        return sanitize(run.name)
    if run.queued:
        return f"next, {run.queued}." if run.queued > 1 else "next"
    return run_time(run.id)


def _last(text: str) -> str:
    return sanitize(text.rpartition("/")[2])


def _steps(run: RunSummary) -> str:
    if not run.total_steps:
        return str(run.step or "")
    return f"{run.step}/{run.total_steps}"


def tags(run: RunSummary) -> str:
    """The tags of a run, each with its sign."""
    return " ".join(f"#{sanitize(tag)}" for tag in run.tags)


def parent(run: RunSummary) -> str:
    """The run that a run goes on from, by the time in its id; "" for one that starts from the base."""
    return f"└ {run_time(run.from_run)}" if run.from_run else ""


COLUMNS: tuple[RunColumn, ...] = (
    RunColumn("state", "", 1, 10, 0, lambda run: state_text(run.state)),
    RunColumn("started", "run", 11, 20, 0, when),
    RunColumn("from", "from", 13, 22, 2, parent, needed=False),
    RunColumn("model", "model", 7, 22, 0, lambda run: _last(run.model)),
    RunColumn("preset", "preset", 7, 14, 1, lambda run: sanitize(run.preset or run.method)),
    RunColumn("data", "data", 7, 18, 1, lambda run: sanitize(short_name(run.data))),
    RunColumn("loss", "loss", 5, 5, 0, lambda run: compact(run.loss), True),
    RunColumn(
        CURVE,
        "loss curve",
        10,
        CURVE_POINTS,
        1,
        lambda run: sparkline(shape_values(run.shape or ""), CURVE_POINTS),
        needed=False,
    ),
    RunColumn("validation", "valid", 5, 10, 2, lambda run: compact(run.validation), True, "validation"),
    RunColumn("acquisition", "acq.", 9, 11, 0, score, True, "acquisition"),
    RunColumn(
        "retention", "ret.", 4, INTERVAL, 0, lambda run: retention(run, interval=False), True, "retention"
    ),
    RunColumn("steps", "step", 9, 11, 3, _steps, True, needed=False),
    RunColumn("peak", "peak", 8, 8, 2, lambda run: size(run.peak_bytes), True),
    RunColumn("time", "time", 5, 7, 0, lambda run: duration(run.seconds), True),
    RunColumn("tags", "tags", 8, 24, 3, tags, needed=False),
    RunColumn("note", "note", 12, 40, 4, lambda run: sanitize(run.note), needed=False),
    RunColumn("method", "method", 6, 14, 6, lambda run: sanitize(run.method), needed=False),
    RunColumn("id", "id", 15, 48, 5, lambda run: sanitize(run.id)),
)
#: Texts that differ much in length: their columns are no wider than what is in them.
FITTED = frozenset({"started", "from", "model", "preset", "data", "tags", "note", "method", "id"})
#: Runs that are looked at for that.
LOOKED_AT = 300
#: Cells of a value in the table of differences at least, where there is more than one run.
LEAST_VALUE = 24
#: Cells before the first column: the letter of a marked run.
MARK_CELLS = 2


def columns_for(
    runs: Sequence[RunSummary], columns: tuple[RunColumn, ...] = COLUMNS
) -> tuple[RunColumn, ...]:
    """The columns that these runs need: without empty ones, and none ideally wider than its texts."""
    found = []
    for column in columns:
        if column.id == CURVE:
            widest = max((len(run.shape or "") for run in runs[:LOOKED_AT]), default=0)
        elif column.id in FITTED:
            widest = max((cell_len(column.cell(run)) for run in runs[:LOOKED_AT]), default=0)
        else:
            widest = column.ideal
        if widest or column.needed:
            found.append(replace(column, ideal=max(column.least, min(column.ideal, widest))))
    return tuple(found)


@lru_cache(maxsize=8)
def fitted_columns(width: int, columns: tuple[RunColumn, ...] = COLUMNS) -> tuple[tuple[RunColumn, int], ...]:
    """The columns that fit in ``width`` cells, with their widths: at first the least of each, then up to the
    ideal. The state as a word has priority over tags and notes. Empty while the table has no width."""
    chosen: list[RunColumn] = []
    for column in sorted(columns, key=lambda c: c.rank):
        word = columns[0].ideal - columns[0].least if column.rank > 2 else 0
        if sum(c.least + 1 for c in [*chosen, column]) + word + MARK_CELLS <= width + 1:
            chosen.append(column)
    chosen = [column for column in columns if column in chosen]
    widths = [column.least for column in chosen]
    left = width - MARK_CELLS - sum(widths) - max(0, len(widths) - 1)
    if chosen and (more := chosen[0].ideal - chosen[0].least) <= left:
        widths[0], left = widths[0] + more, left - more
    while left > 0 and any(w < column.ideal for w, column in zip(widths, chosen, strict=True)):
        for place, column in enumerate(chosen):
            if left > 0 and widths[place] < column.ideal:
                widths[place], left = widths[place] + 1, left - 1
    return tuple(zip(chosen, widths, strict=True))


def head(columns: Sequence[tuple[RunColumn, int]], sorted_by: str, descending: bool) -> str:
    """The table's first line, with an arrow at the column that it is sorted by."""
    parts = []
    for column, width in columns:
        arrow = ("↓" if descending else "↑") if column.id == sorted_by else ""
        title = column.long if column.long and cell_len(column.long) + len(arrow) <= width else column.title
        if arrow and cell_len(title) + 1 > width:
            title = fit(title, width - 1)
        parts.append(fit(title + arrow, width, column.right))
    return " " * MARK_CELLS + " ".join(parts)


def row(
    run: RunSummary, columns: Sequence[tuple[RunColumn, int]], ascii_only: bool = False
) -> list[tuple[str, str]]:
    """A run's line as (text, role) pieces, without the mark."""
    pieces = []
    for number, (column, width) in enumerate(columns):
        text = column.cell(run)
        if column.id == "state" and width < column.ideal:
            text = run_state(run.state).glyph
        role = run_state(run.state).role if column.id == "state" else ""
        if column.id == CURVE:
            text, role = sparkline(shape_values(run.shape or ""), width, ascii_only=ascii_only), "train"
        if column.id == "retention" and width >= INTERVAL:
            text = retention(run)
        pieces.append((fit(text, width, column.right) + (" " if number < len(columns) - 1 else ""), role))
    return pieces


# --------------------------------------------------------------------------------------------------
# above and below the table


def top_line(
    shown: int, every: int, query: str, marked: int, sorted_by: str, descending: bool, queue: str
) -> str:
    """The number of runs, the filter, the order, and the state of the queue."""
    parts = [plural(every, "run") if shown == every else f"{shown} of {every} runs"]
    if query:
        parts.append(f"filter: {sanitize(query)}")
    if marked:
        parts.append(f"{marked} marked")
    parts.append(f"sorted by {sorted_by} {'↓' if descending else '↑'}")
    if queue:
        parts.append(sanitize(queue if "queue" in queue else f"queue: {queue}"))
    return "   ".join(parts)


def detail(run: RunSummary | None, width: int = 0, stage: int = 1) -> list[str]:
    """One run in three lines. Figures that do not fit in ``width`` cells begin the next line. ``stage``: its
    place in a line of runs that go on from one another."""
    if run is None:
        return []
    first = f"{state_text(run.state)}   {sanitize(run.id)}"
    if run.name:
        first = f"{sanitize(run.name)}   {first}"
    if run.total_steps and run.state != "queued":
        first += f"   step {run.step}/{run.total_steps}"
    figures = [f"loss {compact(run.loss)}", f"validation {compact(run.validation)}"]
    if score(run) != UNKNOWN:
        figures.append(f"acquisition {score(run, 3)} ({sanitize(metric_name(run.score_name))})")
    if retention(run) != UNKNOWN:
        figures.append(f"retention of the last probe {retention(run)}")
    if size(run.peak_bytes) != UNKNOWN:
        figures.append(f"{memory_name(sanitize(run.peak_of))} {size(run.peak_bytes)}")
    line = fitting(figures, width) if width else figures
    second, more = "   ".join(line), "   ".join(figures[len(line) :])
    third = ""
    if run.from_run:
        beside = " with a new adapter" if run.frozen_rank else ""
        third = f"stage {stage}, goes on from {sanitize(run.from_run)}{beside}   "
    third += tags(run)
    if run.sweep:
        third += f"   sweep {run.sweep_number}: {sanitize(describe(run.sweep_values))}"
    if run.message and run.state in ("failed", "crashed", "stopped"):
        third += f"   {run.state}: {sanitize(run.message)}"
    if run.note:
        third += f"   {sanitize(run.note)}"
    if run.state == "queued":
        second = f"{sanitize(run.model)} · {sanitize(run.preset)} · {sanitize(run.data)}"
        return [first, second, third.strip()]
    return [first, second, f"{more}   {third.strip()}".strip()]


# --------------------------------------------------------------------------------------------------
# comparing


def names(runs: Sequence[RunSummary], letters: Sequence[str]) -> list[str]:
    """The names of compared runs, each after its letter; a run without a name has its sweep values, or its
    time and data."""

    def name(run: RunSummary) -> str:
        unnamed = (
            describe(run.sweep_values)
            if run.sweep
            else f"{run_time(run.id)} {sanitize(short_name(run.data))}"
        )
        return sanitize(run.name or unnamed)

    return [f"{letter} {name(run)}" for run, letter in zip(runs, letters, strict=True)]


def in_lines(names: Sequence[str], width: int, most: int) -> list[list[int]]:
    """The indexes of the names in each of at most ``most`` lines, with three cells between names; names that
    do not fit are left out."""
    lines: list[list[int]] = []
    left = 0
    for number, name in enumerate(names):
        if lines and cell_len(name) + 3 <= left:
            lines[-1].append(number)
            left -= cell_len(name) + 3
        elif len(lines) < most:
            lines.append([number])
            left = width - cell_len(name)
        else:
            break
    return lines


def distinct(values: Sequence[str], width: int) -> list[str]:
    """Values that differ, such that ``width`` cells show in what: where one is longer, all lose the beginning
    that they share, at first up to a border of words."""
    if len(values) < 2 or max(map(cell_len, values)) <= width:
        return list(values)
    same = takewhile(lambda chars: len(set(chars)) == 1, zip(*values, strict=False))
    common = values[0][: sum(1 for _ in same)]
    at = max(common.rfind(border) for border in "/-_. ") + 1
    if max(len(value) for value in values) - at >= width:
        at = max(at, len(common) - width // 4)
    return [f"…{value[at:]}" if at > 1 else value for value in values]


def differences(
    rows: Sequence[tuple[str, Sequence[str]]], letters: Sequence[str], width: int, mark_key: str
) -> list[str]:
    """The fields that differ as a table: one line for each field, one column for each run. Runs that do not
    fit side by side continue in a second table below."""
    if not letters:
        return [f"Mark runs with {mark_key} on the list: their recipes are compared here."]
    if len(letters) == 1:
        return [f"To compare recipes, mark at least two runs with {mark_key} on the list."]
    if not rows:
        return ["Their recipes are the same."]
    field_width = min(30, max(len(name) for name, _ in rows))
    # so many cells for each as let all stand side by side, if that is not too few to be read
    each = max(LEAST_VALUE, (width - field_width) // len(letters) - 2)
    shown = [(name, distinct([sanitize(value) for value in values], each)) for name, values in rows]
    widths = [
        min(each, max(cell_len(letters[i]), *(cell_len(values[i]) for _, values in shown)))
        for i in range(len(letters))
    ]
    lines: list[str] = []
    first = 0
    while first < len(letters):
        last, used = first, field_width
        while last < len(letters) and (last == first or used + 2 + widths[last] <= width):
            used += 2 + max(widths[last], 1)
            last += 1
        room = max(4, width - field_width - 2)
        picked = range(first, last)
        lines += [""] if lines else []
        for name, cells in [("", letters), *shown]:
            row = [fit(cells[i], min(room, widths[i])) for i in picked]
            lines.append("  ".join([fit(name, field_width), *row]).rstrip())
        first = last
    return lines


#: The columns of a sweep after its values: (title, short title, cell, cell in a narrow window).
_Cell = Callable[[RunSummary], str]
_CELLS: dict[str, _Cell] = {column.id: column.cell for column in COLUMNS}
_SWEEP: tuple[tuple[str, str, _Cell, _Cell], ...] = (
    ("run", "run", when, when),
    ("state", "", lambda run: run.state, lambda run: run_state(run.state).glyph),
    ("loss", "loss", _CELLS["loss"], _CELLS["loss"]),
    ("validation", "valid", _CELLS["validation"], _CELLS["validation"]),
    ("acquisition", "acquis.", score, score),
    ("retention", "ret.", retention, _CELLS["retention"]),
    ("peak memory", "peak", _CELLS["peak"], _CELLS["peak"]),
    ("time", "time", _CELLS["time"], _CELLS["time"]),
)
#: The columns of the criteria.
_CRITERIA = {"validation": 3, "acquisition": 4, "retention": 5, "time": 7}


def sweep_lines(runs: Sequence[RunSummary], best: str, criterion: str, width: int) -> list[tuple[str, bool]]:
    """The table of a sweep: (line, whether it is the best run). In a narrow window figures have no intervals;
    then columns are left out, but never the values and the criterion."""
    if not runs:
        return [
            ("The selected run is not part of a sweep.", False),
            ("tui-lab train --sweep learning_rate=1e-4,2e-4 lora_r=8,16 makes one.", False),
        ]
    keys = list(runs[0].sweep_values)
    tables = []
    for title, cell in ((0, 2), (1, 3)):
        titles = ["", *map(sanitize, keys), *(str(column[title]) for column in _SWEEP)]
        rows = [
            [BEST if run.id == best else ""]
            + [sanitize(format_value(run.sweep_values.get(key, UNKNOWN))) for key in keys]
            + [column[cell](run) for column in _SWEEP]  # type: ignore[operator]
            for run in runs
        ]
        tables.append([titles, *rows])
    first = 1 + len(keys)  # of the figures; before them mark and values, which always stay
    places = dict.fromkeys((1, _CRITERIA[criterion], 3, 4, 5, 7, 6, 2, 0))
    order = [*range(first), *(first + place for place in places)]
    table, shown = tables[0], _columns_that_fit(tables[0], order, width)
    if len(shown) < len(table[0]) - 1:  # more than the run's name is missing
        table, shown = tables[1], _columns_that_fit(tables[1], order, width)
    right = set(range(1, len(table[0]))) - {first, first + 1, first + 4}
    widths = [max(cell_len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = ["  ".join(fit(line[i], widths[i], i in right) for i in shown).rstrip() for line in table]
    return [(lines[0], False), *((line, run.id == best) for line, run in zip(lines[1:], runs, strict=True))]


def _columns_that_fit(table: Sequence[Sequence[str]], order: Sequence[int], width: int) -> list[int]:
    """The indexes of the columns that fit when they are taken in ``order``; ascending."""
    shown: list[int] = []
    used = -2
    for place in order:
        more = max(cell_len(line[place]) for line in table) + 2
        if used + more <= width:
            shown.append(place)
            used += more
    return sorted(shown)


def delete_question(runs: Sequence[RunSummary], left_out: int, undo_key: str) -> str:
    """The question before runs are deleted."""
    waiting = sum(run.state == "queued" for run in runs)
    if len(runs) == 1:
        run = runs[0]
        of = f"{_last(run.model)}, {sanitize(short_name(run.data))}"
        what = f"the run {sanitize(run.name) or run_time(run.id)} ({of})"
        what = f"Remove {what} from the queue?" if waiting else f"Delete {what}?"
    else:
        what = f"Delete {len(runs)} runs?"
        what += f" {waiting} of them only wait in the queue." if waiting else ""
    what += "" if waiting == len(runs) else f" {undo_key} restores what was deleted, for {KEPT_DAYS} days."
    return what + (f" {left_out} in progress are not deleted." if left_out else "")


def is_live(run: RunSummary) -> bool:
    """Whether a process works on it."""
    return run.state not in ENDED and run.state not in ("queued", "created")
