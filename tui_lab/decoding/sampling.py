"""Greedy and sampling lanes: one row and one token per step. All of them are decoded together, with one set
of tensor operations and one transfer of the results to the CPU."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from tui_lab.decoding.decoders import StepOutput
from tui_lab.decoding.detokenize import Decode
from tui_lab.decoding.lane_output import LaneContext, LaneOutput, token_stats
from tui_lab.decoding.logits import (
    TOP_TOKENS,
    CutoffSplit,
    SamplingParameters,
    apply_repetition_penalty,
    has_cutoff,
    inspect,
    sample,
)
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

    @property
    def capture_key(self) -> Hashable:
        """Temperatures and cutoffs are contents of tensors."""
        which = self.parameters
        return "sample", is_sampled(which), has_cutoff(which), which.repetition_penalty != 1.0

    def cancel(self) -> None:
        self.output.end("cancelled")

    def result(self) -> LaneResult:
        return self.output.result()


@dataclass(frozen=True)
class SamplingPlan:
    """How n rows pick their token: which rows sample, with which parameters, and which are penalised."""

    sampled: torch.Tensor | None  # rows (m,); the others take the most probable token
    split: CutoffSplit  # of the sampled rows
    parameters: SamplingParameters  # of the sampled rows
    penalised: torch.Tensor | None  # rows (p,)
    penalty: torch.Tensor  # (p,)

    @classmethod
    def of(cls, strategies: Sequence[Sample], device: torch.device) -> SamplingPlan:
        """The plan of a batch with one row for each strategy."""
        sampled = {at: s for at, s in enumerate(strategies) if is_sampled(s)}
        penalties = {
            at: s.repetition_penalty for at, s in enumerate(strategies) if s.repetition_penalty != 1.0
        }
        return cls(
            sampled=torch.tensor(list(sampled), device=device) if sampled else None,
            split=CutoffSplit.of(list(sampled.values()), device),
            parameters=SamplingParameters.of(list(sampled.values()), device),
            penalised=torch.tensor(list(penalties), device=device) if penalties else None,
            penalty=torch.tensor(list(penalties.values()), device=device),
        )

    def tensors(self) -> list[torch.Tensor]:
        """All of them."""
        rows = (self.sampled, self.split.cut, self.split.uncut, self.penalised)
        return [each for each in rows if each is not None] + [self.penalty, *self.parameters.tensors()]


def is_sampled(strategy: Sample) -> bool:
    """Whether a strategy draws its tokens; others take the most probable one."""
    return strategy.temperature > 0 and strategy.top_k != 1


def penalise(logits: torch.Tensor, plan: SamplingPlan, seen: torch.Tensor | None) -> torch.Tensor:
    """Logits (n, V) with the repetition penalty of the penalised rows. ``seen`` (p, V): for each of them,
    whether a token is in the prompt or in the answer so far."""
    if seen is None or plan.penalised is None:
        return logits
    penalised = apply_repetition_penalty(logits[plan.penalised], seen, plan.penalty)
    return logits.index_copy(0, plan.penalised, penalised)


def pick(
    logits: torch.Tensor,
    plan: SamplingPlan,
    uniform: torch.Tensor,
    seen: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token per row, (n,), from logits (n, V), and whether it is valid, (n,) bool: it is not where a
    cutoff keeps more than the first few hundred tokens (see :func:`pick_by_sorting`). Nothing waits for the
    device.

    ``uniform`` (m,): a number in [0, 1) for each sampled row, in float64; ``seen``: see :func:`penalise`."""
    logits = penalise(logits, plan, seen)
    tokens = logits.argmax(-1)
    enough = torch.ones_like(tokens, dtype=torch.bool)
    if plan.sampled is not None:
        chosen = logits if len(plan.sampled) == len(logits) else logits[plan.sampled]
        width = min(TOP_TOKENS, logits.shape[1])
        found, sufficient = sample(chosen, plan.parameters, uniform, plan.split, width)
        tokens.index_copy_(0, plan.sampled, found)
        enough.index_copy_(0, plan.sampled, sufficient)
    return tokens, enough


def pick_by_sorting(
    logits: torch.Tensor,
    plan: SamplingPlan,
    uniform: torch.Tensor,
    seen: torch.Tensor | None,
    rows: torch.Tensor,
) -> torch.Tensor:
    """The tokens (r,) of the sampled rows ``rows`` (r,), picked as by :func:`pick` with the whole vocabulary
    sorted."""
    assert plan.sampled is not None
    which = torch.searchsorted(plan.sampled, rows)
    chosen = penalise(logits, plan, seen)[rows]
    parameters, split = plan.parameters.rows(which), CutoffSplit(which, None)
    return sample(chosen, parameters, uniform[which], split, chosen.shape[1])[0]


