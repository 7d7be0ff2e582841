"""What the token inspector looks at, and the small parts that it is drawn with: a lane with everything known
of it, tokens as people see them, levels of surprise, bars. Pure functions; nothing here knows a screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

from rich.cells import cell_len, set_cell_size

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.records import TokenRecord
from tui_lab.decoding.strategies import Strategy, parse
from tui_lab.playground.messages import Beams, LaneDone, ScoredToken

PanelName = Literal["warping", "candidates", "beams", "models"]
TITLES: dict[PanelName, str] = {
    "warping": "Before and after warping",
    "candidates": "Candidates",
    "beams": "Hypotheses",
    "models": "Models side by side",
}
#: Surprise in bits at which a token gets the next level; 1 bit is p = 50%, 10 bits p = 0.1%.
SURPRISE_BITS = (1.0, 3.0, 6.0, 10.0)
ROLES = ("surprise-0", "surprise-1", "surprise-2", "surprise-3", "surprise-4")
GLYPHS = {"block": " ▁▃▅█", "ascii": " .-=#"}
_EIGHTHS = " ▏▎▍▌▋▊▉█"
#: A bar's whole length stands for the least of these that holds what is drawn.
_SCALES = (0.1, 0.25, 0.5, 1.0)
NO_TEXT = "▯"  # a token that adds no text: an end token, the first bytes of a character


class InspectorSpan(NamedTuple):
    """A piece of a row: its text, the semantic name of its colour, and whether it is marked."""

    text: str
    role: str = ""
    marked: bool = False


InspectorRow = tuple[InspectorSpan, ...]


@dataclass(frozen=True)
class InspectorState:
    """Everything that is known of a lane, and what of it is looked at."""

    done: LaneDone
    beams: Mapping[int, Beams] = field(default_factory=dict)  # by step
    judged: Mapping[str, Sequence[ScoredToken]] = field(default_factory=dict)
    note: str = ""  # in place of the models side by side: they are asked, or could not be
    asks: bool = False  # models can be asked
    position: int = 0
    view: PanelName = "warping"
    colour_by: str = ""  # a name of ``judged``; empty: the weights that the lane ran on
    marks: Literal["block", "ascii"] = "block"

    @property
    def tokens(self) -> tuple[TokenRecord, ...]:
        return self.done.tokens

    @property
    def views(self) -> tuple[PanelName, ...]:
        """The panels that this lane has something for."""
        found: list[PanelName] = []
        if any(token.candidates for token in self.tokens):
            found.append("candidates")
        if self.beams:
            found.append("beams")
        if any(token.alternatives for token in self.tokens):
            found.insert(0, "warping")
        if self.judged or self.note or self.asks:
            found.append("models")
        return tuple(found)

    @property
    def strategy(self) -> Strategy | None:
        """What the lane decoded with; None where its description cannot be read."""
        return _strategy(self.done.description)

    def logprob(self, token: int) -> float:
        """What the token is coloured by."""
        judged = self.judged.get(self.colour_by)
        if judged is not None and token < len(judged):
            return judged[token].logprob
        return self.tokens[token].logprob


@lru_cache(maxsize=64)
def _strategy(description: str) -> Strategy | None:
    try:
        return parse(description).strategy
    except LabError:
        return None


# ------------------------------------------------------------------ words and bars


def token_text(text: str, token_id: int = -1) -> str:
    """A token as people see it: blanks as glyphs, control characters made visible, never empty."""
    if not text:
        return f"⟨token {token_id}⟩" if token_id >= 0 else NO_TEXT
    blanks = text.replace(" ", "␣").replace("\r\n", "⏎").replace("\n", "⏎").replace("\t", "⇥")
    return sanitize(blanks)


def surprise_bits(logprob: float) -> float:
    """−log₂ p of a natural log-probability."""
    return -logprob / math.log(2) if logprob else 0.0


def level(logprob: float) -> int:
    """How surprising a token is, 0 to 4."""
    if math.isnan(logprob):
        return 0
    return sum(surprise_bits(logprob) >= edge for edge in SURPRISE_BITS)


def percent(probability: float) -> str:
    """A probability in at most six columns."""
    share = probability * 100
    if math.isnan(share):
        return "–"
    if share == 0:
        return "0%"
    if share < 0.01:
        return "<.01%"
    if share > 99.95 and share < 100:
        return ">99.9%"
    return f"{share:.2f}%" if share < 1 else f"{share:.1f}%" if share < 99.95 else "100%"


def bar(share: float, width: int, marks: str = "block") -> str:
    """A bar of ``width`` columns, filled by ``share`` of them; what is above nothing is never drawn as
    nothing."""
    if width <= 0:
        return ""
    share = 0.0 if math.isnan(share) else min(1.0, max(0.0, share))
    if marks == "ascii":
        count = max(round(share * width), int(share > 0))
        return "#" * count + " " * (width - count)
    eighths = max(round(share * width * 8), int(share > 0))
    full, rest = divmod(eighths, 8)
    return (("█" * full) + (_EIGHTHS[rest] if rest else "")).ljust(width)


def scale_for(values: Sequence[float]) -> float:
    """The probability that a whole bar stands for."""
    largest = max(values, default=0.0)
    return next((scale for scale in _SCALES if largest <= scale), 1.0)


def fit(text: str, width: int) -> str:
    """``text`` in exactly ``width`` columns, with … where it was cut."""
    if width <= 0:
        return ""
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


def padded(row: Sequence[InspectorSpan], width: int) -> InspectorRow:
    """A row in exactly ``width`` columns."""
    out: list[InspectorSpan] = []
    room = width
    for part in row:
        size = cell_len(part.text)
        if size > room:
            out.append(part._replace(text=fit(part.text, room)))
            room = 0
            break
        out.append(part)
        room -= size
    return (*out, InspectorSpan(" " * room)) if room > 0 else tuple(out)
