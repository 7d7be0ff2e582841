"""From logits to a token: repetition penalty, temperature, top-k (Fan et al. 2018), top-p (Holtzman et al.
2020), min-p (Nguyen et al. 2024) and the draw, for all rows at once. The definitions are those of
transformers' logits processors (5.23), applied in ``generate``'s order. Each of the three cutoffs keeps the
most probable tokens, so only those are sorted. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tui_lab.decoding.strategies import Sample

#: The most probable tokens that are sorted first; rows with a wider cutoff are sorted completely.
TOP_TOKENS = 256


def apply_repetition_penalty(
    logits: torch.Tensor, seen: torch.Tensor, penalty: torch.Tensor | float
) -> torch.Tensor:
    """Repetition penalty (CTRL, Keskar et al. 2019): logits (n, V) of the tokens in ``seen`` (n, V) are
    divided by the penalty, a number or (n,), if positive and multiplied by it if negative."""
    if isinstance(penalty, torch.Tensor):
        penalty = penalty.unsqueeze(-1)
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def apply_temperature(logits: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """Logits (n, V) minus their maximum, divided by the temperature (n,) of the row. Subtracting first avoids
    overflow at small temperatures; a temperature of 0 keeps only the maximum. Returns (n, V)."""
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
    """How many of the most probable tokens each cutoff keeps.

    ``values`` (n, K): the K largest logits in falling order; ``total`` (n,): log-sum-exp over the whole
    vocabulary; ``top_k``, ``top_p``, ``min_p`` (n,). Returns the counts after top-k, after top-p and after
    min-p, (3, n), and whether K tokens were enough to compute them, (n,)."""
    width = values.shape[1]
    positions = torch.arange(width, device=values.device)
    # tokens with the same logit as the k-th are kept too, as in transformers
    limit = torch.where(top_k > 0, top_k, width).clamp(max=width)
    kth = values.gather(1, (limit - 1).unsqueeze(1))
    by_k = torch.where(top_k > 0, (values >= kth).sum(1), width)
    enough = k_complete = (top_k > 0) & (top_k <= width) & (values[:, -1] < kth[:, 0])
    in_k = positions < by_k.unsqueeze(1)
    # probabilities among the tokens that top-k keeps
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
    # top-p needs the total of all tokens that top-k keeps, which is unknown if some are beyond K
    enough &= ~((top_k > 0) & (top_p < 1) & ~k_complete)
    return torch.stack((by_k, by_p, by_min)), enough


def draw(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Samples by inverting the cumulative distribution of softmax(logits): logits (n, K) and numbers in
    [0, 1), (n,) in float64, give one index per row, (n,)."""
    steps = logits.double().softmax(-1).cumsum(-1)
    point = (uniform * steps[:, -1]).unsqueeze(1)
    return torch.searchsorted(steps, point, right=True).squeeze(1).clamp(max=logits.shape[1] - 1)


@dataclass(frozen=True)
class SamplingParameters:
    """The parameters of n sampling rows as tensors (n,)."""

    temperature: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor

    @classmethod
    def of(cls, samples: list[Sample], device: torch.device) -> SamplingParameters:
        """The parameters of a list of strategies."""
        return cls(
            torch.tensor([s.temperature for s in samples], device=device),
            torch.tensor([s.top_k for s in samples], device=device),
            torch.tensor([s.top_p for s in samples], device=device),
            torch.tensor([s.min_p for s in samples], device=device),
        )

    def tensors(self) -> list[torch.Tensor]:
        """All of them."""
        return [self.temperature, self.top_k, self.top_p, self.min_p]

    def rows(self, rows: torch.Tensor) -> SamplingParameters:
        """The parameters of the rows with these indices (m,)."""
        return SamplingParameters(
            self.temperature[rows], self.top_k[rows], self.top_p[rows], self.min_p[rows]
        )


