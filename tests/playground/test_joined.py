"""Which requests share a batch."""

from __future__ import annotations

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from tests.decoding.test_adapters import NoText
from tui_lab.decoding.records import DecodingRequest, LaneGroup
from tui_lab.decoding.session import DecodingSession
from tui_lab.decoding.strategies import Greedy, Lane
from tui_lab.playground.joined import merged


@pytest.mark.parametrize(("kind", "batches"), [("gpt2", [(0, 1, 2)]), ("bloom", [(0, 2), (1,)])])
def test_prompts_of_different_lengths_need_a_model_that_takes_positions(
    kind: str, batches: list[tuple[int, ...]]
) -> None:
    """Bloom's forward has no ``position_ids``, so that padding cannot be left out of its positions."""
    config = AutoConfig.for_model(kind, vocab_size=20, hidden_size=8, n_layer=1, n_head=1)
    session = DecodingSession(AutoModelForCausalLM.from_config(config), NoText())
    prompts = [(1, 2), (1, 2, 3), (4, 5)]
    groups = [
        LaneGroup(DecodingRequest(prompt, (Lane(Greedy()),), 4), (number,))
        for number, prompt in enumerate(prompts)
    ]
    assert [group.lane_ids for group in merged(session, groups)] == batches
