"""The lanes at play. Each player takes its rows of logits, decides, says what to feed next, and keeps the
account of its lane: tokens, text, records, why it ended. Sampling and greedy lanes are decided together
in ``singles``; beams and contrastive search decide here, each for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tui_lab.decoding import beams, contrastive
from tui_lab.decoding.detokenize import Decode, TextStream
from tui_lab.decoding.kv_cache import LaneCache
from tui_lab.decoding.logits import apply_repetition_penalty
from tui_lab.decoding.records import (
    Alternative,
    BeamRecord,
    Candidate,
    DecodingRecord,
    FinishReason,
    Hypothesis,
    LaneResult,
    TokenRecord,
)
from tui_lab.decoding.strategies import Beam, Contrastive, Lane

if TYPE_CHECKING:
    from tui_lab.decoding.records import DecodingRequest


#: Numbers that a lane's generator draws at a time.
_DRAWS_AT_ONCE = 64


@dataclass(frozen=True)
class Telling:
    """How lanes tell what they do."""

    decode: Decode
    tell: Callable[[DecodingRecord], None]
    inspect: int
    clock: Callable[[], float]
    begun: float


def token_stats(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probability, rank (1 is the largest) and entropy in nats, (n, 3) in float64, of one token a
    row of logits (n, V)."""
    log_probs = logits.log_softmax(-1)
    at = tokens.unsqueeze(1)
    rank = (logits > logits.gather(1, at)).sum(1) + 1
    return torch.stack(
        (log_probs.gather(1, at).squeeze(1).double(), rank.double(), entropy(log_probs)), dim=1
    )


