"""The draws against transformers' own logits processors: the exact distribution of every combination,
and the frequencies that the decoder's lanes really have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.decoding.conftest import prompt_of
from tests.decoding.test_parity import lockstep
from tui_lab.decoding.logits import SamplingParameters, apply_repetition_penalty, inspect
from tui_lab.decoding.sampling import SamplingPlan, pick, pick_by_sorting
from tui_lab.decoding.strategies import Greedy, Lane, Sample


def warp(logits: torch.Tensor, s: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole distribution (V,) that a strategy draws from, and whether each token remains, as the
    inspector shows it."""
    warped = inspect(logits.unsqueeze(0), SamplingParameters.of([s], logits.device))
    probability, holding = warped.lookup(torch.arange(len(logits)).unsqueeze(0))
    return probability[0], holding[0] == 3


def processors(s: Sample) -> LogitsProcessorList:
    """What generate builds for these settings, in its order."""
    found: list[Any] = []
    if s.repetition_penalty != 1.0:
        found.append(RepetitionPenaltyLogitsProcessor(s.repetition_penalty))
    if s.temperature != 1.0:
        found.append(TemperatureLogitsWarper(s.temperature))
    if s.top_k:
        found.append(TopKLogitsWarper(s.top_k))
    if s.top_p < 1:
        found.append(TopPLogitsWarper(s.top_p))
    if s.min_p > 0:
        found.append(MinPLogitsWarper(s.min_p))
    return LogitsProcessorList(found)


def exact(logits: torch.Tensor, s: Sample, ids: tuple[int, ...] = (0,)) -> torch.Tensor:
    return processors(s)(torch.tensor([ids]), logits.unsqueeze(0).clone())[0].softmax(-1)


samples = st.builds(
    Sample,
    temperature=st.sampled_from([0.1, 0.7, 1.0, 1.5]),
    top_k=st.sampled_from([0, 1, 2, 7, 300, 5000]),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.05]),
    min_p=st.sampled_from([0.0, 0.001, 0.1, 0.9]),
)


