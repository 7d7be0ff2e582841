"""A small terminal: takes what a program writes and keeps what a person would see, letter by letter with its
style. It knows the sequences that full-screen programs draw with; modes and questions are passed over. It
is the tests' referee of what the lab sends, and shares no code with the lab or with Textual."""

from __future__ import annotations

import codecs
import re
import unicodedata

#: What a style is, in any order that it was set: {"1", "fg 38;5;4", …}.
Style = frozenset[str]
Cell = tuple[str, Style]
BLANK: Cell = (" ", frozenset())

_SEQUENCE = re.compile(
    r"\x1b\[(?P<private>[<-?]?)(?P<numbers>[\d;:]*)(?P<between>[ -/]*)(?P<end>[@-~])"  # CSI
    r"|\x1b\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)"  # OSC
    r"|\x1b[PX^_][^\x1b]*\x1b\\"  # strings that draw nothing
    r"|\x1b[ -/]*[0-~]"  # the rest of ESC
)
_INCOMPLETE = re.compile(r"\x1b(?:\[[<-?]?[\d;:]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)?\Z")
_ENDS_OF = {
    "22": ("1", "2"),
    "23": ("3",),
    "24": ("4",),
    "25": ("5",),
    "27": ("7",),
    "28": ("8",),
    "29": ("9",),
}


def width_of(letter: str) -> int:
    """Cells that a letter takes, as terminals count them."""
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


class Screen:
    """What stands on a terminal of ``columns`` by ``rows``."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.cells: list[list[Cell]] = [[BLANK] * columns for _ in range(rows)]
        self.x = self.y = 0
        self.style: Style = frozenset()
        self.unknown: list[str] = []  # sequences that it does not know: a test may insist on none
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    @property
    def text(self) -> str:
        """The letters, a line a row."""
        return "\n".join(self.row(y) for y in range(self.rows))

    def row(self, y: int) -> str:
        return "".join(letter for letter, _ in self.cells[y])

    def feed(self, data: bytes | str) -> None:
        """Takes more of what is written; sequences may be cut anywhere."""
        text = self._rest + (self._decoder.decode(data) if isinstance(data, bytes) else data)
        cut = _INCOMPLETE.search(text)
        text, self._rest = (text[: cut.start()], text[cut.start() :]) if cut else (text, "")
        at = 0
        for match in _SEQUENCE.finditer(text):
            self._write(text[at : match.start()])
            if match["end"]:
                self._control(match)
            at = match.end()
        self._write(text[at:])

    def _write(self, text: str) -> None:
        for letter in text:
            if letter == "\n":
                self.y = min(self.y + 1, self.rows - 1)
            elif letter == "\r":
                self.x = 0
            elif letter == "\b":
                self.x = max(0, self.x - 1)
            elif letter >= " " and letter != "\x7f":
                self._put(letter)

    def _put(self, letter: str) -> None:
        wide = width_of(letter)
        row = self.cells[self.y]
        if wide == 0:
            if self.x:
                before, style = row[self.x - 1]
                row[self.x - 1] = (before + letter, style)
            return
        if self.x + wide > self.columns:  # the lab switches wrapping off: what is beyond the edge is lost
            return
        if row[self.x][0] == "" and self.x:  # the right half of a wide letter: its left half goes
            row[self.x - 1] = (" ", row[self.x - 1][1])
        after = self.x + wide
        if after < self.columns and row[after][0] == "":
            row[after] = (" ", row[after][1])
        row[self.x] = (letter, self.style)
        if wide == 2:
            row[self.x + 1] = ("", self.style)
        self.x = after

    def _control(self, match: re.Match[str]) -> None:
        end = match["end"]
        if match["private"] or match["between"]:
            return  # modes, questions
        numbers = [int(n) if n else 0 for n in match["numbers"].replace(":", ";").split(";")]
        first = max(1, numbers[0])
        if end in "Hf":
            row, column = (*numbers, 0)[:2]
            self.y = min(max(1, row), self.rows) - 1
            self.x = min(max(1, column), self.columns) - 1
        elif end == "A":
            self.y = max(0, self.y - first)
        elif end == "B":
            self.y = min(self.rows - 1, self.y + first)
        elif end == "C":
            self.x = min(self.columns - 1, self.x + first)
        elif end == "D":
            self.x = max(0, self.x - first)
        elif end == "G":
            self.x = min(first, self.columns) - 1
        elif end == "d":
            self.y = min(first, self.rows) - 1
        elif end == "K":
            left, right = ((self.x, self.columns), (0, self.x + 1), (0, self.columns))[numbers[0]]
            self.cells[self.y][left:right] = [(" ", self._ground())] * (right - left)
        elif end == "J":
            for y in range(self.rows):
                if numbers[0] in (2, 3) or (y > self.y if numbers[0] == 0 else y < self.y):
                    self.cells[y] = [(" ", self._ground())] * self.columns
        elif end == "X":
            right = min(self.columns, self.x + first)
            self.cells[self.y][self.x : right] = [(" ", self._ground())] * (right - self.x)
        elif end == "m":
            self._restyle(match["numbers"])
        elif end not in "nthlcq":
            self.unknown.append(match[0])

    def _ground(self) -> Style:
        """What is erased gets the background that is set."""
        return frozenset(part for part in self.style if part.startswith("bg"))

    def _restyle(self, numbers: str) -> None:
        style, words = set(self.style), numbers.replace(":", ";").split(";")
        while words:
            word = words.pop(0)
            code = int(word or 0)
            if code == 0:
                style.clear()
            elif code in (38, 48, 58):
                kind = words[:1]
                count = 4 if kind == ["2"] else 2
                taken, words = words[:count], words[count:]
                name = {38: "fg", 48: "bg", 58: "ul"}[code]
                style = {part for part in style if not part.startswith(name)} | {f"{name} {';'.join(taken)}"}
            elif 30 <= code <= 37 or 90 <= code <= 97 or code == 39:
                style = {part for part in style if not part.startswith("fg")}
                style |= set() if code == 39 else {f"fg {code}"}
            elif 40 <= code <= 47 or 100 <= code <= 107 or code == 49:
                style = {part for part in style if not part.startswith("bg")}
                style |= set() if code == 49 else {f"bg {code}"}
            elif word in _ENDS_OF:
                style -= set(_ENDS_OF[word])
            else:
                style.add(str(code))
        self.style = frozenset(style)
