"""What the decoder tells: one record a token, the live hypotheses of a beam search, the result of a lane.
Plain frozen records without tensors, so that a host can send them as JSON and a screen can keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tui_lab.decoding.strategies import Lane

FinishReason = Literal["stop_token", "stop_string", "length", "context", "cancelled"]


@dataclass(frozen=True)
class Alternative:
    """A token that could have come: its probability in the model, and after the lane's warping."""

    token_id: int
    text: str
    logprob: float  # of the model, natural logarithm
    warped_probability: float  # 0 where it was cut
    cut_by: str | None = None  # top_k | top_p | min_p


@dataclass(frozen=True)
class Candidate:
    """A token that contrastive search weighed: score = (1 − α)·confidence − α·penalty."""

    token_id: int
    text: str
    confidence: float  # the model's probability
    degeneration_penalty: float  # largest cosine to the hidden state of any position before
    score: float


@dataclass(frozen=True)
class TokenRecord:
    """One token of a lane."""

    lane: int
    position: int  # 0 is the first new token
    token_id: int
    text: str  # what it adds to the text; empty while a character or a stop string is unfinished
    logprob: float  # of the model before any warping, natural logarithm
    rank: int  # 1 is the model's most probable token
    entropy: float  # of the model's distribution, in nats
    alternatives: tuple[Alternative, ...] = ()  # the most probable tokens, on request
    candidates: tuple[Candidate, ...] = ()  # contrastive search, on request


@dataclass(frozen=True)
class Hypothesis:
    """One continuation that a beam search carries or has finished."""

    token_ids: tuple[int, ...]
    text: str
    score: float  # sum of log-probabilities; of a finished one divided by length ** length_penalty
    finished: bool


@dataclass(frozen=True)
class BeamRecord:
    """The hypotheses of a beam lane after a step: live ones by score, then finished ones by score."""

    lane: int
    step: int
    hypotheses: tuple[Hypothesis, ...]


@dataclass(frozen=True)
class LaneResult:
    """A lane that has ended. ``tokens`` of a beam lane are those of its best hypothesis."""

    lane: int
    description: Lane
    token_ids: tuple[int, ...]  # with the stop token, as ``generate`` returns it
    text: str  # without special tokens, cut before a stop string
    tokens: tuple[TokenRecord, ...]
    finish_reason: FinishReason
    first_token_s: float  # since the start, prefill included
    seconds: float
    score: float | None = None  # a beam lane's own score of the result

    @property
    def tok_per_s(self) -> float:
        return len(self.token_ids) / self.seconds if self.seconds > 0 else 0.0


DecodingRecord = TokenRecord | BeamRecord | LaneResult


@dataclass(frozen=True)
class DecodingRequest:
    """What to decode. ``prompt_ids`` are token ids, special tokens included."""

    prompt_ids: tuple[int, ...]
    lanes: tuple[Lane, ...]
    max_new_tokens: int = 64
    stop_ids: frozenset[int] = frozenset()
    stop_strings: tuple[str, ...] = ()
    inspect: int = 0  # how many alternatives to tell of each token; 0 tells none
