"""Rows laid into trees: every row is found again on its path, sees its own ancestors and nothing else; blocks
look at all of them, and a model that looks by blocks finds the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from tests.decoding.conftest import prompt_of, tiny
from tui_lab.retention.scoring import block_attention, prefix_tree
from tui_lab.retention.scoring.block_attention import attention_pairs, plan_blocks
from tui_lab.retention.scoring.encode import ScoringRow
from tui_lab.retention.scoring.forward import LogLikelihoodScorer
from tui_lab.retention.scoring.prefix_tree import (
    ancestor_mask,
    is_worth_sharing,
    make_packs,
    shared_prefix_length,
    window_mask,
)


@st.composite
def rows(draw: st.DrawFn) -> list[ScoringRow]:
    """Rows of few different tokens, so that they share much; as many items as rows, or fewer."""
    beginnings = draw(st.lists(st.lists(st.integers(0, 2), max_size=30), min_size=1, max_size=3))
    found = []
    for at in range(draw(st.integers(1, 10))):
        tokens = draw(st.sampled_from(beginnings)) + draw(st.lists(st.integers(0, 2), min_size=1, max_size=8))
        targets = draw(st.lists(st.integers(0, 2), min_size=1, max_size=len(tokens)))
        found.append(ScoringRow(at // 2, at % 2, tuple(tokens), tuple(targets)))
    return found


@given(rows(), st.integers(1, 120), st.booleans(), st.sampled_from([0.0, 20.0, float("inf")]))
def test_every_row_is_a_path_of_its_pack(
    given_rows: list[ScoringRow], width: int, share: bool, token_cost_ratio: float
) -> None:
    packs = make_packs(given_rows, width, share, token_cost_ratio)
    assert sorted((row.item, row.choice) for pack in packs for row in pack.rows) == sorted(
        (row.item, row.choice) for row in given_rows
    )
    for pack in packs:
        assert pack.width <= max(width, max(len(row.tokens) for row in pack.rows))
        assert [begin for begin, _, _ in pack.runs] == [0, *(end for _, end, _ in pack.runs[:-1])]
        mask = ancestor_mask([pack], pack.width)[0]
        for row, read in zip(pack.rows, pack.reads, strict=True):
            path = mask[read[-1]].nonzero()[0].tolist()
            assert [pack.tokens[node] for node in path] == list(row.tokens)
            assert [pack.depths[node] for node in path] == list(range(len(row.tokens)))
            assert path[-len(row.targets) :] == read


@given(rows(), st.integers(0, 40))
def test_blocks_cover_every_token_once_with_all_its_ancestors(
    given_rows: list[ScoringRow], call: int
) -> None:
    for pack in make_packs(given_rows, 1000):
        blocks = plan_blocks(pack, call)
        if blocks is None:
            continue
        assert [begin for begin, _, _ in blocks] == [0, *(end for _, end, _ in blocks[:-1])]
        assert blocks[-1][1] == pack.width
        assert sum(map(attention_pairs, blocks)) < pack.width**2
        mask = ancestor_mask([pack], pack.width)[0]
        for begin, end, seen in blocks:
            looked_at = {node for first, last in seen for node in range(first, last)}
            for node in range(begin, end):
                assert set(mask[node].nonzero()[0].tolist()) <= looked_at


def test_blocks_are_used_for_many_branches_on_a_long_prefix() -> None:
    beginning = tuple(range(500))
    pack = prefix_tree.Pack()
    for at in range(20):
        row = ScoringRow(at, 0, (*beginning, *(1000 + at,) * 30), (1,))
        pack.add(row, pack.shared(row))
    assert pack.width == 500 + 20 * 30
    blocks = plan_blocks(pack, 4000)
    assert blocks is not None
    assert sum(map(attention_pairs, blocks)) < 0.6 * pack.width**2
    assert plan_blocks(make_packs([ScoringRow(0, 0, beginning, (1,))], 1000)[0], 4000) is None, (
        "one row has one block"
    )


def test_equal_rows_are_scored_once_without_sharing() -> None:
    four = [ScoringRow(0, at, (1, 2, 3), (at,)) for at in range(4)]
    [pack] = make_packs(four, 100, share=False)
    assert pack.width == 3 and pack.reads == [[2]] * 4


def test_prefixes_are_shared_only_where_it_costs_less() -> None:
    # attention alone counts: a row of 20 costs 200 by itself, 8 more tokens in a pack of 500 cost 8,064
    assert not is_worth_sharing(500, 8, 20, 0.0)
    assert is_worth_sharing(500, 8, 20, float("inf"))
    # matrices as dear as attention over 1,000 tokens: 12 tokens saved are 12,000
    assert is_worth_sharing(500, 8, 20, 1000.0)


def test_shared_prefix_lengths() -> None:
    assert shared_prefix_length((1, 2, 3), (1, 2, 4, 5)) == 2
    assert shared_prefix_length((1, 2), (1, 2, 3)) == 2
    assert shared_prefix_length((), (1,)) == 0
    assert shared_prefix_length((2,), (1,)) == 0


def test_a_window_mask_hides_distant_keys() -> None:
    [pack] = make_packs([ScoringRow(0, 0, tuple(range(5)), (1,))], 10)
    import numpy

    near = window_mask(ancestor_mask([pack], 5), numpy.array([pack.depths]), 2)[0]
    assert near.tolist() == [[j in (i, i - 1) for j in range(5)] for i in range(5)]


# --- models -------------------------------------------------------------------------------------------


def branches(long: int = 60, count: int = 8) -> list[ScoringRow]:
    """Rows that share a long beginning and end in different words of different lengths."""
    beginning = prompt_of(long)
    ends = [prompt_of(4 + 2 * at, seed=at + 1) for at in range(count)]
    return [ScoringRow(at, 0, beginning + end, (*end[1:], 5)) for at, end in enumerate(ends)]


def alone(model: Any, row: ScoringRow) -> float:
    """The row's log-likelihood by a forward of its own."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.tokens]), use_cache=False).logits[0].double()
    last = logits[-len(row.targets) :].log_softmax(-1)
    return sum(last[at, token].item() for at, token in enumerate(row.targets))


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt_neox", "phi"])
def test_block_attention_gives_the_same_result(
    name: str, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(name)
    scorer = LogLikelihoodScorer(model)
    plans: list[Any] = []

    def eager(pack: Any, call: int) -> Any:
        plans.append(plan_blocks(pack, 1))
        return plans[-1]

    packs = make_packs(branches(), 1000) + make_packs(
        [replace(r, item=r.item + 100) for r in branches(9, 3)], 1000
    )
    assert len(packs) > 1
    whole = scorer.log_likelihoods(packs)
    monkeypatch.setattr(block_attention, "plan_blocks", eager)
    found = scorer.log_likelihoods(packs)
    assert any(plan and len(plan) > 4 for plan in plans), "the pack was read by blocks"
    for pack, values, others in zip(packs, found, whole, strict=True):
        wanted = [alone(model, row) for row in pack.rows]
        assert values == pytest.approx(wanted, rel=2e-5, abs=2e-4)
        assert values == pytest.approx(others, rel=2e-5, abs=2e-4)
    # afterwards the library's attention is its own again
    row = branches()[0]
    assert alone(model, row) == pytest.approx(wanted_of(model, row), rel=1e-6)


def wanted_of(model: Any, row: ScoringRow) -> float:
    return float(LogLikelihoodScorer(model).log_likelihoods(make_packs([row], 1000))[0][0])


def test_a_model_that_blocks_confuse_is_read_whole(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    assert LogLikelihoodScorer(model).uses_blocks
    taken = block_attention.gather_ranges
    # as if its attention read positions off the places of the keys
    monkeypatch.setattr(
        block_attention, "gather_ranges", lambda tensor, seen, dim: taken(tensor, seen, dim).flip(-2)
    )
    scorer = LogLikelihoodScorer(model)
    assert scorer.supports_trees
    assert not scorer.uses_blocks and "attention in blocks" in scorer.warnings[0]
    [pack] = make_packs(branches(), 1000)
    assert scorer.log_likelihoods([pack])[0] == pytest.approx(
        [alone(model, row) for row in pack.rows], rel=2e-5, abs=2e-4
    )


def test_an_error_inside_leaves_the_librarys_attention_as_it_was() -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = ALL_ATTENTION_FUNCTIONS["sdpa"]
    with pytest.raises(MemoryError), block_attention.use_blocks([[(0, 1, ((0, 1),))]]):
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is not before
        raise MemoryError
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is before


def test_a_model_without_attention_is_scored_row_by_row_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("mamba", vocab_size=160, hidden_size=16, state_size=4, num_hidden_layers=2)
    model = AutoModelForCausalLM.from_config(config).eval()
    scorer = LogLikelihoodScorer(model)
    assert not scorer.supports_trees
    assert "mamba models do not support shared beginnings" in caplog.text
    assert "so scoring is slower" in scorer.warnings[0]
    packs = make_packs(branches(), 1000, share=False)
    assert len(packs) == 8
    for pack, values in zip(packs, scorer.log_likelihoods(packs), strict=True):
        assert values == pytest.approx([alone(model, row) for row in pack.rows], rel=1e-4)


def test_eager_attention_has_no_blocks() -> None:
    model = tiny("gpt2")
    model.set_attn_implementation("eager")
    [pack] = make_packs(branches(), 1000)
    values = LogLikelihoodScorer(model).log_likelihoods([pack])[0]
    assert values == pytest.approx([alone(model, row) for row in pack.rows], rel=2e-5, abs=2e-4)
