"""From logits to a token: repetition penalty, temperature, top-k, top-p, min-p, and the draw, for all rows
in batched tensor code. The definitions are those of transformers' logits processors, applied in
``generate``'s order; each of the three cuts keeps a beginning of the tokens in falling order, so only that
beginning is ever sorted. Pure functions of tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tui_lab.decoding.strategies import Sample

#: Most probable tokens that are looked at first; rows that need more are sorted whole.
_FIRST_LOOK = 256


def apply_repetition_penalty(
    logits: torch.Tensor, seen: torch.Tensor, penalty: torch.Tensor | float
) -> torch.Tensor:
    """Repetition penalty (Keskar et al. 2019): logits (n, V) of tokens in ``seen`` (n, V) are divided by
    the penalty where positive, multiplied where negative."""
    if isinstance(penalty, torch.Tensor):
        penalty = penalty.unsqueeze(-1)
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def apply_temperature(logits: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """Logits (n, V) less their largest, divided by each row's temperature (n,): no overflow however small
    the temperature is. A temperature of 0 leaves the largest alone."""
    shifted = logits - logits.amax(-1, keepdim=True)
    tiny = torch.finfo(shifted.dtype).tiny
    return torch.where(shifted == 0, shifted, shifted / temperature.unsqueeze(-1).clamp_min(tiny))


def cutoff_counts(
    values: torch.Tensor,
    total: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many of the most probable tokens stay, for rows of logits in falling order.

    ``values`` (n, K): the K largest; ``total`` (n,): log-sum-exp over the whole vocabulary. Returns the
    counts after each cut, (3, n) for top-k, top-p and min-p, and whether K was enough, (n,)."""
    width = values.shape[1]
    places = torch.arange(width, device=values.device)
    # tokens as probable as the k-th stay too, as in transformers
    limit = torch.where(top_k > 0, top_k, width).clamp(max=width)
    kth = values.gather(1, (limit - 1).unsqueeze(1))
    by_k = torch.where(top_k > 0, (values >= kth).sum(1), width)
    enough = in_sight = (top_k > 0) & (top_k <= width) & (values[:, -1] < kth[:, 0])
    in_k = places < by_k.unsqueeze(1)
    # probabilities among what top-k left
    log_total = torch.where(
        enough, torch.where(in_k, values, -torch.inf).logsumexp(1), total.to(values.dtype)
    )
    probability = (values - log_total.unsqueeze(1)).exp() * in_k
    before = probability.cumsum(1) - probability
    by_p = torch.where(top_p < 1, (in_k & (before < top_p.unsqueeze(1))).sum(1), by_k).clamp(min=1)
    enough = enough | ((top_p < 1) & (by_p < width))
    by_min = (probability >= min_p.unsqueeze(1) * probability[:, :1]).sum(1)
    by_min = torch.where(min_p > 0, torch.minimum(by_min, by_p), by_p).clamp(min=1)
    enough |= (min_p > 0) & (probability[:, -1] < min_p * probability[:, 0])
    # top-p shares out what top-k left: while that is not all in sight, its total is not known
    enough &= ~((top_k > 0) & (top_p < 1) & ~in_sight)
    return torch.stack((by_k, by_p, by_min)), enough


