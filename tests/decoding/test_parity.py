"""Greedy and beam lanes against transformers' own ``generate``, token for token in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.decoding.conftest import ARCHITECTURES, prompt_of
from tui_lab.decoding.detokenize import decoder_of
from tui_lab.decoding.engine import Lockstep, decode_all
from tui_lab.decoding.records import DecodingRequest, LaneResult
from tui_lab.decoding.strategies import PRESETS, Beam, Contrastive, Greedy, Lane, Sample


def numbers(ids: list[int]) -> str:
    return " ".join(map(str, ids))


def lockstep(model: Any, prompt: tuple[int, ...], *strategies: Any, **settings: Any) -> list[LaneResult]:
    lanes = tuple(s if isinstance(s, Lane) else Lane(s, 1 if s.random else None) for s in strategies)
    return list(decode_all([Lockstep(model, DecodingRequest(prompt, lanes, **settings), numbers)]).values())


def generate(
    model: Any, prompt: tuple[int, ...], new: int, stop_ids: frozenset[int], **settings: Any
) -> list[int]:
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=sorted(stop_ids) or None,
        pad_token_id=0,
        **settings,
    )
    return out[0, len(prompt) :].tolist()


#: A fifth of the vocabulary ends the text, so that lanes end early and at different steps.
STOPS = frozenset(range(128, 160))
RARE = frozenset({9})


# the longer prompt passes the sliding window of 12 in the prefill, the shorter one during decoding
@pytest.mark.parametrize(("length", "stops"), [(7, frozenset[int]()), (40, frozenset({5, 17, 90}))])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_equals_generate(
    tiny_model: Any, model_type: str, length: int, stops: frozenset[int]
) -> None:
    model, new = tiny_model(model_type), 16
    prompt = prompt_of(length)
    penalty = {"repetition_penalty": 1.4}
    lanes: list[tuple[Any, dict[str, Any]]] = [
        (Greedy(), {"num_beams": 1}),
        (Greedy(**penalty), penalty),
        (Beam(4), {"num_beams": 4}),
        (
            Beam(3, length_penalty=0.3, early_stopping=True),
            {"num_beams": 3, "length_penalty": 0.3, "early_stopping": True},
        ),
        (Beam(2, **penalty), {"num_beams": 2, **penalty}),
    ]
    results = lockstep(
        model, prompt, *(s for s, _ in lanes), Contrastive(), Sample(), max_new_tokens=new, stop_ids=stops
    )
    for result, (strategy, settings) in zip(results, lanes, strict=False):
        assert list(result.token_ids) == generate(model, prompt, new, stops, **settings), strategy
    if not stops:
        assert len(set(results[0].token_ids)) >= 4, "the tiny models do not just repeat themselves"


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.6, 1.0, 3.0])
def test_beam_bookkeeping_equals_generate(
    tiny_model: Any, early_stopping: Any, length_penalty: float
) -> None:
    model = tiny_model("llama", sharpness=6.0, num_hidden_layers=1)
    for beams, stops, seed in ((2, RARE, 0), (5, STOPS, 0), (5, RARE, 1), (2, STOPS, 1)):
        prompt = prompt_of(9, seed)
        result = lockstep(
            model, prompt, Beam(beams, length_penalty, early_stopping), max_new_tokens=16, stop_ids=stops
        )[0]
        ids = torch.tensor([prompt])
        out = model.generate(
            ids,
            max_new_tokens=16,
            do_sample=False,
            num_beams=beams,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            eos_token_id=sorted(stops),
            return_dict_in_generate=True,
            output_scores=True,
        )
        assert list(result.token_ids) == out.sequences[0, len(prompt) :].tolist()
        # a penalty of -1 multiplies the sum by the length: hundreds, where float32 resolves 6e-5
        assert result.score == pytest.approx(float(out.sequences_scores[0]), rel=1e-6, abs=1e-4)


def test_finished_lanes_leave_the_batch(tiny_model: Any) -> None:
    """Every lane alone equals the same lane together with others that end before and after it."""
    model = tiny_model("qwen3", sharpness=6.0)
    strategies = [
        Beam(3),
        Greedy(),
        Contrastive(),
        Sample(),
        Sample("top-p", top_p=0.8),
        Beam(2),
        Greedy(1.5),
    ]
    lanes = [Lane(s, seed) for seed, s in enumerate(strategies)]
    together = lockstep(model, prompt_of(11), *lanes, max_new_tokens=20, stop_ids=STOPS)
    assert len({len(r.token_ids) for r in together}) > 2
    for lane, result in zip(lanes, together, strict=True):
        alone = lockstep(model, prompt_of(11), lane, max_new_tokens=20, stop_ids=STOPS)[0]
        assert alone.token_ids == result.token_ids, lane.text
        assert [t.logprob for t in alone.tokens] == pytest.approx(
            [t.logprob for t in result.tokens], abs=1e-4
        )


@pytest.mark.parametrize(
    "strategy",
    [
        Beam(1, length_penalty=2.0),
        Contrastive(0.0, 4),
        Contrastive(0.7, 1),
        Sample("temperature", temperature=0.0),
        Sample("temperature", temperature=1e-6),
        Sample("temperature", temperature=1e-30),
        Sample("top-k", top_k=1),
        Sample("top-p", top_p=1e-9),
        Sample("min-p", min_p=1.0),
    ],
)
def test_limits_are_greedy(tiny_model: Any, strategy: Any) -> None:
    model = tiny_model("llama")
    greedy, other = lockstep(
        model, prompt_of(12), Greedy(), strategy, max_new_tokens=30, stop_ids=frozenset({3})
    )
    assert other.token_ids == greedy.token_ids


STORIES = ["Once upon a time", "Lily and Tom went to the park. They saw a big"]


@pytest.mark.parametrize("text", STORIES)
def test_stories_equal_generate(stories: tuple[Any, Any], text: str) -> None:
    model, tokenizer = stories
    prompt = tuple(tokenizer(text)["input_ids"])
    stops = frozenset({1, 2})
    settings: list[tuple[Any, dict[str, Any]]] = [
        (Greedy(), {}),
        (Greedy(1.3), {"repetition_penalty": 1.3}),
        (Beam(4), {"num_beams": 4}),
        (Beam(6, 2.0, "never"), {"num_beams": 6, "length_penalty": 2.0, "early_stopping": "never"}),
        (Beam(3, 0.5, True), {"num_beams": 3, "length_penalty": 0.5, "early_stopping": True}),
    ]
    lanes = tuple(Lane(s) for s, _ in settings) + PRESETS["six classics"]
    results = decode_all([Lockstep(model, DecodingRequest(prompt, lanes, 30, stops), decoder_of(tokenizer))])
    for result, (_, kwargs) in zip(results.values(), settings, strict=False):
        assert list(result.token_ids) == generate(model, prompt, 30, stops, **kwargs)
        assert result.text == tokenizer.decode(result.token_ids, skip_special_tokens=True)


def test_pocket_equals_generate(pocket: tuple[Any, Any]) -> None:
    model, tokenizer = pocket
    end = model.generation_config.eos_token_id
    stops = frozenset([end] if isinstance(end, int) else end or [])
    prompt = tuple(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "Where does Ada live?"}], add_generation_prompt=True
        )["input_ids"]
    )
    results = lockstep(
        model,
        prompt,
        Greedy(),
        Beam(4),
        Beam(3, 0.4, True),
        *PRESETS["six classics"],
        max_new_tokens=48,
        stop_ids=stops,
    )
    assert list(results[0].token_ids) == generate(model, prompt, 48, stops)
    assert list(results[1].token_ids) == generate(model, prompt, 48, stops, num_beams=4)
    third = generate(model, prompt, 48, stops, num_beams=3, length_penalty=0.4, early_stopping=True)
    assert list(results[2].token_ids) == third
