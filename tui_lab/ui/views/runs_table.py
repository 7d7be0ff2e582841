"""The table of runs in words: its columns for every width, a run's cells, the lines below the table, and
the tables of differing fields and of a sweep. Pure functions; every text from a folder is made safe here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from tui_lab.core.format import UNKNOWN, compact, duration, memory_name, size
from tui_lab.core.sanitize import sanitize
from tui_lab.runs.index import RunSummary
from tui_lab.runs.queue.sweep import describe, format_value
from tui_lab.runs.queue.sweep_table import BEST, retention, score
from tui_lab.runs.state import ENDED
from tui_lab.ui.views.run_state import STATE_GLYPHS, STATE_ROLES, run_time, state_text

NOTHING_FOUND = "No run has all of these words. {runs.clear} shows every run again."


@dataclass(frozen=True)
class RunColumn:
    """A column of the table. ``id`` is what it sorts by, see :data:`tui_lab.runs.index.COLUMNS`; of the
    columns those with the least ``rank`` stay when there is no room for all."""

    id: str
    title: str
    least: int
    ideal: int
    rank: int
    cell: Callable[[RunSummary], str]
    right: bool = False


def when(run: RunSummary) -> str:
    """A run by its name, else by the time in its id."""
    if run.name:
        return sanitize(run.name)
    if run.queued:
        return f"next, {run.queued}." if run.queued > 1 else "next"
    return run_time(run.id)


def _last(text: str) -> str:
    return sanitize(text.rpartition("/")[2])


COLUMNS: tuple[RunColumn, ...] = (
    RunColumn("state", "", 1, 10, 0, lambda run: state_text(run.state)),
    RunColumn("started", "run", 11, 20, 0, when),
    RunColumn("model", "model", 7, 22, 0, lambda run: _last(run.model)),
    RunColumn("preset", "preset", 7, 14, 1, lambda run: sanitize(run.preset or run.method)),
    RunColumn("data", "data", 7, 18, 1, lambda run: _last(run.data)),
    RunColumn("loss", "loss", 5, 5, 0, lambda run: compact(run.loss), True),
    RunColumn("validation", "valid", 5, 5, 2, lambda run: compact(run.validation), True),
    RunColumn("acquisition", "score", 9, 9, 0, score, True),
    RunColumn("retention", "ret.", 4, 4, 0, lambda run: retention(run, interval=False), True),
    RunColumn("peak", "peak", 8, 8, 0, lambda run: size(run.peak_bytes), True),
    RunColumn("time", "time", 5, 7, 0, lambda run: duration(run.seconds), True),
    RunColumn("tags", "tags", 8, 24, 3, lambda run: " ".join(f"#{sanitize(tag)}" for tag in run.tags)),
    RunColumn("note", "note", 12, 40, 4, lambda run: sanitize(run.note)),
)
#: Cells before the first column: the letter of a marked run.
MARK_CELLS = 2


def fit(width: int) -> list[tuple[RunColumn, int]]:
    """The columns that fit, with their widths: first the least of each, then as much more as there is. The
    state as a word comes before tags and notes. Empty while the table has no width."""
    chosen: list[RunColumn] = []
    for column in sorted(COLUMNS, key=lambda c: c.rank):
        word = COLUMNS[0].ideal - COLUMNS[0].least if column.rank > 2 else 0
        if sum(c.least + 1 for c in [*chosen, column]) + word + MARK_CELLS <= width + 1:
            chosen.append(column)
    chosen = [column for column in COLUMNS if column in chosen]
    widths = [column.least for column in chosen]
    left = width - MARK_CELLS - sum(widths) - max(0, len(widths) - 1)
    if chosen and (more := chosen[0].ideal - chosen[0].least) <= left:
        widths[0], left = widths[0] + more, left - more
    while left > 0 and any(w < column.ideal for w, column in zip(widths, chosen, strict=True)):
        for place, column in enumerate(chosen):
            if left > 0 and widths[place] < column.ideal:
                widths[place], left = widths[place] + 1, left - 1
    return list(zip(chosen, widths, strict=True))


def cut(text: str, width: int, right: bool = False) -> str:
    """Exactly ``width`` cells of a text; an ellipsis where something is left out."""
    found = cell_len(text)
    if found > width:
        return set_cell_size(text, width - 1) + "…" if width > 1 else set_cell_size(text, width)
    return " " * (width - found) + text if right else text + " " * (width - found)


def head(columns: Sequence[tuple[RunColumn, int]], sorted_by: str, descending: bool) -> str:
    """The table's first line, with an arrow at the column that it is sorted by."""
    parts = []
    for column, width in columns:
        arrow = ("▼" if descending else "▲") if column.id == sorted_by else ""
        title = column.title
        if arrow and cell_len(title) + 1 > width:
            title = title[: width - 1]
        parts.append(cut(title + arrow, width, column.right))
    return " " * MARK_CELLS + " ".join(parts)


