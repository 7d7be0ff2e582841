"""Replacements for ``--ascii``: a table from every other character that the lab shows to an ASCII character
of the same width, so that the layout stays. Different states stay different. Characters that are not the
lab's own (a model's text, a file name) become ``?``, two where the character is two cells wide."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len

#: Glyphs of states and verdicts. Glyphs with different meanings have different replacements.
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
#: Other characters by the ASCII character that they resemble.
_SIMILAR = {
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
    **{char: plain for plain, chars in _SIMILAR.items() for char in chars},
    **{char: str(digit) for digit, char in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **{char: str(digit) for digit, char in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **_SPINNER,
    **GLYPHS,
}
UNKNOWN = "?"


def of(char: str) -> str:
    """One character in ASCII, of the same width."""
    if char < "\x80":
        return char
    if (plain := TABLE.get(char)) is not None:
        return plain
    if "─" <= char <= "╿":  # the other box characters: lines, corners and crossings
        name = unicodedata.name(char)
        if "VERTICAL" not in name and not any(word in name for word in ("UP", "DOWN", "ARC")):
            return "-"
        return "+" if any(word in name for word in ("HORIZONTAL", "LEFT", "RIGHT", "ARC")) else "|"
    if "⠀" <= char <= "⣿":
        return ":"
    if "␀" <= char <= "␡":  # the glyphs of control characters
        return "^"
    return UNKNOWN * cell_len(char)


class _Table(dict[int, str]):
    """A table for ``str.translate`` that is filled on demand."""

    def __missing__(self, key: int) -> str:
        self[key] = found = of(chr(key))
        return found


_TRANSLATE = _Table()


def to_ascii(text: str) -> str:
    """A text in ASCII, of the same width in cells."""
    if text.isascii():
        return text
    # "0.3 > 0.9" would not mean "0.3 → 0.9"
    plain = text.replace(" → ", " ->").translate(_TRANSLATE)
    cells = cell_len(text)
    # some sequences (flags, families) are narrower than the sum of their characters
    return plain if len(plain) == cells else plain[:cells].ljust(cells, UNKNOWN)
