"""Beam search of one prompt. It reproduces ``GenerationMixin._beam_search`` of transformers 5.23: the same
candidates, finished hypotheses, length penalty and early stopping, in the same float32 arithmetic. Scores and
hypotheses stay on the CPU; only :func:`propose` reads the whole vocabulary. Pure functions: :func:`advance`
returns a new state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tui_lab.decoding.lane_output import entropy
from tui_lab.decoding.strategies import Beam

#: Added to scores that must not win, as in transformers.
_NEVER = -1.0e9


@dataclass(frozen=True)
class BeamState:
    """Hypotheses of n beams with up to T new tokens. ``stats`` are log-probability, rank and entropy (nats)
    of each token."""

    running: torch.Tensor  # (n, T) token ids
    running_stats: torch.Tensor  # (n, T, 3)
    running_scores: torch.Tensor  # (n,)
    finished: torch.Tensor  # (n, T)
    finished_stats: torch.Tensor  # (n, T, 3)
    finished_scores: torch.Tensor  # (n,)
    finished_lengths: torch.Tensor  # (n,) 0 where there is none yet
    is_finished: torch.Tensor  # (n,) bool
    can_improve: torch.Tensor  # () bool
    length: int = 0  # new tokens of the running hypotheses
    done: bool = False

    def best(self) -> tuple[list[int], torch.Tensor, float]:
        """Token ids, stats (length, 3) and score of the best finished hypothesis, or of the best running one
        if none is finished."""
        if bool(self.is_finished[0]):
            length = int(self.finished_lengths[0])
            ids, stats, score = self.finished[0], self.finished_stats[0], self.finished_scores[0]
        else:
            length = self.length
            ids, stats, score = self.running[0], self.running_stats[0], self.running_scores[0]
        return ids[:length].tolist(), stats[:length], float(score)


def start(num_beams: int, max_new_tokens: int) -> BeamState:
    """The state before the first token. All beams equal the prompt, so only the first one takes part."""
    ids = torch.zeros((num_beams, max_new_tokens), dtype=torch.long)
    stats = torch.zeros((num_beams, max_new_tokens, 3), dtype=torch.float64)
    scores = torch.zeros(num_beams)
    scores[1:] = -1e9
    return BeamState(
        running=ids,
        running_stats=stats,
        running_scores=scores,
        finished=ids.clone(),
        finished_stats=stats.clone(),
        finished_scores=torch.full((num_beams,), -1e9),
        finished_lengths=torch.zeros(num_beams, dtype=torch.long),
        is_finished=torch.zeros(num_beams, dtype=torch.bool),
        can_improve=torch.tensor(True),
    )


def candidates_needed(num_beams: int, stop_tokens: int) -> int:
    """Number of continuations per step that guarantees ``num_beams`` unfinished ones, as in transformers."""
    return max(2, 1 + stop_tokens) * num_beams


def propose(
    raw: torch.Tensor, log_probs: torch.Tensor, running_scores: torch.Tensor, count: int
) -> torch.Tensor:
    """The ``count`` best continuations of n hypotheses, best first, (count, 6) in float64: total score, index
    of the hypothesis, token, and the token's log-probability, rank and entropy (nats).

    ``raw`` (n, V): log-probabilities of the next token; ``log_probs``: the same with the repetition penalty;
    ``running_scores`` (n,)."""
    vocabulary = raw.shape[1]
    total = (log_probs + running_scores.unsqueeze(1)).reshape(-1)
    top, index = total.topk(min(count, total.numel()))
    beams, tokens = index // vocabulary, index % vocabulary
    chosen = raw.reshape(-1)[index]
    rank = (raw[beams] > chosen.unsqueeze(1)).sum(1) + 1
    columns = (top, beams, tokens, chosen, rank, entropy(raw)[beams])
    return torch.stack([column.double() for column in columns], dim=1)


def advance(
    state: BeamState, strategy: Beam, candidates: torch.Tensor, stops: Callable[[list[int]], bool]
) -> tuple[BeamState, list[int]]:
    """One step of the search.

    ``candidates`` (C, 6): from :func:`propose`, on the CPU; ``stops(ids)``: whether a hypothesis ends with
    its last token. Returns the new state and, for each new running hypothesis, the index of the beam that it
    extends."""
    n, limit = state.running.shape
    at = state.length
    top, beams, tokens = candidates[:, 0].float(), candidates[:, 1].long(), candidates[:, 2].long()
    stats = candidates[:, 3:]

    # all candidates, best first
    ids = state.running[beams]
    ids[:, at] = tokens
    candidate_stats = state.running_stats[beams]
    candidate_stats[:, at] = stats
    length = at + 1
    at_limit = length >= limit
    hits = torch.tensor([at_limit or stops(row) for row in ids[:, :length].tolist()])

    # the best unfinished candidates continue
    running_total = top + hits.to(torch.float32) * _NEVER
    chosen = running_total.topk(n).indices
    # finished candidates count only among the n best, and only while the search can improve
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
    bound_length = limit if strategy.early_stopping == "never" and strategy.length_penalty > 0 else length
    best_possible = running_scores[0] / (bound_length**strategy.length_penalty)
    worst = torch.where(is_finished, finished_scores.min(), -1.0e9)
    can_improve = state.can_improve & (best_possible > worst).any()
    done = not bool(can_improve) or (bool(is_finished.all()) and early) or bool(hits.all())
    new = BeamState(
        running=ids[chosen],
        running_stats=candidate_stats[chosen],
        running_scores=running_scores,
        finished=torch.cat((state.finished, ids))[best],
        finished_stats=torch.cat((state.finished_stats, candidate_stats))[best],
        finished_scores=finished_scores,
        finished_lengths=lengths[best],
        is_finished=is_finished,
        can_improve=can_improve,
        length=length,
        done=done,
    )
    return new, beams[chosen].tolist()