def entropy(log_probs: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of rows of log-probabilities (n, V), (n,) in float64."""
    # the clamp makes 0 · −∞ a 0; torch.special.entr would take the logarithms again
    return -(log_probs.exp() * log_probs.clamp(min=-1e4)).sum(-1).double()


class Player:
    """What all lanes have in common."""

    def __init__(
        self,
        number: int,
        lane: Lane,
        request: DecodingRequest,
        limit: int,
        telling: Telling,
        device: torch.device,
    ) -> None:
        self.number = number
        self.lane = lane
        self.rows = lane.strategy.rows
        self.first = 0  # its first row in the batch
        self.origin = 0  # 0: the base, n: the n-th adapter
        self.request = request
        self.limit = limit
        self.telling = telling
        self.device = device
        self.tokens: list[TokenRecord] = []
        self.stream = TextStream(telling.decode, request.stop_strings)
        self.finish_reason: FinishReason | None = None
        self._first_token_s: float | None = None
        self._ended_s = 0.0

    def decide(
        self, logits: torch.Tensor, hidden: torch.Tensor | None, feed: torch.Tensor, cache: LaneCache
    ) -> None:
        """Takes the next decision and writes what its rows feed next into ``feed``."""
        raise NotImplementedError

    def elapsed_s(self) -> float:
        return self.telling.clock() - self.telling.begun

    def accept(
        self,
        token: int,
        facts: Sequence[float],
        alternatives: tuple[Alternative, ...] = (),
        candidates: tuple[Candidate, ...] = (),
    ) -> None:
        """Takes a token as the lane's next, tells it, and ends the lane where it must end."""
        if self._first_token_s is None:
            self._first_token_s = self.elapsed_s()
        # the stop token is part of the tokens and not of the text
        stop_token = token in self.request.stop_ids
        text = "" if stop_token else self.stream.push(token)
        position = len(self.tokens)
        reason: FinishReason | None = None
        if stop_token:
            reason = "stop_token"
        elif self.stream.stopped:
            reason = "stop_string"
        elif position + 1 >= self.limit:
            reason = "length" if self.limit >= self.request.max_new_tokens else "context"
        if reason:
            text += self.stream.flush()
            if self.stream.stopped and reason != "stop_token":
                reason = "stop_string"
        record = TokenRecord(
            lane=self.number,
            position=position,
            token_id=token,
            text=text,
            logprob=float(facts[0]),
            rank=int(facts[1]),
            entropy=float(facts[2]),
            alternatives=alternatives,
            candidates=candidates,
        )
        self.tokens.append(record)
        self.telling.tell(record)
        if reason:
            self.end(reason)

    def end(self, reason: FinishReason) -> None:
        """Ends the lane."""
        if reason == "cancelled":
            self.stream.flush()
        self.finish_reason = reason
        self._ended_s = self.elapsed_s()

    def result(self, score: float | None = None) -> LaneResult:
        """The account of a lane that has ended."""
        assert self.finish_reason is not None
        return LaneResult(
            lane=self.number,
            description=self.lane,
            token_ids=tuple(t.token_id for t in self.tokens),
            text=self.stream.text,
            tokens=tuple(self.tokens),
            finish_reason=self.finish_reason,
            first_token_s=self._first_token_s if self._first_token_s is not None else self._ended_s,
            seconds=self._ended_s,
            score=score,
        )


class Uniforms:
    """A lane's numbers in [0, 1), from its own generator on the CPU: the same on every device, whatever
    other lanes do and however many tokens are asked for."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._drawn: list[float] = []

    def next(self) -> float:
        if not self._drawn:
            block = torch.rand(_DRAWS_AT_ONCE, generator=self._generator, dtype=torch.float64)
            self._drawn = block.tolist()[::-1]
        return self._drawn.pop()


class SinglePlayer(Player):
    """Greedy and sampling: one row, one token a step. ``singles.Singles`` decides for all of them."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._uniforms = Uniforms(self.lane.seed or 0)

    def draw(self) -> float:
        """The lane's next number in [0, 1)."""
        return self._uniforms.next()


class ContrastivePlayer(Player):
    """Contrastive search: its rows feed the candidates; the next forward tells which of them wins."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        strategy = self.lane.strategy
        assert isinstance(strategy, Contrastive)
        self.alpha, self.k = strategy.penalty_alpha, strategy.top_k
        self._probability: torch.Tensor | None = None

    def read(self, hidden: torch.Tensor) -> None:
        """Takes the prompt's hidden states (L, H); there is room for those of the new tokens behind."""
        known = contrastive.unit(hidden)
        self._context = known.new_empty((len(known) + self.limit, known.shape[1]))
        self._context[: len(known)] = known
        self._length = len(known)

    def decide(
        self, logits: torch.Tensor, hidden: torch.Tensor | None, feed: torch.Tensor, cache: LaneCache
    ) -> None:
        rows = slice(self.first, self.first + self.rows)
        logits = logits[rows]
        winner = 0
        if self._probability is not None:
            assert hidden is not None
            winner = self._choose(contrastive.unit(hidden[rows]))
            if self.finish_reason:
                return
            cache.spread(self.first, self.rows, winner)
        self._propose(logits[winner])
        feed[rows] = self._candidates

    def _choose(self, states: torch.Tensor) -> int:
        """Takes the winner among the candidates, whose hidden states (k, H) are known now."""
        assert self._probability is not None
        scores, penalty = contrastive.score(
            self._probability, states, self._context[: self._length], self.alpha
        )
        winner = int(scores.argmax())
        self._context[self._length] = states[winner]
        self._length += 1
        told = torch.stack(
            (
                self._probability.double(),
                penalty.double(),
                scores.double(),
                *self._facts.unbind(1),
                self._candidates.double(),
            ),
            dim=1,
        ).tolist()
        weighed: tuple[Candidate, ...] = ()
        if self.telling.inspect:
            weighed = tuple(
                Candidate(int(row[6]), self.telling.decode([int(row[6])]), row[0], row[1], row[2])
                for row in told
            )
        self.accept(int(told[winner][6]), told[winner][3:6], candidates=weighed)
        return winner

    def _propose(self, logits: torch.Tensor) -> None:
        """The k most probable tokens of logits (V,) are weighed next."""
        self._probability, self._candidates = contrastive.propose(logits, self.k)
        if len(self._candidates) < self.k:  # a vocabulary smaller than k
            self._candidates = torch.nn.functional.pad(
                self._candidates, (0, self.k - len(self._candidates)), value=int(self._candidates[-1])
            )
            self._probability = torch.nn.functional.pad(
                self._probability, (0, self.k - len(self._probability)), value=-1.0
            )
        log_probs = logits.log_softmax(-1)
        ranks = torch.arange(1, self.k + 1, device=logits.device, dtype=torch.float64)
        self._facts = torch.stack(
            (log_probs[self._candidates].double(), ranks, entropy(log_probs).expand(self.k)), dim=1
        )


class BeamPlayer(Player):
    """Beam search: tells its live hypotheses at every step and its tokens when it has ended."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        strategy = self.lane.strategy
        assert isinstance(strategy, Beam)
        self.strategy = strategy
        self.state = beams.start(strategy.num_beams, self.limit)
        self._candidates = beams.candidates_needed(strategy.num_beams, len(self.request.stop_ids))
        self._seen: torch.Tensor | None = None
        self._score = 0.0

    def decide(
        self, logits: torch.Tensor, hidden: torch.Tensor | None, feed: torch.Tensor, cache: LaneCache
    ) -> None:
        rows = slice(self.first, self.first + self.rows)
        logits = logits[rows]
        plain = logits.log_softmax(-1)
        log_probs = plain
        if self.strategy.repetition_penalty != 1.0:
            if self._seen is None:
                self._seen = torch.zeros_like(logits, dtype=torch.bool)
                self._seen[:, list(set(self.request.prompt_ids))] = True
            log_probs = apply_repetition_penalty(plain, self._seen, self.strategy.repetition_penalty)

        def describe(beam: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            chosen = plain[beam, tokens]
            rank = (plain[beam] > chosen.unsqueeze(1)).sum(1) + 1
            return torch.stack((chosen.double(), rank.double(), entropy(plain)[beam]), dim=1).cpu()

        self.state, sources = beams.advance(
            self.state, self.strategy, log_probs, describe, self._stops, self._candidates
        )
        if self._first_token_s is None:
            self._first_token_s = self.elapsed_s()
        self._tell_hypotheses()
        if self.state.done:
            self._take_best()
            return
        cache.reorder(self.first, sources)
        tokens = self.state.running[:, self.state.length - 1].to(self.device)
        if self._seen is not None:
            self._seen = self._seen[sources]
            self._seen[torch.arange(self.rows), tokens] = True
        feed[rows] = tokens

    def _stops(self, ids: list[int]) -> bool:
        if ids[-1] in self.request.stop_ids:
            return True
        if not self.request.stop_strings:
            return False
        text = self.telling.decode(ids)
        return any(stop in text for stop in self.request.stop_strings)

    def _tell_hypotheses(self) -> None:
        state, decode = self.state, self.telling.decode
        live = (
            []
            if state.done
            else list(zip(state.running.tolist(), state.running_scores.tolist(), strict=True))
        )
        told = [
            Hypothesis(tuple(ids[: state.length]), decode(ids[: state.length]), score, False)
            for ids, score in live
            if score > -1e8  # not yet part of the search
        ]
        for at in range(self.rows):
            if bool(state.is_finished[at]):
                ids = state.finished[at, : int(state.finished_lengths[at])].tolist()
                told.append(Hypothesis(tuple(ids), decode(ids), float(state.finished_scores[at]), True))
        self.telling.tell(BeamRecord(self.number, state.length, tuple(told)))

    def _take_best(self) -> None:
        ids, facts, self._score = self.state.best()
        for token, row in zip(ids, facts.tolist(), strict=True):
            self.accept(token, row)
        if self.finish_reason is None:
            self.end("length" if self.limit >= self.request.max_new_tokens else "context")

    def end(self, reason: FinishReason) -> None:
        if reason == "cancelled" and self.finish_reason is None and self.state.length and not self.tokens:
            # what it would have answered if it had been asked to stop here
            ids, facts, self._score = self.state.best()
            for token, row in zip(ids, facts.tolist(), strict=True):
                self.accept(token, row)
        super().end(reason)

    def result(self, score: float | None = None) -> LaneResult:
        return super().result(self._score)
