"""The lanes that take one token a step, greedy and sampling, decided together: one set of tensor
operations for all of them and one transfer of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tui_lab.decoding.decoders import SinglePlayer, token_stats
from tui_lab.decoding.detokenize import Decode
from tui_lab.decoding.logits import SamplingParameters, apply_repetition_penalty, inspect, sample
from tui_lab.decoding.records import Alternative
from tui_lab.decoding.strategies import Greedy, Sample

if TYPE_CHECKING:
    from tui_lab.decoding.records import DecodingRequest

_GREEDY = Sample(temperature=0.0)
#: By which cut a token was left out, by how many of the three nested cuts still held it: 3 is all.
_CUT_BY = ("top_k", "top_p", "min_p", None)


@dataclass(frozen=True)
class SamplingPlan:
    """How n rows pick their token: which of them draw, with what settings, which are penalised."""

    drawing: list[int]
    cut: list[int]  # of the drawing rows, those with a cut
    settings: SamplingParameters | None
    penalised: list[int]
    penalty: torch.Tensor | None

    @classmethod
    def of(cls, strategies: Sequence[Greedy | Sample], device: torch.device) -> SamplingPlan:
        samples = {
            at: s
            for at, s in enumerate(strategies)
            if isinstance(s, Sample) and s.temperature > 0 and s.top_k != 1
        }
        cut = [i for i, s in enumerate(samples.values()) if s.top_k or s.top_p < 1 or s.min_p > 0]
        rows = [at for at, s in enumerate(strategies) if s.repetition_penalty != 1.0]
        return cls(
            drawing=list(samples),
            cut=cut,
            settings=SamplingParameters.of(list(samples.values()), device) if samples else None,
            penalised=rows,
            penalty=torch.tensor([strategies[at].repetition_penalty for at in rows], device=device),
        )


def pick(
    logits: torch.Tensor, plan: SamplingPlan, uniform: torch.Tensor, seen: torch.Tensor | None = None
) -> torch.Tensor:
    """One token a row, (n,), from logits (n, V).

    ``uniform``: a number in [0, 1) for each drawing row, in float64; ``seen`` (p, V): the tokens that the
    penalised rows hold already."""
    if seen is not None and plan.penalty is not None:
        logits = logits.clone()
        logits[plan.penalised] = apply_repetition_penalty(logits[plan.penalised], seen, plan.penalty)
    tokens = logits.argmax(-1)
    if plan.settings is not None:
        tokens[plan.drawing] = sample(logits[plan.drawing], plan.settings, uniform, plan.cut)
    return tokens


class BatchedSampler:
    """All one-row lanes of a batch, as long as none of them ends."""

    def __init__(self, players: list[SinglePlayer], request: DecodingRequest, device: torch.device) -> None:
        self._players = players
        self._request = request
        self._device = device
        # beam search over one beam and contrastive search with α = 0 or k = 1 are greedy
        self._strategies = [
            s
            if isinstance(s := p.lane.strategy, Greedy | Sample)
            else Greedy(getattr(s, "repetition_penalty", 1.0))
            for p in players
        ]
        self._rows = torch.tensor([p.first for p in players], device=device)
        self._plan = SamplingPlan.of(self._strategies, device)
        self._seen: torch.Tensor | None = None
        self._texts: dict[int, str] = {}  # of single tokens, for alternatives
        samples = [s if isinstance(s, Sample) else _GREEDY for s in self._strategies]
        self._all = SamplingParameters.of(samples, device)  # of all rows, greedy ones too

    def decide(self, logits: torch.Tensor, feed: torch.Tensor) -> None:
        """Every lane's next token from the batch's logits (R, V); writes it into ``feed``."""
        logits = logits[self._rows]
        plan = self._plan
        if plan.penalised and self._seen is None:
            self._seen = self._tokens_so_far(logits.shape[-1])
        draws = [self._players[at].draw() for at in plan.drawing]
        uniform = torch.tensor(draws, dtype=torch.float64, device=self._device)
        tokens = pick(logits, plan, uniform, self._seen)
        if self._seen is not None:
            self._seen[torch.arange(len(self._seen)), tokens[plan.penalised]] = True
        feed[self._rows] = tokens
        told = torch.cat((tokens.double().unsqueeze(1), token_stats(logits, tokens)), dim=1).tolist()
        shown: Sequence[tuple[Alternative, ...]] = [()] * len(self._players)
        if self._request.inspect:
            shown = self._alternatives(logits, tokens)
        for player, (token, *facts), others in zip(self._players, told, shown, strict=True):
            player.accept(int(token), facts, alternatives=others)

    def _tokens_so_far(self, vocabulary: int) -> torch.Tensor:
        seen = torch.zeros((len(self._plan.penalised), vocabulary), dtype=torch.bool, device=self._device)
        for row, at in enumerate(self._plan.penalised):
            ids = {*self._request.prompt_ids, *(t.token_id for t in self._players[at].tokens)}
            seen[row, list(ids)] = True
        return seen

    def _alternatives(self, logits: torch.Tensor, tokens: torch.Tensor) -> list[tuple[Alternative, ...]]:
        """What else could have come, for every row of logits (n, V) and its token (n,)."""
        after = logits
        if self._plan.penalised:
            assert self._plan.penalty is not None
            # as before this token came, which is already among those that are seen
            seen = self._tokens_so_far(logits.shape[-1])
            after = logits.clone()
            rows = self._plan.penalised
            after[rows] = apply_repetition_penalty(after[rows], seen, self._plan.penalty)
        decode = self._players[0].telling.decode
        return alternatives(logits, after, self._all, tokens, self._request.inspect, decode, self._texts)


def alternatives(
    logits: torch.Tensor,
    after: torch.Tensor,
    settings: SamplingParameters,
    tokens: torch.Tensor,
    count: int,
    decode: Decode,
    texts: dict[int, str],
) -> list[tuple[Alternative, ...]]:
    """For every row of logits (n, V): its ``count`` most probable tokens with what the warping made of them,
    those that only the warping brought to the front, and the token (n,) that was taken.

    ``after`` (n, V): the logits with their penalty; ``texts``: token texts that are known already."""
    count = min(count, logits.shape[1])
    look = inspect(after, settings)
    # without a penalty the order is the model's own
    first = (
        [look.order[:, :count]] if after is logits else [logits.topk(count).indices, look.order[:, :count]]
    )
    ids = torch.cat((*first, tokens.unsqueeze(1)), 1)  # (n, m)
    before = logits.gather(1, ids) - logits.logsumexp(-1, keepdim=True)
    probability, cuts = look.at(ids)
    found = []
    for facts in zip(*(t.tolist() for t in (ids, before, probability, cuts)), strict=True):
        row: dict[int, Alternative] = {}
        for token, logprob, share, cut in zip(*facts, strict=True):
            if token not in row:
                if token not in texts:
                    texts[token] = decode([token])
                row[token] = Alternative(token, texts[token], logprob, share, _CUT_BY[cut])
        found.append(tuple(row.values()))
    return found
