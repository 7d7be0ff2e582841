"""Steps, tokens and bytes a second of lanes that are decoded together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.decoding.conftest import prompt_of
from tests.decoding.test_adapters import NoText
from tui_lab.decoding.engine import Lockstep, decode_all
from tui_lab.decoding.records import DecodingRequest, DecodingSpeed
from tui_lab.decoding.session import DecodingSession
from tui_lab.decoding.speed import StepWork, bandwidth_bytes_s, speed_of, weight_bytes
from tui_lab.decoding.strategies import Beam, Greedy, Lane


def test_weights_that_a_forward_reads(tiny_model: Any) -> None:
    model = tiny_model("llama")
    whole = sum(weight.numel() * 4 for weight in model.parameters())
    assert weight_bytes(model) == whole - 160 * 32 * 4  # not the input embedding
    tied = tiny_model("llama", tie_word_embeddings=True)
    assert weight_bytes(tied) == whole - 160 * 32 * 4  # its embedding is the output layer, too


def test_bytes_of_steps(tiny_model: Any) -> None:
    model = tiny_model("llama")
    made = Lockstep(model, DecodingRequest(prompt_of(9), (Lane(Greedy()), Lane(Beam(3))), 5), lambda _ids: "")
    results = decode_all([made])
    # the first token comes from the prompt; then 3 layers, keys and values of 2 heads of 8, 4 rows
    each = 2 * 3 * 2 * 8 * 4 * 4
    assert made.work.steps == 4
    assert made.work.bytes_read == 4 * weight_bytes(model) + each * (10 + 11 + 12 + 13)
    assert 0 < made.work.seconds <= max(result.seconds for result in results.values())


def test_the_speed_of_several_batches(tiny_model: Any) -> None:
    model = tiny_model("llama")
    results = decode_all(
        [Lockstep(model, DecodingRequest(prompt_of(9), (Lane(), Lane()), 5), lambda _ids: "")]
    )
    works = [StepWork("", 30, 28, 2.0, 6_000), StepWork("not here", 10, 0, 2.0, 2_000)]
    speed = speed_of(works, results.values(), bandwidth=8_000.0)
    assert (speed.steps, speed.steps_per_s, speed.captured_steps) == (40, 10.0, 28)
    assert speed.bandwidth_share == 8_000 / 4.0 / 8_000
    assert speed.reason == "not here"
    assert speed.tok_per_s == pytest.approx(10 / max(result.seconds for result in results.values()))
    nothing = speed_of([], [], None)
    assert (nothing.steps_per_s, nothing.tok_per_s, nothing.bandwidth_share) == (0.0, 0.0, None)


def test_the_bandwidth_is_that_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bandwidth_bytes_s(torch.device("cpu")) is None
    properties = type("Properties", (), {"name": "NVIDIA GeForce RTX 4090", "total_memory": 24_080 << 20})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
    assert bandwidth_bytes_s(torch.device("cuda")) == 1008e9
    properties.name = "a card that nobody knows"
    assert bandwidth_bytes_s(torch.device("cuda")) is None


def test_a_session_knows_the_speed_of_its_last_request(tiny_model: Any) -> None:
    session = DecodingSession(tiny_model("llama"), NoText())
    assert session.speed is None
    session.decode(DecodingRequest(prompt_of(9), (Lane(),), 5))
    assert session.speed is not None
    assert (session.speed.steps, session.speed.captured_steps, session.speed.bandwidth_share) == (4, 0, None)


def test_the_figures_in_words() -> None:
    assert DecodingSpeed(0, 0.0, 0.0, None, 0).parts == []
    on_cpu = DecodingSpeed(9, 35.2, 208.4, None, 0)
    assert on_cpu.parts == ["35 steps/s", "208 tok/s in all lanes"]
    in_graph = DecodingSpeed(90, 1350.0, 8000.0, 0.514, 88)
    assert in_graph.parts[1:] == ["8,000 tok/s in all lanes", "51% of the bandwidth limit", "CUDA graph"]
    refused = DecodingSpeed(90, 35.0, 200.0, 0.02, 3, "it waits for the CPU")
    assert refused.parts[-1] == "no CUDA graph: it waits for the CPU"