def row(run: RunSummary, columns: Sequence[tuple[RunColumn, int]]) -> list[tuple[str, str]]:
    """A run's line as (text, role) pieces, without the mark."""
    pieces = []
    for number, (column, width) in enumerate(columns):
        text = column.cell(run)
        if column.id == "state" and width < column.ideal:
            text = STATE_GLYPHS.get(run.state, "·")
        role = STATE_ROLES.get(run.state, "") if column.id == "state" else ""
        pieces.append((cut(text, width, column.right) + (" " if number < len(columns) - 1 else ""), role))
    return pieces


# --------------------------------------------------------------------------------------------------
# the lines around the table


def top_line(
    shown: int, every: int, query: str, marked: int, sorted_by: str, descending: bool, queue: str
) -> str:
    """How many runs, which of them, in what order, and how the queue stands."""
    runs = f"{every} run{'s' * (every != 1)}" if shown == every else f"{shown} of {every} runs"
    parts = [runs]
    if query:
        parts.append(f"filter: {sanitize(query)}")
    if marked:
        parts.append(f"{marked} marked")
    parts.append(f"sorted by {sorted_by} {'↓' if descending else '↑'}")
    if queue:
        parts.append(sanitize(queue if "queue" in queue else f"queue: {queue}"))  # named once
    return "   ".join(parts)


def detail(run: RunSummary | None, width: int = 0) -> list[str]:
    """Everything of one run that its line has no room for. What a ``width`` has no room for begins the next
    line: figures are not cut in half."""
    if run is None:
        return []
    first = f"{state_text(run.state)}   {sanitize(run.id)}"
    if run.name:
        first = f"{sanitize(run.name)}   {first}"
    if run.total_steps and run.state != "queued":
        first += f"   step {run.step}/{run.total_steps}"
    figures = [f"loss {compact(run.loss)}", f"validation {compact(run.validation)}"]
    if score(run) != UNKNOWN:
        figures.append(f"{sanitize(run.score_name)} {score(run, 3)}")
    if retention(run) != UNKNOWN:
        figures.append(f"retention {retention(run)}")
    if size(run.peak_bytes) != UNKNOWN:
        figures.append(f"{memory_name(sanitize(run.peak_of))} {size(run.peak_bytes)}")
    fit = len(figures)
    while 0 < width < cell_len("   ".join(figures[:fit])) and fit > 1:
        fit -= 1
    second, more = "   ".join(figures[:fit]), "   ".join(figures[fit:])
    third = " ".join(f"#{sanitize(tag)}" for tag in run.tags)
    if run.sweep:
        third += f"   sweep {run.sweep_number}: {sanitize(describe(run.sweep_values))}"
    if run.message and run.state in ("failed", "crashed", "stopped"):
        third += f"   {run.state}: {sanitize(run.message)}"
    if run.note:
        third += f"   {sanitize(run.note)}"
    if run.state == "queued":
        return [
            first,
            f"{sanitize(run.model)} · {sanitize(run.preset)} · {sanitize(run.data)}",
            third.strip(),
        ]
    return [first, second, f"{more}   {third.strip()}".strip()]


# --------------------------------------------------------------------------------------------------
# comparing


def names(runs: Sequence[RunSummary], letters: Sequence[str]) -> list[str]:
    """What each compared run is called beside its letter: its name, or what tells it from the others."""
    found = []
    for run, letter in zip(runs, letters, strict=True):
        name = sanitize(run.name) or (
            sanitize(describe(run.sweep_values)) if run.sweep else f"{run_time(run.id)} {_last(run.data)}"
        )
        found.append(f"{letter} {name}")
    return found


def in_lines(names: Sequence[str], width: int, most: int) -> list[list[int]]:
    """Which names stand in which line, three cells between them; what more than ``most`` lines would hold is
    left out."""
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


