"""Tables and JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from tui_lab.core.sanitize import sanitize

#: Lines of a table in a pipe are not folded.
PIPE_WIDTH = 400


def as_json(value: object) -> None:
    """Prints one JSON document, strict and in ASCII."""
    from tui_lab.core.records import jsonable

    print(json.dumps(jsonable(value), ensure_ascii=True, allow_nan=False, indent=2, default=str))


def json_line(value: object) -> None:
    """Prints one line of strict JSON in ASCII."""
    from tui_lab.core.records import to_json

    print(to_json(value), flush=True)


def note(text: str) -> None:
    """Prints a sentence on stderr, which is not part of the result."""
    print(text, file=sys.stderr, flush=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Prints aligned columns: folded to the width of a terminal; in a pipe one line per row without
    colour."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else PIPE_WIDTH)
    made = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, header_style="bold")
    for index, header in enumerate(headers):
        made.add_column(header, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(sanitize(cell)) for cell in row))
    if terminal:
        console.print(made)
        return
    with console.capture() as captured:
        console.print(made)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


class Progress:
    """Progress on stderr: one line that is redrawn on a terminal, else a line per stage of the work.
    ``counted``: the texts contain the counts already."""

    def __init__(self, counted: bool = False) -> None:
        self._terminal, self._counted = sys.stderr.isatty(), counted
        self._drawn = False
        self._stage = ""

    def on_progress(self, text: str, done: int | None = None, total: int | None = None) -> None:
        text = sanitize(text)
        if self._terminal:
            count = "" if self._counted or done is None or total is None else f" {done:,}/{total:,}"
            print(f"\r\033[K{text}{count} …", end="", file=sys.stderr, flush=True)
            self._drawn = True
            return
        stage = text.partition(",")[0].partition(": ")
        key = stage[0] + (stage[2] if total else "")
        if key != self._stage:
            self._stage = key
            note(text)

    def close(self) -> None:
        """Removes the redrawn line."""
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._drawn = False
