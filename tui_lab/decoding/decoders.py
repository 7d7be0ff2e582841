"""The decoders of search strategies, one lane each: beam search and contrastive search. Greedy and sampling
lanes are decoded together by :class:`~tui_lab.decoding.sampling.BatchedSampler`."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

import torch

from tui_lab.decoding import beams, contrastive
from tui_lab.decoding.kv_cache import LaneCache
from tui_lab.decoding.lane_output import LaneOutput, entropy
from tui_lab.decoding.logits import apply_repetition_penalty
from tui_lab.decoding.records import Beams, Candidate, Hypothesis, LaneResult
from tui_lab.decoding.strategies import Beam, Contrastive


@dataclass(frozen=True)
class StepOutput:
    """The output of a forward pass over R rows, and where the decoders write their choice."""

    logits: torch.Tensor  # (R, V) float32
    hidden: torch.Tensor | None  # (R, H) after the final norm; None in the prefill or if no lane needs it
    next_tokens: torch.Tensor  # (R,) written by the decoders: the input of the next forward
    cache: LaneCache


class LaneDecoder(Protocol):
    """The decoder of one lane, which owns ``rows`` consecutive rows of the batch."""

    output: LaneOutput
    rows: int

    @property
    def capture_key(self) -> Hashable:
        """What the kernels of its decisions depend on besides the contents of tensors."""

    def cancel(self) -> None:
        """Ends the lane with the tokens that it has."""

    def result(self) -> LaneResult:
        """The result of the lane; only after it has ended."""


class SearchDecoder(LaneDecoder, Protocol):
    """A decoder that chooses for its own rows."""

    needs_hidden: bool

    def start(self, hidden: torch.Tensor | None, capacity: int) -> None:
        """Takes the hidden states (L, H) of the prompt if ``needs_hidden``, and the cache's positions."""

    def tensors(self) -> list[torch.Tensor]:
        """The tensors of the device that its decisions read and write."""

    def pick(self, step: StepOutput, first: int) -> torch.Tensor:
        """Chooses on the device from the rows that begin at ``first``, without waiting for it; shapes and
        addresses are the same at every step after the first. Returns a table in float64 for :meth:`take`."""

    def take(self, step: StepOutput, first: int, table: torch.Tensor, /) -> None:
        """Completes the decision on the CPU, given the table of :meth:`pick` there."""


def make_search_decoder(output: LaneOutput) -> SearchDecoder | None:
    """The decoder of a search strategy; None for strategies that pick one token per step."""
    strategy = output.lane.strategy
    if strategy.algorithm == "beam" and isinstance(strategy, Beam):
        return BeamDecoder(output, strategy)
    if strategy.algorithm == "contrastive" and isinstance(strategy, Contrastive):
        return ContrastiveDecoder(output, strategy)
    return None


@dataclass(frozen=True)
class _Proposal:
    """The k candidates whose hidden states the next forward computes."""

    probability: torch.Tensor  # (k,)
    tokens: torch.Tensor  # (k,)
    stats: torch.Tensor  # (k, 3): log-probability, rank, entropy

    def copy_from(self, other: _Proposal) -> None:
        """Overwrites the tensors in place."""
        self.probability.copy_(other.probability)
        self.tokens.copy_(other.tokens)
        self.stats.copy_(other.stats)


