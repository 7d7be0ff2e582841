"""Sends only changed cells. Textual writes whole regions again, each piece with its full style, which is most
of the traffic over a slow line. A :class:`Frame` records the cells of the terminal and reduces an update to
the cells that differ, with the shortest codes.

It parses the finished text of an update and uses no internals of Textual. An update that it cannot parse
passes unchanged, and the frame is cleared, so that everything is sent again."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from rich.cells import cell_len

from tui_lab.ui.terminal.textual_internals import CompositorUpdate

_TOKENS = re.compile(
    r"\x1b\[(?P<row>\d+);(?P<column>\d+)H"
    r"|\x1b\[(?P<codes>[\d;]*)m"
    r"|\x1b\](?P<link>8;[^\x1b\x07]*;[^\x1b\x07]*)\x1b\\"
    r"|(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|(?P<line>\n)"
)
#: Unchanged cells up to this many are written again, because a cursor move takes as many bytes.
JUMP_BYTES = 5
_ATTRIBUTES = re.compile(r"(?:(?<=;)|^)([34]8;(?:2;\d+;\d+;\d+|5;\d+)|\d+)(?=;|$)")
#: An unknown cell: equal to nothing that is drawn.
_UNKNOWN = "\x00"


@dataclass(frozen=True)
class ScreenSpan:
    """Characters of one style at a position. ``cells``: one character for each cell; None when a character
    may not be one cell wide."""

    row: int
    column: int
    text: str
    style: tuple[str, str]  # codes, link
    cells: str | None
    width: int


@dataclass
class _Row:
    letters: list[str] = field(default_factory=list)
    styles: list[tuple[str, str]] = field(default_factory=list)

    def fill(self, width: int) -> None:
        if (missing := width - len(self.letters)) > 0:
            self.letters += [_UNKNOWN] * missing
            self.styles += [("", "")] * missing


class Frame:
    """The cells of the terminal, as far as they are known."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}

    def forget(self) -> None:
        """Clears the frame, because the terminal was resized or something else wrote to it."""
        self._rows.clear()

    def diff(self, data: str) -> str:
        """``data`` without the cells that the terminal shows already."""
        pieces = parse(data)
        if pieces is None:
            self.forget()
            return data
        out = _Writer()
        for run in _runs(pieces):
            row = self._rows.setdefault(run[0].row, _Row())
            _draw(row, run, out)
        return out.end()


class DiffUpdate(CompositorUpdate):
    """An update of Textual, of which only changed cells are written."""

    def __init__(self, update: CompositorUpdate, frame: Frame) -> None:
        self.update, self.frame = update, frame

    def render_segments(self, console: object) -> str:
        return self.frame.diff(self.update.render_segments(console))  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------
# reading


def parse(data: str) -> list[ScreenSpan] | None:
    """The spans that ``data`` draws, in order; None when it does anything else."""
    pieces: list[ScreenSpan] = []
    row = column = -1
    codes = link = ""
    at = 0
    for match in _TOKENS.finditer(data):
        if match.start() != at:
            return None
        at = match.end()
        kind = match.lastgroup
        if kind == "text":
            if row < 0:
                return None
            text = match["text"]
            single = _are_single(text)
            width = len(text) if single else cell_len(text)
            pieces.append(ScreenSpan(row, column, text, (codes, link), text if single else None, width))
            column += width
        elif kind == "codes":
            new = match["codes"]
            codes = "" if new in ("", "0") else f"{codes};{new}" if codes else new
        elif kind == "column":
            row, column = int(match["row"]), int(match["column"])
        elif kind == "link":
            link = "" if match["link"] == "8;;" else match["link"]
        else:  # a new line always begins with a move
            row = -1
    return pieces if at == len(data) and not codes and not link else None


@lru_cache(maxsize=4096)
def _is_single(letter: str) -> bool:
    """Whether every terminal draws this character in exactly one cell."""
    if "\x20" <= letter <= "\x7e":
        return True
    is_plain = unicodedata.category(letter) not in ("Mn", "Mc", "Me", "Cf", "Cc", "Co", "Cn", "Cs")
    return is_plain and letter < "\uffff" and cell_len(letter) == 1


def _are_single(text: str) -> bool:
    return text.isascii() or all(map(_is_single, text))


def _runs(pieces: list[ScreenSpan]) -> Iterator[list[ScreenSpan]]:
    """Adjacent spans, grouped."""
    run: list[ScreenSpan] = []
    for piece in pieces:
        if run and (piece.row != run[-1].row or piece.column != run[-1].column + run[-1].width):
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


# --------------------------------------------------------------------------------------------------
# writing


