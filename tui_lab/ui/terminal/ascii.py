"""Replacements for ``--ascii``: a table from every other character that the lab shows to an ASCII character
of the same width, so that the layout stays. Different states stay different. Characters that are not the
lab's own (a model's text, a file name) become ``?``, two where the character is two cells wide."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len

#: Glyphs of states and verdicts: no two that mean different things become the same (tests hold it).
GLYPHS = {
    "✓": "v",
    "✗": "x",
    "▶": ">",
    "‖": "=",
    "■": "#",
    "◌": "o",
    "…": ".",
    "·": "-",
    "●": "*",
    "⚑": "!",
    "✂": "/",
    "★": "+",
    "▯": "_",
    "🔎": "/ ",  # two cells wide
}
#: Everything else, by what it looks like.
_LOOKS = {
    "'": "‘’′`´",
    '"': "“”„″",
    "-": "–—−‐‑╌╍┄┅┈┉▔",
    "_": "▁␣",
    "x": "×",
    ">": "→▸▹►⟩»⇥›",
    "<": "←◂◃◄⟨«‹",
    "^": "↑▲△▴",
    "v": "↓▼▽▾",
    "$": "⏎",
    "*": "•∙◉",
    "o": "○◯°",
    "X": "⭘",
    "@": "◆◇",
    "~": "≈",
    "+": "±",
    "|": "▏▎▍▌▋▊▉▐▕┃│║╎╏┆┇┊┋",
    "#": "█▓▒▀▄▙▛▜▟▚▞",
    ".": "░▖▗▘▝⋅",
    "=": "▂▃═━▅▆▇",
    "/": "╱",
    "\\": "╲",
    "a": "α",
    "D": "Δ",
    "u": "µμ",
    "d": "δ",
    "l": "λ",
    "s": "σ",
    " ": "\u00a0\u2007\u2009\u202f\u2800",
}
#: The frames of the spinner turn in ASCII as well.
_SPINNER = dict(zip("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\|/-\\|/", strict=True))
TABLE: dict[str, str] = {
    **{char: plain for plain, chars in _LOOKS.items() for char in chars},
    **{char: str(digit) for digit, char in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **{char: str(digit) for digit, char in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **_SPINNER,
    **GLYPHS,
}
UNKNOWN = "?"


def of(char: str) -> str:
    """One character in ASCII, as wide as it was."""
    if char < "\x80":
        return char
    if (plain := TABLE.get(char)) is not None:
        return plain
    if "─" <= char <= "╿":  # the rest of the box characters are corners and crossings, some of them straight
        name = unicodedata.name(char)
        if "VERTICAL" not in name and not any(word in name for word in ("UP", "DOWN", "ARC")):
            return "-"
        return "+" if any(word in name for word in ("HORIZONTAL", "LEFT", "RIGHT", "ARC")) else "|"
    if "⠀" <= char <= "⣿":
        return ":"
    if "␀" <= char <= "␡":  # what a control character is shown as
        return "^"
    return UNKNOWN * cell_len(char)


class _Table(dict[int, str]):
    """For ``str.translate``: works a character out when it is first met."""

    def __missing__(self, key: int) -> str:
        self[key] = found = of(chr(key))
        return found


_TRANSLATE = _Table()


def to_ascii(text: str) -> str:
    """A text in ASCII, as many cells wide as it was."""
    if text.isascii():
        return text
    # "0.3 > 0.9" would say something else than "0.3 → 0.9"
    plain = text.replace(" → ", " ->").translate(_TRANSLATE)
    cells = cell_len(text)
    # a few sequences (a flag, a family) are narrower than their characters added up
    return plain if len(plain) == cells else plain[:cells].ljust(cells, UNKNOWN)
