"""The state of the token inspector, and the small parts that it is drawn from: token texts, levels of
surprise, bars. Pure; nothing here depends on a screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from rich.cells import cell_len

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.records import Beams, ScoredToken, TokenRecord
from tui_lab.decoding.strategies import Strategy, parse
from tui_lab.playground.messages import LaneDone
from tui_lab.ui.views.spans import InspectorSpan, fit

PanelName = Literal["warping", "candidates", "beams", "models", "aligned"]
TITLES: dict[PanelName, str] = {
    "warping": "Before and after warping",
    "candidates": "Candidates",
    "beams": "Hypotheses",
    "models": "Models side by side",
    "aligned": "Base and tuned aligned",
}
#: Surprise in bits at which the next level begins; 1 bit is p = 50 %, 10 bits p = 0.1 %.
SURPRISE_BITS = (1.0, 3.0, 6.0, 10.0)
ROLES = ("surprise-0", "surprise-1", "surprise-2", "surprise-3", "surprise-4")
GLYPHS = {"block": " ▁▃▅█", "ascii": " .-=#"}
#: Full scale of a bar: the smallest of these that is not exceeded.
_SCALES = (0.1, 0.25, 0.5, 1.0)
#: Stands for a token without text: an end token, the first bytes of a character.
NO_TEXT = "▯"


InspectorRow = tuple[InspectorSpan, ...]


@dataclass(frozen=True)
class InspectorState:
    """A decoded lane, and the position in it.

    ``beams``: hypotheses by step. ``scores_by_model``: the lane's tokens as scored by each model, by name;
    ``note`` replaces them while they are computed or unavailable. ``asks``: models can be asked.
    ``position``: index of the current token; below 0 it is in ``prompt``, the text of the prompt's tokens,
    from its end. ``theirs``: the lane that differs only in the model, with ``their_scores`` of its tokens.
    ``colour_by``: the model whose log-probabilities colour the
    text; "" for the weights that the lane ran on.
    """

    done: LaneDone
    beams: Mapping[int, Beams] = field(default_factory=dict)
    scores_by_model: Mapping[str, Sequence[ScoredToken]] = field(default_factory=dict)
    note: str = ""
    asks: bool = False
    prompt: tuple[str, ...] = ()
    theirs: LaneDone | None = None
    their_scores: Mapping[str, Sequence[ScoredToken]] = field(default_factory=dict)
    position: int = 0
    view: PanelName = "warping"
    colour_by: str = ""
    marks: Literal["block", "ascii"] = "block"

    @property
    def tokens(self) -> tuple[TokenRecord, ...]:
        return self.done.tokens

    @property
    def views(self) -> tuple[PanelName, ...]:
        """The panels for which the lane has data."""
        found: list[PanelName] = []
        if any(token.candidates for token in self.tokens):
            found.append("candidates")
        if self.beams:
            found.append("beams")
        if any(token.alternatives for token in self.tokens):
            found.insert(0, "warping")
        if self.scores_by_model or self.note or self.asks:
            found.append("models")
        if self.theirs is not None:
            found.append("aligned")
        return tuple(found)

    @property
    def strategy(self) -> Strategy | None:
        """The lane's decoding strategy; None when its description cannot be parsed."""
        return _strategy(self.done.description)

    def logprob(self, token: int) -> float:
        """Natural log-probability that colours a token."""
        scores = self.scores_by_model.get(self.colour_by)
        if scores is not None and token < len(scores):
            return scores[token].logprob
        return self.tokens[token].logprob


@lru_cache(maxsize=64)
def _strategy(description: str) -> Strategy | None:
    try:
        return parse(description).strategy
    except LabError:
        return None


# ------------------------------------------------------------------ texts and bars


def token_text(text: str, token_id: int = -1) -> str:
    """A token in one visible line: glyphs for blanks and control characters, never empty."""
    if not text:
        return f"⟨token {token_id}⟩" if token_id >= 0 else NO_TEXT
    blanks = text.replace(" ", "␣").replace("\r\n", "⏎").replace("\n", "⏎").replace("\t", "⇥")
    return sanitize(blanks)


def bits(nats: float) -> float:
    """An entropy or a log-probability in bits."""
    return nats / math.log(2)


def surprise_bits(logprob: float) -> float:
    """Surprise −log₂ p in bits, from a natural log-probability."""
    return bits(-logprob) if logprob else 0.0


def level(logprob: float) -> int:
    """Level of surprise of a natural log-probability, 0 to 4."""
    if math.isnan(logprob):
        return 0
    return sum(surprise_bits(logprob) >= edge for edge in SURPRISE_BITS)


def scale_for(values: Sequence[float]) -> float:
    """The probability of a full bar that holds all ``values``."""
    largest = max(values, default=0.0)
    return next((scale for scale in _SCALES if largest <= scale), 1.0)


def padded(row: Sequence[InspectorSpan], width: int) -> InspectorRow:
    """A row in exactly ``width`` cells: cut, or padded with blanks."""
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
