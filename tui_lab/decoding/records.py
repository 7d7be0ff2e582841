"""The records of the decoder: one for each token, one for each step of a beam search, one for each finished
lane. They hold no tensors, so that a process can send them as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from tui_lab.decoding.strategies import Lane

FinishReason = Literal["stop_token", "stop_string", "length", "context", "cancelled"]


# array_like: these records are sent by the thousand, so they are encoded as arrays without field names


class Alternative(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A token that could have been chosen, with its probability before and after the lane's warping."""

    token_id: int
    text: str
    logprob: float  # natural logarithm of the model's probability, before warping
    warped_probability: float  # 0 where a cutoff removed the token
    cut_by: str | None = None  # top_k | top_p | min_p


class Candidate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A candidate of contrastive search: score = (1 − α)·confidence − α·degeneration_penalty."""

    token_id: int
    text: str
    confidence: float  # the model's probability
    degeneration_penalty: float  # largest cosine similarity to the hidden state of an earlier position
    score: float


class Hypothesis(msgspec.Struct, frozen=True, array_like=True):
    """One running or finished hypothesis of a beam search."""

    token_ids: tuple[int, ...]
    text: str
    score: float  # sum of log-probabilities; if finished, divided by length ** length_penalty
    finished: bool


class TokenRecord(msgspec.Struct, frozen=True):
    """One token of a lane."""

    lane: int
    position: int  # 0 is the first new token
    token_id: int
    text: str  # text that this token completes; empty inside a character or a possible stop string
    logprob: float  # natural logarithm of the model's probability, before warping
    rank: int  # 1 is the model's most probable token
    entropy: float  # of the model's distribution, in nats
    alternatives: tuple[Alternative, ...] = ()  # the most probable tokens, if requested
    candidates: tuple[Candidate, ...] = ()  # of contrastive search, if requested


class Beams(msgspec.Struct, frozen=True, tag_field="kind", tag="beams"):
    """The hypotheses of a beam lane after a step: running ones by score, then finished ones by score."""

    lane: int
    step: int
    hypotheses: tuple[Hypothesis, ...]


class ScoredToken(msgspec.Struct, frozen=True):
    """One token of a given text, scored by a model."""

    token_id: int
    logprob: float  # natural logarithm
    rank: int  # 1 is the most probable token
    entropy: float  # nats
    top: tuple[tuple[int, str, float], ...] = ()  # the most probable tokens: id, text, log-probability


@dataclass(frozen=True)
class LaneResult:
    """The result of a lane. ``tokens`` of a beam lane are those of its best hypothesis."""

    lane: int
    description: Lane
    token_ids: tuple[int, ...]  # including the stop token, as ``generate`` returns it
    text: str  # without special tokens, cut before a stop string
    tokens: tuple[TokenRecord, ...]
    finish_reason: FinishReason
    first_token_s: float  # seconds from the start of the batch, prefill included
    seconds: float
    score: float | None = None  # the search's own score, of beam lanes only

    @property
    def tok_per_s(self) -> float:
        """Tokens per second, prefill included."""
        return len(self.token_ids) / self.seconds if self.seconds > 0 else 0.0


DecodingRecord = TokenRecord | Beams | LaneResult


class DecodingSpeed(msgspec.Struct, frozen=True):
    """How fast the lanes of a request were decoded together."""

    steps: int  # forwards after the prompt
    steps_per_s: float
    tok_per_s: float  # of all lanes together, the prompt's time included
    bandwidth_share: float | None  # of the device's memory bandwidth; None where that is unknown
    captured_steps: int  # of the steps, those that ran as a CUDA graph
    reason: str = ""  # why steps ran without a graph on a device that has them

    @property
    def parts(self) -> list[str]:
        """The figures in words, the most important first; none before a step was made."""
        if not self.steps:
            return []
        shown = [f"{self.steps_per_s:,.0f} steps/s", f"{self.tok_per_s:,.0f} tok/s in all lanes"]
        if self.bandwidth_share is not None:
            shown.append(f"{self.bandwidth_share:.0%} of the bandwidth limit")
        if self.reason:
            shown.append(f"no CUDA graph: {self.reason}")
        elif self.captured_steps:
            shown.append("CUDA graph")
        return shown


@dataclass(frozen=True)
class DecodingRequest:
    """A prompt and the lanes that decode it. Lanes are numbered by their position in ``lanes``.

    Lanes may have prompts, limits and stop strings of their own: ``lane_prompts``, ``lane_limits`` and
    ``lane_stops`` have one for each lane, and ``prompt_ids`` is the first of the prompts. Only greedy and
    sampling lanes share a batch with prompts of other lengths."""

    prompt_ids: tuple[int, ...]  # special tokens included
    lanes: tuple[Lane, ...]
    max_new_tokens: int = 64
    stop_ids: frozenset[int] = frozenset()
    stop_strings: tuple[str, ...] = ()
    inspect: int = 0  # number of alternatives to record for each token; 0 records none
    lane_prompts: tuple[tuple[int, ...], ...] = ()  # none: all lanes have prompt_ids
    lane_limits: tuple[int, ...] = ()  # none: all lanes have max_new_tokens
    lane_stops: tuple[tuple[str, ...], ...] = ()  # none: all lanes have stop_strings

    def prompt_of(self, number: int) -> tuple[int, ...]:
        """The prompt of a lane."""
        return self.lane_prompts[number] if self.lane_prompts else self.prompt_ids

    def limit_of(self, number: int) -> int:
        """The new tokens of a lane at most."""
        return self.lane_limits[number] if self.lane_limits else self.max_new_tokens

    def stops_of(self, number: int) -> tuple[str, ...]:
        """The strings that end the answer of a lane."""
        return self.lane_stops[number] if self.lane_stops else self.stop_strings

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(self.prompt_ids), *map(len, self.lane_prompts), 0)

    @property
    def is_ragged(self) -> bool:
        """Whether prompts have different lengths."""
        return any(len(prompt) != len(self.prompt_ids) for prompt in self.lane_prompts)

    def of_lanes(self, numbers: Sequence[int]) -> DecodingRequest:
        """The request of some of the lanes."""
        return replace(
            self,
            prompt_ids=self.prompt_of(numbers[0]),
            lanes=tuple(self.lanes[number] for number in numbers),
            lane_prompts=tuple(self.prompt_of(number) for number in numbers) if self.lane_prompts else (),
            lane_limits=tuple(self.limit_of(number) for number in numbers) if self.lane_limits else (),
            lane_stops=tuple(self.stops_of(number) for number in numbers) if self.lane_stops else (),
        )


@dataclass(frozen=True)
class LaneGroup:
    """Lanes with the same prompt, and their ids in records and results."""

    request: DecodingRequest
    lane_ids: tuple[int, ...]
