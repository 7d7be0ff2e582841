"""Greedy and sampling lanes: one row and one token per step. All of them are decoded together, with one set
of tensor operations and one transfer of the results to the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tui_lab.decoding.decoders import StepOutput
from tui_lab.decoding.detokenize import Decode
from tui_lab.decoding.lane_output import LaneContext, LaneOutput, token_stats
from tui_lab.decoding.logits import SamplingParameters, apply_repetition_penalty, inspect, sample
from tui_lab.decoding.records import Alternative, LaneResult
from tui_lab.decoding.strategies import Sample

#: Random numbers that a lane draws at once.
_DRAWS_PER_BLOCK = 64
#: The cutoff that removed a token, by the number of nested cutoffs that keep it; 3 keeps it.
_CUT_BY = ("top_k", "top_p", "min_p", None)


class Uniforms:
    """A lane's random numbers in [0, 1), from its own CPU generator. They depend on the seed alone, not
    on the device, other lanes or the number of tokens requested."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._block: list[float] = []

    def next(self) -> float:
        """The next random number."""
        if not self._block:
            block = torch.rand(_DRAWS_PER_BLOCK, generator=self._generator, dtype=torch.float64)
            self._block = block.tolist()[::-1]
        return self._block.pop()


class SamplingDecoder:
    """The state of one greedy or sampling lane. :class:`BatchedSampler` decides for all of them."""

    rows = 1

    def __init__(self, output: LaneOutput) -> None:
        self.output = output
        self.parameters = output.lane.strategy.as_sample
        self.uniforms = Uniforms(output.lane.seed or 0)

    def cancel(self) -> None:
        self.output.end("cancelled")

    def result(self) -> LaneResult:
        return self.output.result()


@dataclass(frozen=True)
class SamplingPlan:
    """How n rows pick their token: which rows sample, with which parameters, and which are penalised."""

    sampled: list[int]  # rows; the others take the most probable token
    truncated: list[int]  # of the sampled rows, those with a cutoff
    parameters: SamplingParameters | None  # of the sampled rows
    penalised: list[int]
    penalty: torch.Tensor | None  # (len(penalised),)

    @classmethod
    def of(cls, strategies: Sequence[Sample], device: torch.device) -> SamplingPlan:
        """The plan of a batch with one row for each strategy."""
        sampled = {at: s for at, s in enumerate(strategies) if s.temperature > 0 and s.top_k != 1}
        truncated = [i for i, s in enumerate(sampled.values()) if s.top_k or s.top_p < 1 or s.min_p > 0]
        penalised = [at for at, s in enumerate(strategies) if s.repetition_penalty != 1.0]
        return cls(
            sampled=list(sampled),
            truncated=truncated,
            parameters=SamplingParameters.of(list(sampled.values()), device) if sampled else None,
            penalised=penalised,
            penalty=torch.tensor([strategies[at].repetition_penalty for at in penalised], device=device),
        )


def pick(
    logits: torch.Tensor, plan: SamplingPlan, uniform: torch.Tensor, seen: torch.Tensor | None = None
) -> torch.Tensor:
    """One token per row, (n,), from logits (n, V).

    ``uniform`` (m,): a number in [0, 1) for each sampled row, in float64; ``seen`` (p, V): for each penalised
    row, whether a token is in the prompt or in the answer so far."""
    if seen is not None and plan.penalty is not None:
        logits = logits.clone()
        logits[plan.penalised] = apply_repetition_penalty(logits[plan.penalised], seen, plan.penalty)
    tokens = logits.argmax(-1)
    if plan.parameters is not None:
        tokens[plan.sampled] = sample(logits[plan.sampled], plan.parameters, uniform, plan.truncated)
    return tokens


