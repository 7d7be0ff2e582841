"""Beam search of one prompt, with the bookkeeping of transformers' ``generate`` (5.23) step by step: the
same candidates, the same finished hypotheses, the same length penalty and early stopping, in the same
float32 arithmetic. The scores and hypotheses are a few numbers and stay on the CPU; only the choice of
candidates looks at the vocabulary. Pure: :func:`advance` returns a new state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tui_lab.decoding.strategies import Beam

#: What transformers adds to scores that must not win.
_NEVER = -1.0e9


@dataclass(frozen=True)
class BeamState:
    """Hypotheses of n beams, T new tokens at most. ``facts`` holds log-probability, rank and entropy of
    each token, for telling."""

    running: torch.Tensor  # (n, T) token ids
    running_facts: torch.Tensor  # (n, T, 3)
    running_scores: torch.Tensor  # (n,)
    finished: torch.Tensor  # (n, T)
    finished_facts: torch.Tensor  # (n, T, 3)
    finished_scores: torch.Tensor  # (n,)
    finished_lengths: torch.Tensor  # (n,) 0 where there is none yet
    is_finished: torch.Tensor  # (n,) bool
    can_improve: torch.Tensor  # () bool
    length: int = 0  # new tokens of the running hypotheses
    done: bool = False

    def best(self) -> tuple[list[int], torch.Tensor, float]:
        """Token ids, facts (length, 3) and score of the answer: the best finished hypothesis, or before
        there is one the best running one."""
        if bool(self.is_finished[0]):
            length = int(self.finished_lengths[0])
            ids, facts, score = self.finished[0], self.finished_facts[0], self.finished_scores[0]
        else:
            length = self.length
            ids, facts, score = self.running[0], self.running_facts[0], self.running_scores[0]
        return ids[:length].tolist(), facts[:length], float(score)


def start(num_beams: int, max_new_tokens: int) -> BeamState:
    """The state before the first token: all beams are the prompt, so all but the first are out of it."""
    ids = torch.zeros((num_beams, max_new_tokens), dtype=torch.long)
    facts = torch.zeros((num_beams, max_new_tokens, 3), dtype=torch.float64)
    scores = torch.zeros(num_beams)
    scores[1:] = -1e9
    return BeamState(
        running=ids,
        running_facts=facts,
        running_scores=scores,
        finished=ids.clone(),
        finished_facts=facts.clone(),
        finished_scores=torch.full((num_beams,), -1e9),
        finished_lengths=torch.zeros(num_beams, dtype=torch.long),
        is_finished=torch.zeros(num_beams, dtype=torch.bool),
        can_improve=torch.tensor(True),
    )


def candidates_needed(num_beams: int, stop_tokens: int) -> int:
    """How many continuations are looked at, so that enough unfinished ones are among them."""
    return max(2, 1 + stop_tokens) * num_beams


def advance(
    state: BeamState,
    strategy: Beam,
    log_probs: torch.Tensor,
    describe: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    stops: Callable[[list[int]], bool],
    candidates: int,
) -> tuple[BeamState, list[int]]:
    """One step. ``log_probs`` (n, V): of each running hypothesis' next token, penalty applied;
    ``describe(beams, tokens)``: facts (candidates, 3) of candidate tokens; ``stops(ids)``: whether a
    hypothesis ends with its last token. Returns the new state and, for each new running hypothesis, the
    beam that it goes on from."""
    n, vocabulary = log_probs.shape
    limit = state.running.shape[1]
    at = state.length
    total = (log_probs + state.running_scores.to(log_probs.device).unsqueeze(1)).reshape(-1)
    top, index = total.topk(min(candidates, total.numel()))
    beams, tokens = index // vocabulary, index % vocabulary
    facts = describe(beams, tokens)
    top, beams, tokens = top.cpu(), beams.cpu(), tokens.cpu()

    # all candidates, best first
    ids = state.running[beams]
    ids[:, at] = tokens
    told = state.running_facts[beams]
    told[:, at] = facts
    length = at + 1
    at_limit = length >= limit
    hits = torch.tensor([at_limit or stops(row) for row in ids[:, :length].tolist()])

    # the best that go on
    running_total = top + hits.to(torch.float32) * _NEVER
    chosen = running_total.topk(n).indices
    # finished ones: only those among the n best count, and only while they can still matter
    may_finish = hits & (torch.arange(len(top)) < n)
    scores = top / (length**strategy.length_penalty)
    early = strategy.early_stopping is True
    scores = scores + (state.is_finished.all() & early).to(torch.float32) * _NEVER
    scores = scores + (~state.can_improve).to(torch.float32) * _NEVER
    scores = scores + (~may_finish).to(torch.float32) * _NEVER
    merged = torch.cat((state.finished_scores, scores))
    best = merged.topk(n).indices
    lengths = torch.cat((state.finished_lengths, torch.full((len(top),), length)))
    finished_scores = merged[best]
    is_finished = torch.cat((state.is_finished, may_finish))[best]
    running_scores = running_total[chosen]

    # can the running ones still beat the worst finished one?
    hopeful = limit if strategy.early_stopping == "never" and strategy.length_penalty > 0 else length
    best_possible = running_scores[0] / (hopeful**strategy.length_penalty)
    worst = torch.where(is_finished, finished_scores.min(), -1.0e9)
    can_improve = state.can_improve & (best_possible > worst).any()
    done = not bool(can_improve) or (bool(is_finished.all()) and early) or bool(hits.all())
    new = BeamState(
        running=ids[chosen],
        running_facts=told[chosen],
        running_scores=running_scores,
        finished=torch.cat((state.finished, ids))[best],
        finished_facts=torch.cat((state.finished_facts, told))[best],
        finished_scores=finished_scores,
        finished_lengths=lengths[best],
        is_finished=is_finished,
        can_improve=can_improve,
        length=length,
        done=done,
    )
    return new, beams[chosen].tolist()
