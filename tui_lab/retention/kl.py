"""KL(base ‖ tuned) by position, from a compact summary of the base's distributions.

For each position the summary has the base's 64 likeliest tokens S with their log-probabilities, the mass P_t
of all other tokens, and 8 tokens drawn from those. With q and Q_t the same of the tuned model,

    KL = Σ_S p ln(p/q) + P_t ln(P_t/Q_t) + P_t · mean over the draws of (r − 1 − ln r),  r = (q/Q_t)/(p/P_t).

The estimate is unbiased (under the base's tail the mean of r is 1 and the mean of −ln r is the tail's KL),
and all its tail terms are ≥ 0: the "k3" estimator of Schulman (2020), http://joschu.net/blog/kl-approx.html.
A position takes 0.6 kB instead of a whole vocabulary. Logits are computed a chunk at a time and only where
they are needed. Intervals are over sequences, because the tokens of a sequence are not independent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from tui_lab.core.errors import LabError
from tui_lab.data.rows import Model
from tui_lab.retention.scoring.forward import evaluation_mode, virtual_token_count
from tui_lab.retention.scoring.head import logits_in_blocks, positions_per_block

TOP, TAIL = 64, 8
#: Tokens of one forward pass. It bounds the hidden states; `positions_per_block` bounds the logits.
BATCH_TOKENS = 4_096


@dataclass(frozen=True)
class BaseDistribution:
    """The base's distributions at N positions. Log-probabilities are natural, float32; ids are int32."""

    top_ids: torch.Tensor  # (N, K)
    top_logprobs: torch.Tensor  # (N, K)
    rest_logprob: torch.Tensor  # (N,): ln P_t, −inf where the top is the whole vocabulary
    drawn_ids: torch.Tensor  # (N, M)
    drawn_logprobs: torch.Tensor  # (N, M)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors (N, …) by name, for a file."""
        return dict(vars(self))

    def part(self, begin: int, end: int) -> BaseDistribution:
        """The distributions at positions ``begin`` to ``end`` − 1."""
        return BaseDistribution(**{name: tensor[begin:end] for name, tensor in vars(self).items()})

    @staticmethod
    def joined(parts: Sequence[BaseDistribution]) -> BaseDistribution:
        """Several summaries as one, with all their positions in order."""
        return BaseDistribution(
            **{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])}
        )


def summarize(
    logits: torch.Tensor, generator: torch.Generator, top: int = TOP, tail: int = TAIL
) -> BaseDistribution:
    """The summary of the base's ``logits`` (N, V): its ``top`` likeliest tokens, the mass of the others, and
    ``tail`` tokens drawn from them by ``generator``, which is on the device of the logits."""
    logprobs = logits.float().log_softmax(-1)
    top_logprobs, top_ids = logprobs.topk(min(top, logprobs.shape[-1]), dim=-1)
    rest = logprobs.scatter(-1, top_ids, -math.inf)
    rest_logprob = rest.logsumexp(-1)
    # with an empty tail any token can be drawn: its term has the weight P_t = 0
    empty = ~torch.isfinite(rest_logprob)
    weights = torch.where(empty[:, None], 1.0, (rest - rest_logprob[:, None]).exp())
    drawn_ids = torch.multinomial(weights, tail, replacement=True, generator=generator)
    return BaseDistribution(
        top_ids.int().cpu(),
        top_logprobs.cpu(),
        rest_logprob.cpu(),
        drawn_ids.int().cpu(),
        logprobs.gather(-1, drawn_ids).cpu(),
    )


def estimate_kl(base: BaseDistribution, logits: torch.Tensor) -> torch.Tensor:
    """The estimate of KL(base ‖ now) in nats at each position (N,), float64 on the CPU, from ``logits`` (N,
    V) of the model now. Infinite or NaN where the model's logits are not finite. "k3" of Schulman (2020)."""
    device = logits.device
    top_ids, drawn_ids = base.top_ids.to(device).long(), base.drawn_ids.to(device).long()
    values = logits.float()
    total = values.logsumexp(-1)
    top = (values.gather(-1, top_ids) - total[:, None]).double().cpu()
    drawn = (values.gather(-1, drawn_ids) - total[:, None]).double().cpu()
    rest = (values.scatter(-1, top_ids, -math.inf).logsumexp(-1) - total).double().cpu()
    p_top, p_drawn, p_rest = (
        tensor.double() for tensor in (base.top_logprobs, base.drawn_logprobs, base.rest_logprob)
    )
    head = torch.where(torch.isneginf(p_top), 0.0, p_top.exp() * (p_top - top)).sum(-1)
    log_ratio = (drawn - rest[:, None]) - (p_drawn - p_rest[:, None])  # ln r
    within = (torch.expm1(log_ratio) - log_ratio).mean(-1)
    tail = p_rest.exp() * (p_rest - rest + within)
    return head + torch.where(torch.isneginf(p_rest), 0.0, tail)