class BatchedSampler:
    """Decides for all greedy and sampling lanes of a batch. The engine makes a new one when a lane ends."""

    def __init__(
        self, decoders: Sequence[SamplingDecoder], rows: Sequence[int], context: LaneContext
    ) -> None:
        """``rows``: the row of each decoder in the batch."""
        self._decoders = decoders
        self._context = context
        self._rows = torch.tensor(rows, device=context.device)
        samples = [decoder.parameters for decoder in decoders]
        self._plan = SamplingPlan.of(samples, context.device)
        self._parameters = SamplingParameters.of(samples, context.device)  # of all rows, for inspection
        self._seen: torch.Tensor | None = None  # (p, V)
        self._texts: dict[int, str] = {}  # of single tokens, for alternatives

    def decide(self, step: StepOutput) -> None:
        """Picks the next token of every lane, appends it, and writes it to ``step.next_tokens``."""
        logits = step.logits[self._rows]
        plan = self._plan
        if plan.penalised and self._seen is None:
            self._seen = self._seen_tokens(logits.shape[-1])
        draws = [self._decoders[at].uniforms.next() for at in plan.sampled]
        uniform = torch.tensor(draws, dtype=torch.float64, device=logits.device)
        tokens = pick(logits, plan, uniform, self._seen)
        if self._seen is not None:
            self._seen[torch.arange(len(self._seen)), tokens[plan.penalised]] = True
        step.next_tokens[self._rows] = tokens
        table = torch.cat((tokens.double().unsqueeze(1), token_stats(logits, tokens)), dim=1).tolist()
        shown: Sequence[tuple[Alternative, ...]] = [()] * len(self._decoders)
        if self._context.request.inspect:
            shown = self._alternatives(logits, tokens)
        for decoder, (token, *stats), others in zip(self._decoders, table, shown, strict=True):
            decoder.output.append(int(token), stats, alternatives=others)

    def _seen_tokens(self, vocabulary: int) -> torch.Tensor:
        """For each penalised row, which tokens are in the prompt or in the answer so far, (p, V)."""
        plan, prompt = self._plan, self._context.request.prompt_ids
        seen = torch.zeros((len(plan.penalised), vocabulary), dtype=torch.bool, device=self._context.device)
        for row, at in enumerate(plan.penalised):
            ids = {*prompt, *(t.token_id for t in self._decoders[at].output.tokens)}
            seen[row, list(ids)] = True
        return seen

    def _alternatives(self, logits: torch.Tensor, tokens: torch.Tensor) -> list[tuple[Alternative, ...]]:
        """The alternatives to the chosen tokens (n,), for every row of logits (n, V)."""
        penalised = logits
        if self._plan.penalised:
            assert self._plan.penalty is not None
            # as it was before the chosen token, which self._seen already contains
            seen = self._seen_tokens(logits.shape[-1])
            penalised = logits.clone()
            rows = self._plan.penalised
            penalised[rows] = apply_repetition_penalty(penalised[rows], seen, self._plan.penalty)
        count, decode = self._context.request.inspect, self._context.decode
        return alternatives(logits, penalised, self._parameters, tokens, count, decode, self._texts)


def alternatives(
    logits: torch.Tensor,
    penalised: torch.Tensor,
    parameters: SamplingParameters,
    tokens: torch.Tensor,
    count: int,
    decode: Decode,
    texts: dict[int, str],
) -> list[tuple[Alternative, ...]]:
    """For every row of logits (n, V): its ``count`` most probable tokens before and after warping, and the
    token (n,) that was chosen.

    ``penalised`` (n, V): the logits with the repetition penalty, or ``logits`` itself; ``texts``: a cache of
    token texts, which is extended."""
    count = min(count, logits.shape[1])
    warped = inspect(penalised, parameters)
    # without a penalty the order is that of the model
    top = [warped.order[:, :count]]
    if penalised is not logits:
        top.insert(0, logits.topk(count).indices)
    ids = torch.cat((*top, tokens.unsqueeze(1)), 1)  # (n, m)
    log_probs = logits.gather(1, ids) - logits.logsumexp(-1, keepdim=True)
    probability, cutoffs = warped.lookup(ids)
    found = []
    for columns in zip(*(t.tolist() for t in (ids, log_probs, probability, cutoffs)), strict=True):
        row: dict[int, Alternative] = {}
        for token, logprob, share, cutoff in zip(*columns, strict=True):
            if token not in row:
                if token not in texts:
                    texts[token] = decode([token])
                row[token] = Alternative(token, texts[token], logprob, share, _CUT_BY[cutoff])
        found.append(tuple(row.values()))
    return found