def sample(
    logits: torch.Tensor,
    parameters: SamplingParameters,
    uniform: torch.Tensor,
    split: CutoffSplit,
    width: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples one token per row from logits (n, V) with numbers in [0, 1), (n,) in float64.

    ``width``: how many of the most probable tokens of rows with a cutoff are sorted. Returns the tokens (n,)
    and whether that many were enough for them, (n,) bool; a token of another row means nothing."""
    warped = apply_temperature(logits, parameters.temperature)
    enough = torch.ones(len(warped), dtype=torch.bool, device=warped.device)
    if split.cut is None:
        return draw(warped, uniform), enough
    if split.uncut is None:
        return _sample_among(warped, parameters, uniform, width)
    tokens = torch.empty(len(warped), dtype=torch.long, device=warped.device)
    tokens.index_copy_(0, split.uncut, draw(warped[split.uncut], uniform[split.uncut]))
    found, sufficient = _sample_among(
        warped[split.cut], parameters.rows(split.cut), uniform[split.cut], width
    )
    return tokens.index_copy_(0, split.cut, found), enough.index_copy_(0, split.cut, sufficient)


def has_cutoff(strategy: Sample) -> bool:
    """Whether a strategy leaves out improbable tokens."""
    return bool(strategy.top_k or strategy.top_p < 1 or strategy.min_p > 0)


@dataclass(frozen=True)
class CutoffSplit:
    """The rows of n with top-k, top-p or min-p, and the others, which need no sorting; None: there are
    none."""

    cut: torch.Tensor | None
    uncut: torch.Tensor | None

    @classmethod
    def of(cls, samples: list[Sample], device: torch.device) -> CutoffSplit:
        """The split of a list of strategies."""
        rows = [[at for at, s in enumerate(samples) if has_cutoff(s) is wanted] for wanted in (True, False)]
        return cls(*(torch.tensor(found, device=device) if found else None for found in rows))


def _sample_among(
    warped: torch.Tensor, parameters: SamplingParameters, uniform: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    if width < warped.shape[1]:
        values, order = warped.topk(width)
    else:
        values, order = warped.sort(dim=-1, descending=True)
    counts, enough = cutoff_counts(
        values, warped.logsumexp(-1), parameters.top_k, parameters.top_p, parameters.min_p
    )
    inside = torch.arange(values.shape[1], device=values.device) < counts[-1].unsqueeze(1)
    place = draw(values.masked_fill(~inside, -torch.inf), uniform)
    if width >= warped.shape[1]:
        enough = torch.ones_like(enough)
    return order.gather(1, place.unsqueeze(1)).squeeze(1), enough


@dataclass(frozen=True)
class WarpedDistribution:
    """The distributions that n rows sample from. Only the most probable tokens are sorted."""

    values: torch.Tensor  # (n, V) logits after the temperature
    order: torch.Tensor  # (n, K) the most probable tokens
    counts: torch.Tensor  # (3, n) tokens kept after top-k, top-p and min-p
    total: torch.Tensor  # (n,) log-sum-exp over the kept tokens

    def lookup(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The sampling probability of tokens (n, m), and how many of the three nested cutoffs keep them; both
        (n, m)."""
        matches = ids.unsqueeze(2) == self.order.unsqueeze(1)
        rank, found = matches.int().argmax(2), matches.any(2)
        for row, at in (~found).nonzero().tolist():  # few: a token drawn from beyond the top K
            rank[row, at] = (self.values[row] > self.values[row, ids[row, at]]).sum()
        kept_by = (rank < self.counts.unsqueeze(2)).sum(0)
        probability = (self.values.gather(1, ids) - self.total.unsqueeze(1)).exp()
        return torch.where(kept_by == 3, probability, 0), kept_by


def inspect(logits: torch.Tensor, parameters: SamplingParameters) -> WarpedDistribution:
    """The distribution that each row samples from, given logits (n, V) with the repetition penalty. A row is
    sorted completely only if its cutoff keeps more than the first few hundred tokens."""
    values = apply_temperature(logits.float(), parameters.temperature)
    total, size = values.logsumexp(-1), values.shape[1]
    cut = (parameters.top_k > 0) | (parameters.top_p < 1) | (parameters.min_p > 0)
    best, order = values.topk(min(TOP_TOKENS, size))
    counts, enough = cutoff_counts(best, total, parameters.top_k, parameters.top_p, parameters.min_p)
    inside = torch.arange(best.shape[1], device=best.device) < counts[-1].unsqueeze(1)
    log_total = best.masked_fill(~inside, -torch.inf).logsumexp(-1)
    rest = (cut & ~enough).nonzero().squeeze(1) if best.shape[1] < size else cut.new_empty(0).long()
    if len(rest):
        sorted_, of_rest = values[rest].sort(dim=-1, descending=True)[0], parameters.rows(rest)
        counts[:, rest], _ = cutoff_counts(sorted_, total[rest], of_rest.top_k, of_rest.top_p, of_rest.min_p)
        inside = torch.arange(size, device=best.device) < counts[-1, rest].unsqueeze(1)
        log_total[rest] = sorted_.masked_fill(~inside, -torch.inf).logsumexp(-1)
    by_k, by_p, by_min = counts
    # a cutoff that is off keeps what the one before keeps, also beyond the top K
    by_k = torch.where(parameters.top_k > 0, by_k, size)
    by_p = torch.where(parameters.top_p < 1, by_p, by_k)
    by_min = torch.where(parameters.min_p > 0, by_min, by_p)
    return WarpedDistribution(
        values, order, torch.stack((by_k, by_p, by_min)), torch.where(cut, log_total, total)
    )