def differences(
    rows: Sequence[tuple[str, Sequence[str]]], letters: Sequence[str], width: int, mark_key: str
) -> list[str]:
    """The fields that differ: one line a field, one column a run; in parts below each other where the runs do
    not fit beside each other."""
    if not letters:
        return [f"Mark runs with {mark_key} on the list: their recipes are compared here."]
    if len(letters) == 1:
        return [f"To compare recipes, mark at least two runs with {mark_key} on the list."]
    if not rows:
        return ["Their recipes are the same in every field."]
    field_width = min(30, max(len(name) for name, _ in rows))
    widths = [
        min(24, max(cell_len(letters[i]), *(cell_len(sanitize(values[i])) for _, values in rows)))
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
        lines.append(
            cut("", field_width) + "".join("  " + cut(letters[i], min(room, widths[i])) for i in picked)
        )
        for name, values in rows:
            cells = "".join("  " + cut(sanitize(values[i]), min(room, widths[i])) for i in picked)
            lines.append((cut(name, field_width) + cells).rstrip())
        first = last
    return lines


#: A sweep's columns behind its values: (title in a wide window, in a narrow one, cell there, cell here).
_Cell = Callable[[RunSummary], str]
_SWEEP: tuple[tuple[str, str, _Cell, _Cell], ...] = (
    ("run", "run", when, when),
    ("state", "", lambda run: run.state, lambda run: STATE_GLYPHS.get(run.state, "·")),
    ("loss", "loss", lambda run: compact(run.loss), lambda run: compact(run.loss)),
    ("validation", "valid", lambda run: compact(run.validation), lambda run: compact(run.validation)),
    ("score", "score", lambda run: score(run), lambda run: score(run)),
    ("retention", "ret.", lambda run: retention(run), lambda run: retention(run, interval=False)),
    ("peak memory", "peak", lambda run: size(run.peak_bytes), lambda run: size(run.peak_bytes)),
    ("time", "time", lambda run: duration(run.seconds), lambda run: duration(run.seconds)),
)
#: Where the criteria stand among them.
_JUDGED = {"validation": 3, "acquisition": 4, "retention": 5, "time": 7}


def sweep_lines(runs: Sequence[RunSummary], best: str, criterion: str, width: int) -> list[tuple[str, bool]]:
    """A sweep's table: (line, whether it is the best run). Where not all fits, figures come without their
    intervals, and then columns go, the last first, but never the values and what they are judged by."""
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
    order = [*range(first), *(first + place for place in (1, _JUDGED[criterion], 3, 4, 5, 7, 6, 2, 0))]
    table, shown = tables[0], _that_fit(tables[0], list(dict.fromkeys(order)), width)
    if len(shown) < len(table[0]) - 1:  # more than the run's own name is missing
        table, shown = tables[1], _that_fit(tables[1], list(dict.fromkeys(order)), width)
    right = set(range(1, len(table[0]))) - {first, first + 1, first + 4}
    widths = [max(cell_len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = ["  ".join(cut(line[i], widths[i], i in right) for i in shown).rstrip() for line in table]
    return [(lines[0], False), *((line, run.id == best) for line, run in zip(lines[1:], runs, strict=True))]


def _that_fit(table: Sequence[Sequence[str]], order: Sequence[int], width: int) -> list[int]:
    """The columns that fit, taken in ``order``, in the table's own order."""
    shown: list[int] = []
    used = -2
    for place in order:
        more = max(cell_len(line[place]) for line in table) + 2
        if used + more <= width:
            shown.append(place)
            used += more
    return sorted(shown)


def delete_question(runs: Sequence[RunSummary], left_out: int) -> str:
    """What is asked before runs go."""
    waiting = sum(run.state == "queued" for run in runs)
    if len(runs) == 1:
        run = runs[0]
        what = f"the run {sanitize(run.name) or run_time(run.id)} ({_last(run.model)}, {_last(run.data)})"
        what = f"Take {what} out of the queue?" if waiting else f"Delete {what}? Its adapter goes, too."
    else:
        what = f"Delete {len(runs)} runs? Their adapters go, too."
        what += f" {waiting} of them only wait in the queue." if waiting else ""
    what += "" if waiting == len(runs) else " This cannot be taken back."
    return what + (f" {left_out} in progress stay." if left_out else "")


def is_live(run: RunSummary) -> bool:
    """Whether a process goes for it."""
    return run.state not in ENDED and run.state not in ("queued", "created")