class ContrastiveDecoder:
    """Contrastive search (Su et al. 2022). Each forward reads the k candidates of the step before, one per
    row; the winner is known only then, so a token is emitted one forward later than in other lanes."""

    needs_hidden = True

    def __init__(self, output: LaneOutput, strategy: Contrastive) -> None:
        self.output = output
        self.rows = strategy.rows
        self._alpha, self._k = strategy.penalty_alpha, strategy.top_k
        self._proposal: _Proposal | None = None
        self._context = torch.empty((0, 0))  # (capacity, H) unit hidden states
        self._length = 0  # filled positions of the context
        self._position = torch.empty(0)  # (1,) the same on the device

    @property
    def capture_key(self) -> Hashable:
        return "contrastive", self._alpha, self._k

    def start(self, hidden: torch.Tensor | None, capacity: int) -> None:
        """Takes the hidden states (L, H) of the prompt."""
        assert hidden is not None
        prompt = contrastive.unit(hidden)
        self._length = len(prompt)
        self._context = prompt.new_zeros((capacity, prompt.shape[1]))
        self._context[: self._length] = prompt
        self._position = torch.full((1,), self._length, dtype=torch.long, device=prompt.device)

    def tensors(self) -> list[torch.Tensor]:
        assert self._proposal is not None
        proposal = self._proposal
        return [self._context, self._position, proposal.probability, proposal.tokens, proposal.stats]

    def pick(self, step: StepOutput, first: int) -> torch.Tensor:
        """Chooses the best candidate of the step before, and proposes the k candidates of the next one. The
        table has probability, penalty, score, log-probability, rank and entropy, token, and the winner's
        index of each candidate, (k, 8); it is empty at the prompt, which has no candidates."""
        rows = slice(first, first + self.rows)
        if self._proposal is None:
            self._proposal = self._propose(step.logits[first])
            step.next_tokens[rows] = self._proposal.tokens
            return self._proposal.stats.new_empty((0, 8))
        assert step.hidden is not None
        table, winner = self._choose(self._proposal, contrastive.unit(step.hidden[rows]), step)
        step.cache.broadcast_last(first, self.rows, winner)
        self._proposal.copy_from(self._propose(step.logits[rows].index_select(0, winner)[0]))
        step.next_tokens[rows] = self._proposal.tokens
        return table

    def _propose(self, logits: torch.Tensor) -> _Proposal:
        """The k most probable tokens of logits (V,)."""
        probability, tokens = contrastive.propose(logits, self._k)
        log_probs = logits.log_softmax(-1)
        ranks = torch.arange(1, self._k + 1, device=logits.device, dtype=torch.float64)
        stats = torch.stack((log_probs[tokens].double(), ranks, entropy(log_probs).expand(self._k)), dim=1)
        return _Proposal(probability, tokens, stats)

    def _choose(
        self, proposal: _Proposal, hidden: torch.Tensor, step: StepOutput
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The table of :meth:`pick` and the index (1,) of the best candidate, given the unit hidden states
        (k, H) of all; the winner's one is added to the context."""
        context, unused = self._context[: self._length], None
        if step.cache.fixed is not None:
            context = self._context
            unused = torch.arange(len(context), device=context.device) >= self._position
        scores, penalty = contrastive.score(proposal.probability, hidden, context, self._alpha, unused)
        winner = scores.argmax(keepdim=True)
        self._context.index_copy_(0, self._position, hidden.index_select(0, winner))
        self._position += 1
        numbers = (proposal.probability, penalty, scores, *proposal.stats.unbind(1), proposal.tokens)
        columns = [column.double() for column in (*numbers, winner.expand(self._k))]
        return torch.stack(columns, dim=1), winner

    def take(self, _step: StepOutput, _first: int, table: torch.Tensor, /) -> None:
        """Appends the winner."""
        if not len(table):
            return
        self._length += 1
        rows = table.tolist()
        winner = rows[int(rows[0][7])]
        candidates: tuple[Candidate, ...] = ()
        if self.output.context.request.inspect:
            decode = self.output.context.decode
            candidates = tuple(
                Candidate(int(row[6]), decode([int(row[6])]), row[0], row[1], row[2]) for row in rows
            )
        self.output.append(int(winner[6]), winner[3:6], candidates=candidates)

    def cancel(self) -> None:
        """Ends the lane with the tokens that it has."""
        self.output.end("cancelled")

    def result(self) -> LaneResult:
        return self.output.result()


class BeamDecoder:
    """Beam search (see :mod:`~tui_lab.decoding.beams`). Emits its hypotheses at every step and its tokens
    when the search has ended."""

    needs_hidden = False

    def __init__(self, output: LaneOutput, strategy: Beam) -> None:
        self.output = output
        self.rows = strategy.rows
        self._strategy = strategy
        self._request = output.context.request
        self._state = beams.start(strategy.num_beams, output.context.limit)
        self._candidates = beams.candidates_needed(strategy.num_beams, len(self._request.stop_ids))
        self._running_scores = self._state.running_scores.to(output.context.device, copy=True)  # (n,)
        self._seen: torch.Tensor | None = None  # (n, V) tokens of each hypothesis, if penalised
        self._score = 0.0

    @property
    def capture_key(self) -> Hashable:
        return "beam", self.rows, self._strategy.repetition_penalty, self._candidates

    def start(self, hidden: torch.Tensor | None, capacity: int) -> None:
        """Takes nothing: beam search needs no hidden states (L, H)."""

    def tensors(self) -> list[torch.Tensor]:
        return [self._running_scores] if self._seen is None else [self._running_scores, self._seen]

    def pick(self, step: StepOutput, first: int) -> torch.Tensor:
        """Proposes continuations of the hypotheses: the table of :func:`beams.propose`."""
        logits = step.logits[first : first + self.rows]
        raw = log_probs = logits.log_softmax(-1)
        if self._strategy.repetition_penalty != 1.0:
            if self._seen is None:
                self._seen = torch.zeros_like(logits, dtype=torch.bool)
                self._seen[:, list(set(self.output.prompt))] = True
            log_probs = apply_repetition_penalty(raw, self._seen, self._strategy.repetition_penalty)
        return beams.propose(raw, log_probs, self._running_scores, self._candidates)

    def take(self, step: StepOutput, first: int, table: torch.Tensor, /) -> None:
        """Extends the hypotheses by one token, and reorders their rows of the cache."""
        self._state, sources = beams.advance(self._state, self._strategy, table, self._stops)
        self.output.mark_first_token()
        self._emit_hypotheses()
        if self._state.done:
            self._append_best()
            if self.output.finish_reason is None:
                self.output.end(self.output.limit_reason)
            return
        step.cache.reorder(first, sources)
        self._running_scores.copy_(self._state.running_scores)
        tokens = self._state.running[:, self._state.length - 1].to(step.next_tokens.device)
        if self._seen is not None:
            self._seen.copy_(self._seen[sources])
            self._seen[torch.arange(self.rows), tokens] = True
        step.next_tokens[first : first + self.rows] = tokens

    def _stops(self, ids: list[int]) -> bool:
        if ids[-1] in self._request.stop_ids:
            return True
        if not self._request.stop_strings:
            return False
        text = self.output.context.decode(ids)
        return any(stop in text for stop in self._request.stop_strings)

    def _emit_hypotheses(self) -> None:
        state, decode = self._state, self.output.context.decode
        hypotheses: list[Hypothesis] = []
        if not state.done:
            for ids, score in zip(state.running.tolist(), state.running_scores.tolist(), strict=True):
                if score > -1e8:  # below: a beam that does not take part yet
                    ids = ids[: state.length]
                    hypotheses.append(Hypothesis(tuple(ids), decode(ids), score, False))
        for at in range(self.rows):
            if bool(state.is_finished[at]):
                ids = state.finished[at, : int(state.finished_lengths[at])].tolist()
                hypotheses.append(Hypothesis(tuple(ids), decode(ids), float(state.finished_scores[at]), True))
        self.output.context.emit(Beams(self.output.lane_id, state.length, tuple(hypotheses)))

    def _append_best(self) -> None:
        """Appends the tokens of the best hypothesis so far."""
        ids, stats, self._score = self._state.best()
        for token, row in zip(ids, stats.tolist(), strict=True):
            self.output.append(token, row)

    def cancel(self) -> None:
        """Ends the lane with the best hypothesis so far."""
        if self._state.length:
            self._append_best()
        self.output.end("cancelled")

    def result(self) -> LaneResult:
        return self.output.result(self._score)