def _draw(row: _Row, run: list[ScreenSpan], out: _Writer) -> None:
    """Writes the cells of adjacent spans that differ from the row."""
    left, right = run[0].column, run[-1].column + run[-1].width
    letters: list[str] = []
    styles: list[tuple[str, str]] = []
    is_certain = True
    for piece in run:
        if piece.cells is None:
            # stored in the first cell; the terminal decides which cells its characters take
            letters += [piece.text, *[""] * (piece.width - 1)][: piece.width]
            is_certain = False
        else:
            letters += piece.cells
        styles += [piece.style] * piece.width
    row.fill(right)
    if row.letters[left:right] == letters and row.styles[left:right] == styles:
        return
    is_unknown = row.letters[left:right].count(_UNKNOWN) == right - left
    if is_certain and not is_unknown and all(map(_is_one, row.letters)):
        _differences(row, left, letters, styles, run[0].row, out)
    else:
        for piece in run:
            out.move(piece.row, piece.column)
            out.write(piece.text, piece.style, piece.width)
            if piece.cells is None:
                out.forget_position()  # the terminal may count the cells of such characters differently
        for at, letter in enumerate(row.letters):
            if not _is_one(letter):
                row.letters[at] = _UNKNOWN
    row.letters[left:right] = letters
    row.styles[left:right] = styles


def _is_one(letter: str) -> bool:
    return len(letter) == 1


def _differences(
    row: _Row, left: int, letters: list[str], styles: list[tuple[str, str]], number: int, out: _Writer
) -> None:
    """Writes the cells that differ, and short unchanged stretches between them."""
    old_letters, old_styles = row.letters, row.styles
    changed = [
        at
        for at, letter in enumerate(letters)
        if letter != old_letters[left + at] or styles[at] != old_styles[left + at]
    ]
    at = 0
    while at < len(changed):
        first = last = changed[at]
        at += 1
        while at < len(changed) and _is_shorter(letters, styles, last, changed[at]):
            last = changed[at]
            at += 1
        out.move(number, left + first)
        begin = first
        for end in range(first + 1, last + 2):
            if end > last or styles[end] != styles[begin]:
                out.write("".join(letters[begin:end]), styles[begin], end - begin)
                begin = end


def _is_shorter(letters: list[str], styles: list[tuple[str, str]], last: int, following: int) -> bool:
    """Whether writing the cells between two changed cells takes fewer bytes than a cursor move."""
    if following - last > JUMP_BYTES:
        return False
    if any(style != styles[last] for style in styles[last + 1 : following]):
        return False
    return len("".join(letters[last + 1 : following]).encode()) < JUMP_BYTES


class _Writer:
    """Writes characters at positions with as few moves and style codes as possible."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._row = self._column = -1
        self._style = ("", "")

    def move(self, row: int, column: int) -> None:
        if row == self._row and column == self._column:
            return
        by = column - self._column
        if row == self._row and by > 0:
            self._parts.append(f"\x1b[{by}C" if by > 1 else "\x1b[C")
        else:
            self._parts.append(f"\x1b[{row};{column}H" if column > 1 else f"\x1b[{row}H")
        self._row, self._column = row, column

    def forget_position(self) -> None:
        """The next move is absolute, because the position of the cursor is unknown."""
        self._row = -1

    def write(self, text: str, style: tuple[str, str], width: int) -> None:
        codes, link = style
        if link != self._style[1]:
            self._parts.append(f"\x1b]{link or '8;;'}\x1b\\")
        self._parts.append(between(self._style[0], codes))
        self._parts.append(text)
        self._style = style
        self._column += width

    def end(self) -> str:
        if self._style[1]:
            self._parts.append("\x1b]8;;\x1b\\")
        self._parts.append(between(self._style[0], ""))
        return "".join(self._parts)


@lru_cache(maxsize=4096)
def _read_codes(codes: str) -> tuple[frozenset[str], str, str]:
    """(attributes, foreground, background) that codes set."""
    attributes, front, back = set[str](), "", ""
    if "58" in codes.split(";"):  # a coloured underline is not split
        return frozenset({codes}), "", ""
    for code in _ATTRIBUTES.findall(codes):
        number = int(code.partition(";")[0])
        if number == 38 or 30 <= number <= 37 or 90 <= number <= 97:
            front = code
        elif number == 48 or 40 <= number <= 47 or 100 <= number <= 107:
            back = code
        elif number == 39:
            front = ""
        elif number == 49:
            back = ""
        else:
            attributes.add(code)
    return frozenset(attributes), front, back


@lru_cache(maxsize=4096)
def between(before: str, after: str) -> str:
    """The codes that change one style into another. Both are given as after a reset."""
    if before == after:
        return ""
    if not after:
        return "\x1b[0m"
    if not before:
        return f"\x1b[{after}m"
    old, new = _read_codes(before), _read_codes(after)
    if old[0] != new[0]:
        return f"\x1b[0;{after}m"
    codes = [
        colour or default
        for was, colour, default in ((old[1], new[1], "39"), (old[2], new[2], "49"))
        if colour != was
    ]
    return f"\x1b[{';'.join(codes)}m" if codes else ""