def draw(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The index that each row's number in [0, 1) falls on, by the inverse of the distribution function of
    softmax(logits). logits (n, K), uniform (n,) in float64; returns (n,)."""
    steps = logits.double().softmax(-1).cumsum(-1)
    point = (uniform * steps[:, -1]).unsqueeze(1)
    return torch.searchsorted(steps, point, right=True).squeeze(1).clamp(max=logits.shape[1] - 1)


@dataclass(frozen=True)
class SamplingParameters:
    """The parameters of n sampling rows as tensors of (n,)."""

    temperature: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor

    @classmethod
    def of(cls, samples: list[Sample], device: torch.device) -> SamplingParameters:
        return cls(
            torch.tensor([s.temperature for s in samples], device=device),
            torch.tensor([s.top_k for s in samples], device=device),
            torch.tensor([s.top_p for s in samples], device=device),
            torch.tensor([s.min_p for s in samples], device=device),
        )

    def rows(self, rows: torch.Tensor) -> SamplingParameters:
        return SamplingParameters(
            self.temperature[rows], self.top_k[rows], self.top_p[rows], self.min_p[rows]
        )


def sample(
    logits: torch.Tensor, settings: SamplingParameters, uniform: torch.Tensor, cut: list[int]
) -> torch.Tensor:
    """One token a row, (n,), from logits (n, V) and numbers in [0, 1), (n,).

    ``cut``: the rows that have top-k, top-p or min-p set; the others need no sorting at all."""
    warped = apply_temperature(logits, settings.temperature)
    if not cut:
        return draw(warped, uniform)
    if len(cut) == len(warped):
        return _sample_cut(warped, settings, uniform)
    which = torch.tensor(cut, device=warped.device)
    plain = torch.tensor([i for i in range(len(warped)) if i not in set(cut)], device=warped.device)
    tokens = torch.empty(len(warped), dtype=torch.long, device=warped.device)
    tokens[plain] = draw(warped[plain], uniform[plain])
    tokens[which] = _sample_cut(warped[which], settings.rows(which), uniform[which])
    return tokens


def _sample_cut(warped: torch.Tensor, settings: SamplingParameters, uniform: torch.Tensor) -> torch.Tensor:
    width = min(_FIRST_LOOK, warped.shape[1])
    tokens, enough = _sample_among(warped, settings, uniform, width)
    if width < warped.shape[1] and not bool(enough.all()):
        rest = (~enough).nonzero().squeeze(1)
        tokens[rest], _ = _sample_among(warped[rest], settings.rows(rest), uniform[rest], warped.shape[1])
    return tokens


def _sample_among(
    warped: torch.Tensor, settings: SamplingParameters, uniform: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    if width < warped.shape[1]:
        values, order = warped.topk(width)
    else:
        values, order = warped.sort(dim=-1, descending=True)
    counts, enough = cutoff_counts(
        values, warped.logsumexp(-1), settings.top_k, settings.top_p, settings.min_p
    )
    inside = torch.arange(values.shape[1], device=values.device) < counts[-1].unsqueeze(1)
    place = draw(values.masked_fill(~inside, -torch.inf), uniform)
    return order.gather(1, place.unsqueeze(1)).squeeze(1), enough


@dataclass(frozen=True)
class WarpedDistribution:
    """What strategies make of n rows of logits, as far as anybody looks."""

    values: torch.Tensor  # (n, V) logits after the temperature
    order: torch.Tensor  # (n, K) the most probable tokens
    counts: torch.Tensor  # (3, n) how many top-k, top-p and min-p leave
    total: torch.Tensor  # (n,) log-sum-exp over what is left

    def at(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of tokens (n, m) the probability that they are drawn with, and how many of the three nested cuts
        still hold them; both (n, m)."""
        places = ids.unsqueeze(2) == self.order.unsqueeze(1)
        rank, found = places.int().argmax(2), places.any(2)
        for row, at in (~found).nonzero().tolist():  # few: mostly a token that was drawn from far down
            rank[row, at] = (self.values[row] > self.values[row, ids[row, at]]).sum()
        holding = (rank < self.counts.unsqueeze(2)).sum(0)
        probability = (self.values.gather(1, ids) - self.total.unsqueeze(1)).exp()
        return torch.where(holding == 3, probability, 0), holding


def inspect(logits: torch.Tensor, settings: SamplingParameters) -> WarpedDistribution:
    """What each row's settings make of logits (n, V), penalty applied. Sorts a row whole only when its cut
    reaches beyond the first few hundred tokens."""
    values = apply_temperature(logits.float(), settings.temperature)
    everything, size = values.logsumexp(-1), values.shape[1]
    cut = (settings.top_k > 0) | (settings.top_p < 1) | (settings.min_p > 0)
    best, order = values.topk(min(_FIRST_LOOK, size))
    counts, enough = cutoff_counts(best, everything, settings.top_k, settings.top_p, settings.min_p)
    inside = torch.arange(best.shape[1], device=best.device) < counts[-1].unsqueeze(1)
    left = best.masked_fill(~inside, -torch.inf).logsumexp(-1)
    rest = (cut & ~enough).nonzero().squeeze(1) if best.shape[1] < size else cut.new_empty(0).long()
    if len(rest):
        sorted_, own = values[rest].sort(dim=-1, descending=True)[0], settings.rows(rest)
        counts[:, rest], _ = cutoff_counts(sorted_, everything[rest], own.top_k, own.top_p, own.min_p)
        inside = torch.arange(size, device=best.device) < counts[-1, rest].unsqueeze(1)
        left[rest] = sorted_.masked_fill(~inside, -torch.inf).logsumexp(-1)
    by_k, by_p, by_min = counts
    # a cut that is off leaves what the one before left, however far that was looked at
    by_k = torch.where(settings.top_k > 0, by_k, size)
    by_p = torch.where(settings.top_p < 1, by_p, by_k)
    by_min = torch.where(settings.min_p > 0, by_min, by_p)
    return WarpedDistribution(
        values, order, torch.stack((by_k, by_p, by_min)), torch.where(cut, left, everything)
    )
