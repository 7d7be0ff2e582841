"""The output of one lane: its tokens, text and records, and the reason why it ended. Every decoder writes
through :class:`LaneOutput`, so a lane always has a result, also if cancelled before its first token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tui_lab.decoding.detokenize import Decode, TextStream
from tui_lab.decoding.records import (
    Alternative,
    Candidate,
    DecodingRecord,
    DecodingRequest,
    FinishReason,
    LaneResult,
    TokenRecord,
)
from tui_lab.decoding.strategies import Lane


@dataclass(frozen=True)
class LaneContext:
    """What all lanes of a batch share."""

    request: DecodingRequest
    limits: tuple[int, ...]  # new tokens of each lane: as asked, or less if the model's context ends before
    device: torch.device
    decode: Decode
    emit: Callable[[DecodingRecord], None]
    elapsed_s: Callable[[], float]  # seconds since the batch started

    @property
    def limit(self) -> int:
        """New tokens of a lane at most."""
        return max(self.limits, default=0)


class LaneOutput:
    """Collects the tokens of a lane, emits a record for each, and ends the lane at a stop or at the limit."""

    def __init__(self, lane_id: int, number: int, context: LaneContext) -> None:
        """``number``: the position of the lane in its request."""
        self.lane_id = lane_id
        self.lane: Lane = context.request.lanes[number]
        self.prompt = context.request.prompt_of(number)  # token ids
        self.limit = context.limits[number]
        self.context = context
        self._asked = context.request.limit_of(number)
        self.tokens: list[TokenRecord] = []
        self.finish_reason: FinishReason | None = None
        self._stream = TextStream(context.decode, context.request.stops_of(number))
        self._first_token_s: float | None = None
        self._ended_s = 0.0

    def mark_first_token(self) -> None:
        """Takes the time of the first token, once."""
        if self._first_token_s is None:
            self._first_token_s = self.context.elapsed_s()

    def append(
        self,
        token: int,
        stats: Sequence[float],
        alternatives: tuple[Alternative, ...] = (),
        candidates: tuple[Candidate, ...] = (),
    ) -> None:
        """Adds a token, emits its record, and ends the lane at a stop token, a stop string or the limit.

        ``stats``: log-probability, rank and entropy (nats) of the token."""
        self.mark_first_token()
        request, limit = self.context.request, self.limit
        # the stop token is one of the tokens but adds no text
        stop_token = token in request.stop_ids
        text = "" if stop_token else self._stream.push(token)
        position = len(self.tokens)
        reason: FinishReason | None = None
        if stop_token:
            reason = "stop_token"
        elif self._stream.stopped:
            reason = "stop_string"
        elif position + 1 >= limit:
            reason = self.limit_reason
        if reason:
            text += self._stream.flush()
            if self._stream.stopped and reason != "stop_token":
                reason = "stop_string"
        record = TokenRecord(
            lane=self.lane_id,
            position=position,
            token_id=token,
            text=text,
            logprob=float(stats[0]),
            rank=int(stats[1]),
            entropy=float(stats[2]),
            alternatives=alternatives,
            candidates=candidates,
        )
        self.tokens.append(record)
        self.context.emit(record)
        if reason:
            self.end(reason)

    @property
    def limit_reason(self) -> FinishReason:
        """The reason of a lane that reaches the limit."""
        return "length" if self.limit >= self._asked else "context"

    def end(self, reason: FinishReason) -> None:
        """Ends the lane."""
        if reason == "cancelled":
            self._stream.flush()
        self.finish_reason = reason
        self._ended_s = self.context.elapsed_s()

    def result(self, score: float | None = None) -> LaneResult:
        """The result of a lane that has ended. ``score``: that of a beam search."""
        assert self.finish_reason is not None
        return LaneResult(
            lane=self.lane_id,
            description=self.lane,
            token_ids=tuple(t.token_id for t in self.tokens),
            text=self._stream.text,
            tokens=tuple(self.tokens),
            finish_reason=self.finish_reason,
            first_token_s=self._ended_s if self._first_token_s is None else self._first_token_s,
            seconds=self._ended_s,
            score=score,
        )


def token_stats(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probability, rank (1 is the largest) and entropy in nats, (n, 3) in float64, of one token (n,) per
    row of logits (n, V)."""
    log_probs = logits.log_softmax(-1)
    index = tokens.unsqueeze(1)
    rank = (logits > logits.gather(1, index)).sum(1) + 1
    return torch.stack(
        (log_probs.gather(1, index).squeeze(1).double(), rank.double(), entropy(log_probs)), dim=1
    )


def entropy(log_probs: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of rows of log-probabilities (n, V); (n,) in float64."""
    # the clamp turns 0 · −∞ into 0; torch.special.entr would compute the logarithms again
    return -(log_probs.exp() * log_probs.clamp(min=-1e4)).sum(-1).double()
