"""Layers apart: where a weight belongs on each architecture, rates, freezing, unfreezing."""

from __future__ import annotations

import pytest
import torch

from tests.training.architectures import MAKERS, make
from tui_lab.core.errors import LabError
from tui_lab.training import layers


@pytest.mark.parametrize("name", MAKERS)
def test_depth_of_weights(name: str) -> None:
    model = make(name)
    depths = {n: layers.depth_of(n, 3) for n, _ in model.named_parameters()}
    assert set(depths.values()) == {0, 1, 2, 3, 4}
    embedding = model.get_input_embeddings().weight
    by_id = {id(w): depths[n] for n, w in model.named_parameters()}
    assert by_id[id(embedding)] == 0
    head = model.get_output_embeddings().weight
    assert by_id[id(head)] == (0 if head is embedding else 4)
    # each block holds as many weights as the others
    counts = [sum(depth == block for depth in depths.values()) for block in (1, 2, 3)]
    assert len(set(counts)) == 1


@pytest.mark.parametrize("name", MAKERS)
def test_frozen_layers_are_the_embeddings_and_the_first_blocks(name: str) -> None:
    model = make(name)
    layers.freeze_first(model, 2)
    for parameter, weight in model.named_parameters():
        assert weight.requires_grad == (layers.depth_of(parameter, 3) > 2)
    with pytest.raises(LabError, match="use at most 2"):
        layers.freeze_first(model, 3)


def test_rates_fall_towards_the_input() -> None:
    assert [layers.rate_factor(depth, 3, 0.5) for depth in range(5)] == [0.125, 0.25, 0.5, 1.0, 1.0]


def test_stages_go_from_the_top_down() -> None:
    assert [layers.stage_of(depth, 6, 3) for depth in range(8)] == [2, 2, 2, 1, 1, 0, 0, 0]
    assert [layers.stage_of(depth, 3, 1) for depth in range(5)] == [0] * 5
    assert layers.stages_for(4.0, 0, 12) == 4
    assert layers.stages_for(1.0, 0, 12) == 3
    assert layers.stages_for(4.0, 100, 2) == 2


def test_gradual_unfreezing_by_stage_and_after_a_resume() -> None:
    model = make("llama")
    unfreezing = layers.GradualUnfreezing(model, 3, 30)
    seen = []
    for step in (0, 9, 10, 20, 29):
        unfreezing.set_step(step)
        seen.append(sum(weight.requires_grad for weight in model.parameters()))
    assert seen[0] == seen[1] < seen[2] < seen[3] == seen[4] == len(list(model.parameters()))
    again = layers.GradualUnfreezing(make("llama"), 3, 30)
    again.set_step(15)
    assert again.stage == 1


def test_split_groups_have_the_top_rate_first() -> None:
    model = make("llama")
    decayed = [w for w in model.parameters() if w.dim() > 1]
    plain = [w for w in model.parameters() if w.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=1.0
    )
    layers.split_groups(optimizer, model, {depth: layers.rate_factor(depth, 3, 0.5) for depth in range(5)})
    assert optimizer.param_groups[0]["lr"] == 1.0
    rates = {
        id(w): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for w in group["params"]
    }
    assert len(rates) == len(list(model.parameters()))
    for name, weight in model.named_parameters():
        wanted = layers.rate_factor(layers.depth_of(name, 3), 3, 0.5)
        assert rates[id(weight)] == (wanted, 0.1 if weight.dim() > 1 else 0.0)