@settings(max_examples=60, deadline=None)
@given(samples, st.integers(0, 1000), st.sampled_from([5, 300, 1200]), st.sampled_from([0.3, 2.0, 6.0]))
@example(Sample(temperature=0.7, top_k=300, top_p=0.05), 0, 1200, 0.3)  # more than is looked at first
def test_distribution_equals_transformers(s: Sample, seed: int, vocabulary: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(vocabulary, generator=generator) * spread
    expected = exact(logits, s)
    mine, remaining = warp(logits, s)
    # a token just at the limit of top-p or min-p may fall on either side of rounding
    assert (mine - expected).abs().sum() < 1e-4 + 2 * _at_limit(expected, mine)
    assert torch.equal(~remaining, mine == 0) or (logits.max() - logits.min()) / s.temperature > 80


def picked(logits: torch.Tensor, plan: SamplingPlan, uniform: torch.Tensor) -> torch.Tensor:
    """The token of every row (n,), sorting the whole vocabulary where that is needed."""
    tokens, valid = pick(logits, plan, uniform)
    rows = (~valid).nonzero().squeeze(1)
    if len(rows):
        tokens[rows] = pick_by_sorting(logits, plan, uniform, None, rows)
    return tokens


def _at_limit(expected: torch.Tensor, mine: torch.Tensor) -> float:
    differ = (expected == 0) != (mine == 0)
    return float(torch.maximum(expected, mine)[differ].max()) if int(differ.sum()) == 1 else 0.0


@settings(max_examples=12, deadline=None)
@given(st.lists(samples, min_size=1, max_size=5), st.integers(0, 1000))
def test_draws_invert_the_distribution(several: list[Sample], seed: int) -> None:
    """Evenly spaced numbers in [0, 1) must land on each token in proportion to its exact probability; rows of
    all kinds are picked in one call."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(several), 700, generator=generator) * 3
    points = 100
    plan = SamplingPlan.of([s for s in several for _ in range(points)], logits.device)
    sampled = torch.empty(0) if plan.sampled is None else plan.sampled
    uniform = (sampled.double() % points + 0.5) / points
    tokens = picked(logits.repeat_interleave(points, 0), plan, uniform).view(len(several), points)
    counts = torch.zeros_like(logits).scatter_add_(1, tokens, torch.ones(tokens.shape))
    for row, s in enumerate(several):
        expected = warp(logits[row], s)[0]
        assert (counts[row] / points - expected).abs().max() < 1.01 / points + 1e-5


def test_lanes_draw_from_the_exact_distribution(tiny_model: Any) -> None:
    """First tokens of 2,000 lanes of each kind, chi-square against transformers' processors."""
    model = tiny_model("llama", sharpness=3.0)
    prompt = prompt_of(8)
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    kinds = [
        Sample(),
        Sample("temperature", temperature=0.6),
        Sample("temperature", temperature=1.7),
        Sample("top-k", top_k=12),
        Sample("top-p", top_p=0.8),
        Sample("min-p", min_p=0.15),
        Sample("top-p", temperature=1.3, top_k=40, top_p=0.9, min_p=0.02, repetition_penalty=1.5),
    ]
    count = 2000
    for kind in kinds:
        lanes = [Lane(kind, seed) for seed in range(count)]
        drawn = torch.zeros(len(logits))
        for result in lockstep(model, prompt, *lanes, max_new_tokens=1):
            drawn[result.token_ids[0]] += 1
        expected = exact(logits, kind, prompt).double() * count
        assert drawn[expected == 0].sum() == 0, kind
        common = expected >= 5
        observed = torch.cat((drawn[common].double(), drawn[~common].sum().double().unsqueeze(0)))
        wanted = torch.cat((expected[common], expected[~common].sum().unsqueeze(0)))
        keep = wanted > 0
        # 7 tests: one in a thousand each keeps the chance of a false alarm under 1%; seeds are fixed anyway
        assert (
            chisquare(observed[keep], wanted[keep] * observed[keep].sum() / wanted[keep].sum()).pvalue > 1e-3
        ), kind


def test_only_the_seed_changes_the_draws(tiny_model: Any) -> None:
    model = tiny_model("llama", sharpness=3.0)
    lane = Lane(Sample("top-p", top_p=0.95), 7)
    others = [Lane(Sample(), 3), Lane(Sample("top-k", top_k=5), 7), Lane(Greedy())]
    alone = lockstep(model, prompt_of(8), lane, max_new_tokens=90)[0].token_ids
    crowd = lockstep(model, prompt_of(8), *others, lane, max_new_tokens=90)[-1].token_ids
    short = lockstep(model, prompt_of(8), lane, max_new_tokens=30)[0].token_ids
    twin = lockstep(model, prompt_of(8), Lane(lane.strategy, 8), max_new_tokens=90)[0].token_ids
    assert alone == crowd and alone[:30] == short and alone != twin
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    lockstep(model, prompt_of(8), lane, max_new_tokens=3)
    assert torch.equal(before, torch.random.get_rng_state())  # the global generator is nobody's lane


def test_penalty_equals_transformers() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    ids = torch.randint(0, 50, (3, 20), generator=torch.Generator().manual_seed(2))
    seen = torch.zeros(3, 50, dtype=torch.bool).scatter(1, ids, True)
    for penalty in (0.5, 1.2, 3.0):
        assert torch.equal(
            apply_repetition_penalty(logits, seen, penalty),
            RepetitionPenaltyLogitsProcessor(penalty)(ids, logits),
        )


@pytest.mark.parametrize("top_k", [1, 3, 257])
def test_ties_at_the_limit_equal_transformers(top_k: int) -> None:
    """Logits in bfloat16 tie all the time: every token as probable as the k-th stays."""
    logits = torch.arange(602).div(7, rounding_mode="floor").float()
    assert torch.allclose(warp(logits, Sample(top_k=top_k))[0], exact(logits, Sample(top_k=top_k)), atol=1e-6)
    draws = 1500
    plan = SamplingPlan.of([Sample(top_k=top_k)] * draws, logits.device)
    uniform = torch.linspace(0, 0.9999, draws, dtype=torch.float64)
    tokens = set(picked((logits / 1e4).repeat(draws, 1), plan, uniform).tolist())
    assert (len(tokens) == -(-top_k // 7) * 7) or (top_k == 1 and len(tokens) == 1)