# --- models -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BaseRecord:
    """The base's distributions over token sequences; ``distribution`` has one position for each token."""

    sequences: tuple[tuple[int, ...], ...]
    distribution: BaseDistribution

    def part(self, count: int, length: int) -> BaseRecord:
        """The record of the first ``length`` tokens of the first ``count`` sequences."""
        places: list[int] = []
        begin = 0
        for one in self.sequences[:count]:
            places += range(begin, begin + min(length, len(one)))
            begin += len(one)
        chosen = torch.tensor(places)
        chosen_part = {name: tensor[chosen] for name, tensor in vars(self.distribution).items()}
        sequences = tuple(one[:length] for one in self.sequences[:count])
        return BaseRecord(sequences, BaseDistribution(**chosen_part))

    @property
    def longest(self) -> int:
        """The number of tokens of the longest sequence."""
        return max(map(len, self.sequences))

    @property
    def tokens(self) -> int:
        """The number of tokens of all sequences."""
        return sum(map(len, self.sequences))


def record_base(model: Model, sequences: Sequence[Sequence[int]], seed: int) -> BaseRecord:
    """The record of a base model over ``sequences``, for :func:`kl_by_sequence`. ``seed`` draws the tails.

    Raises LabError without sequences."""
    generator: torch.Generator | None = None
    parts = []
    for logits in logits_of(model, sequences):
        if generator is None:
            generator = torch.Generator(device=logits.device).manual_seed(seed)
        parts.append(summarize(logits, generator))
    if not parts:
        raise LabError("there is no text to measure the distance from the base on; give the run more data")
    return BaseRecord(tuple(map(tuple, sequences)), BaseDistribution.joined(parts))


def kl_by_sequence(model: Model, base: BaseRecord) -> list[float]:
    """KL(base ‖ model) of each sequence in nats per token: the mean over its positions. Raises LabError."""
    found, begin = [], 0
    for logits in logits_of(model, base.sequences):
        found.append(estimate_kl(base.distribution.part(begin, begin + len(logits)), logits))
        begin += len(logits)
    values = torch.cat(found)
    return [float(part.mean()) for part in torch.split(values, [len(one) for one in base.sequences])]


def logits_of(model: Model, sequences: Sequence[Sequence[int]]) -> Iterator[torch.Tensor]:
    """The logits at every position of every sequence, in order, in chunks (n, V) of bounded size.

    The model itself computes them, soft caps and biases included: its output layer is fed selected states.
    Raises LabError for a model without an output layer over its vocabulary."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    if plain.get_output_embeddings() is None:
        raise LabError(
            f"models of type {plain.config.model_type} have no output layer over their vocabulary, so there "
            "is no distance to measure; choose a causal language model"
        )
    reader = model if virtual_token_count(model) else plain
    weights = plain.get_input_embeddings().weight
    block = positions_per_block(weights.device, int(weights.shape[0]))
    for batch in _batches(sequences):
        with evaluation_mode(model):
            yield from _batch_logits(reader, plain, batch, block)


def _batches(sequences: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    """Consecutive sequences in padded batches of at most BATCH_TOKENS; always the same ones, so that an
    unchanged model gives the same values."""
    begin = 0
    while begin < len(sequences):
        end, width = begin, 0
        while end < len(sequences):
            width = max(width, len(sequences[end]))
            if end > begin and width * (end - begin + 1) > BATCH_TOKENS:
                break
            end += 1
        yield sequences[begin:end]
        begin = end


def _batch_logits(
    reader: Model, plain: Model, batch: Sequence[Sequence[int]], block: int
) -> Iterator[torch.Tensor]:
    width = max(map(len, batch))
    # padded on the right, which causal attention of the real positions never sees
    rows = [[*row, *[0] * (width - len(row))] for row in batch]
    ids = torch.tensor(rows, device=plain.get_input_embeddings().weight.device)  # (B, T)
    places = torch.tensor([(at, place) for at, row in enumerate(batch) for place in range(len(row))])
    return logits_in_blocks(reader, plain, {"input_ids": ids}, places, block)