class BatchedSampler:
    """Decides for all greedy and sampling lanes of a batch: :meth:`draw` before the forward, :meth:`pick`
    after it on the device, :meth:`take` on the CPU. Lanes that have ended keep their row."""

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
        self._drawing = [decoder for decoder in decoders if is_sampled(decoder.parameters)]
        self._uniform = torch.zeros(len(self._drawing), dtype=torch.float64, device=context.device)
        # pinned, so that the upload does not wait: the one before has ended with its step
        self._drawn = torch.zeros_like(self._uniform, device="cpu", pin_memory=context.device.type == "cuda")
        self._seen: torch.Tensor | None = None  # (p, V)
        self._texts: dict[int, str] = {}  # of single tokens, for alternatives

    def draw(self) -> None:
        """Draws the random numbers of the next decision."""
        if self._drawing:
            numbers = [0.5 if d.output.finish_reason else d.uniforms.next() for d in self._drawing]
            self._drawn.copy_(torch.tensor(numbers, dtype=torch.float64))
            self._uniform.copy_(self._drawn, non_blocking=True)

    def tensors(self) -> list[torch.Tensor]:
        """The tensors of the device that :meth:`pick` reads and writes."""
        seen = [] if self._seen is None else [self._seen]
        return [self._rows, self._uniform, *self._plan.tensors(), *seen]

    def pick(self, step: StepOutput) -> torch.Tensor:
        """Picks the next token of every lane and writes it to ``step.next_tokens``. Returns a table for
        :meth:`take`, (n, 5) in float64: token, log-probability, rank, entropy, and whether the token is
        valid."""
        logits = step.logits[self._rows]
        if self._plan.penalised is not None:
            if self._seen is None:
                self._seen = self._seen_tokens(logits.shape[-1])
            else:
                read = step.next_tokens[self._rows][self._plan.penalised]
                self._seen.scatter_(1, read.unsqueeze(1), True)
        tokens, enough = pick(logits, self._plan, self._uniform, self._seen)
        step.next_tokens.index_copy_(0, self._rows, tokens)
        stats = token_stats(logits, tokens)
        return torch.cat((tokens.double().unsqueeze(1), stats, enough.double().unsqueeze(1)), dim=1)

    def take(self, step: StepOutput, table: torch.Tensor) -> None:
        """Appends the tokens of :meth:`pick`, given its result on the CPU."""
        if not bool(table[:, 4].all()):
            table = self._pick_again(step, table)
        shown: Sequence[tuple[Alternative, ...]] = [()] * len(self._decoders)
        if self._context.request.inspect:
            shown = self._alternatives(step.logits[self._rows], table[:, 0].long().to(step.logits.device))
        for decoder, (token, *stats, _), others in zip(self._decoders, table.tolist(), shown, strict=True):
            if not decoder.output.finish_reason:
                decoder.output.append(int(token), stats, alternatives=others)

    def _pick_again(self, step: StepOutput, table: torch.Tensor) -> torch.Tensor:
        """The table with valid tokens, where a cutoff keeps more than the first few hundred tokens."""
        rows, logits = (table[:, 4] == 0).nonzero().squeeze(1), step.logits[self._rows]
        at = rows.to(logits.device)
        tokens = pick_by_sorting(logits, self._plan, self._uniform, self._seen, at)
        step.next_tokens.index_copy_(0, self._rows[at], tokens)
        stats = token_stats(logits[at], tokens)
        table = table.clone()
        table[rows, :4] = torch.cat((tokens.double().unsqueeze(1), stats), dim=1).cpu()
        return table

    def _seen_tokens(self, vocabulary: int) -> torch.Tensor:
        """For each penalised row, which tokens are in the prompt or in the answer so far, (p, V)."""
        penalised = [d for d in self._decoders if d.parameters.repetition_penalty != 1.0]
        seen = torch.zeros((len(penalised), vocabulary), dtype=torch.bool, device=self._context.device)
        for row, decoder in enumerate(penalised):
            ids = {*decoder.output.prompt, *(t.token_id for t in decoder.output.tokens)}
            seen[row, list(ids)] = True
        return seen

    def _alternatives(self, logits: torch.Tensor, tokens: torch.Tensor) -> list[tuple[Alternative, ...]]:
        """The alternatives to the chosen tokens (n,) of every row of logits (n, V)."""
        penalised = penalise(logits, self._plan, self._seen)
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
    table = torch.stack([column.double() for column in (ids, log_probs, probability, cutoffs)], dim=2)
    for columns in table.tolist():
        row: dict[int, Alternative] = {}
        for token, logprob, share, cutoff in ((int(a), b, c, int(d)) for a, b, c, d in columns):
            if token not in row:
                if token not in texts:
                    texts[token] = decode([token])
                row[token] = Alternative(token, texts[token], logprob, share, _CUT_BY[cutoff])
        found.append(tuple(row.values()))
    return found
