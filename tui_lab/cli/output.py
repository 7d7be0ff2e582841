"""Tables and JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from msgspec import Struct

from tui_lab.core.records import jsonable, to_json
from tui_lab.core.sanitize import sanitize

#: Seconds between two lines about a download.
DOWNLOAD_NOTE_S = 5.0
#: Blanks between two columns.
GAP = 2
#: A text is cut to less than this only after all others are cut to it.
SHORTEST_TEXT = 8
#: Cells of a progress bar, and the narrowest terminal that has room for one.
BAR_CELLS, BAR_FROM_COLUMNS = 20, 60


class Answer(Struct, tag_field="kind", kw_only=True, frozen=True):
    """What a command prints with ``-o json``: strict JSON in ASCII whose ``kind`` says which record it is,
    and ``v`` which version of it. Fields may be added within a version."""

    v: int = 1


class ErrorDetail(Struct, kw_only=True, frozen=True):
    """What went wrong, in one sentence. ``hint``: where to read on, or the usage of the command."""

    message: str
    hint: str
    exit_code: int


class CommandError(Answer, tag="error", kw_only=True, frozen=True):
    """A command could not do what it was asked; stderr has the same sentence."""

    error: ErrorDetail


def as_json(answer: Struct) -> None:
    """Prints an answer as a document."""
    print(json.dumps(jsonable(answer), ensure_ascii=True, allow_nan=False, indent=2, default=str))


def json_line(answer: Struct) -> None:
    """Prints an answer on one line."""
    print(to_json(answer), flush=True)


def note(text: str) -> None:
    """Prints a sentence on stderr, which is not part of the result."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def downloads_noted() -> Iterator[None]:
    """Inside, a download writes a note every few seconds."""
    from tui_lab.models import download

    with download.reporting(lambda progress: note(progress.text), DOWNLOAD_NOTE_S):
        yield


# --------------------------------------------------------------------------------------------------
# the terminal


def columns(stream: TextIO) -> int:
    """The width of a terminal: COLUMNS, else what the terminal says, else 80."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def width() -> int | None:
    """The width that output is cut to: that of the terminal; None in a pipe."""
    return columns(sys.stdout) if sys.stdout.isatty() else None


def print_text(text: str) -> None:
    """Prints sentences, folded between words to the width of a terminal. Folded lines are indented further
    than their sentence. In a pipe a sentence is one line."""
    import textwrap

    most = width()
    for line in text.split("\n"):
        start = line[: len(line) - len(line.lstrip())]
        if most is not None and len(start) + 20 < most < len(line):
            line = textwrap.fill(
                line.strip(),
                most,
                initial_indent=start,
                subsequent_indent=start + "  ",
                break_on_hyphens=False,
                break_long_words=False,  # paths and commands are copied
            )
        print(line, flush=True)


def has_colours(stream: TextIO) -> bool:
    """Whether colours are written: only to a terminal that can, and not with NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def cut(text: str, cells: int | None) -> str:
    """A text in at most so many cells (None: of any length), with an ellipsis where it is cut."""
    from rich.cells import cell_len, set_cell_size

    if cells is None or cell_len(text) <= cells:
        return text
    mark = _ellipsis()[:cells]
    return set_cell_size(text, cells - len(mark)).rstrip() + mark


def _ellipsis() -> str:
    try:
        "…".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeError:
        return "..."
    return "…"


# --------------------------------------------------------------------------------------------------
# tables


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Prints aligned columns, one line a row. On a terminal they are never wider than it: texts are
    cut, with an ellipsis. In a pipe nothing is cut."""
    lines = [[sanitize(cell) for cell in row] for row in (headers, *rows)]
    made = table_lines(lines, width(), right)
    if has_colours(sys.stdout):
        made[0] = f"\033[1m{made[0]}\033[0m"
    print("\n".join(made))


def table_lines(rows: Sequence[Sequence[str]], most: int | None, right: Sequence[int] = ()) -> list[str]:
    """Rows as lines of at most ``most`` cells (None: of any length), the columns ``right`` flush right."""
    from rich.cells import cell_len

    natural = [max(cell_len(row[at]) for row in rows) for at in range(len(rows[0]))]
    widths = natural if most is None else fitted(natural, most - GAP * (len(natural) - 1), right)
    lines = []
    for row in rows:
        cells = []
        for at, (text, cells_wide) in enumerate(zip(row, widths, strict=True)):
            text = cut(text, cells_wide)
            blanks = " " * (cells_wide - cell_len(text))
            cells.append(blanks + text if at in right else text + blanks)
        line = (" " * GAP).join(cells).rstrip()
        lines.append(cut(line, most))
    return lines


def fitted(natural: Sequence[int], most: int, right: Sequence[int] = ()) -> list[int]:
    """Widths of columns that add up to at most ``most``, where that has a cell for each. Texts are cut from
    the last to the first, then numbers (the columns ``right``)."""
    widths = list(natural)
    texts = [at for at in reversed(range(len(widths))) if at not in right]
    for at in texts:
        widths[at] = max(min(widths[at], SHORTEST_TEXT), widths[at] - max(0, sum(widths) - most))
    while sum(widths) > most and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


# --------------------------------------------------------------------------------------------------
# progress


class Progress:
    """Progress on stderr: on a terminal one line that is redrawn, with a bar, the count and the time left;
    else a line for each stage of the work. A count that the text has is not repeated."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        from tui_lab.core.time_left import TimeLeft

        self._terminal, self._pace = sys.stderr.isatty(), TimeLeft(clock)
        self._drawn = False
        self._stage = ""

    def on_progress(self, text: str, done: int | None = None, total: int | None = None) -> None:
        text = sanitize(text)
        if self._terminal:
            print(f"\r\033[K{self._line(text, done, total)}", end="", file=sys.stderr, flush=True)
            self._drawn = True
            return
        stage = text.partition(",")[0].partition(": ")
        key = stage[0] + (stage[2] if total else "")
        if key != self._stage:
            self._stage = key
            note(text)

    def _line(self, text: str, done: int | None, total: int | None) -> str:
        from tui_lab.core import format

        most = columns(sys.stderr) - 1  # a terminal may wrap after its last column
        if done is None or not total:
            return cut(f"{text} …", most)
        count = "" if f"{done:,} of {total:,}" in text else f"{done:,}/{total:,}"
        figures = filter(None, (count, self._pace.left(text, done, total)))
        bar = f"{format.bar(done / total, BAR_CELLS, empty='·')}  " if most >= BAR_FROM_COLUMNS else ""
        end = f"  {bar}{' · '.join(figures)}".rstrip()
        return cut(cut(text, max(1, most - len(end))) + end, most)

    def close(self) -> None:
        """Removes the redrawn line."""
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._drawn = False
