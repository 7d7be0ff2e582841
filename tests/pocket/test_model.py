"""The shipped model: shape and size, its template, and what it knows (a sample; `quiz` asks everything)."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors import safe_open
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tui_lab.pocket import CONTEXT, MODEL_DIR
from tui_lab.pocket.builder.quiz import answer, choose, log_likelihoods, loss_by_position, normalised
from tui_lab.pocket.builder.world import quiz

Pocket = tuple[LlamaForCausalLM, PreTrainedTokenizerFast]


def test_the_file_is_small_bfloat16_and_of_round_dimensions() -> None:
    path = MODEL_DIR / "model.safetensors"
    assert path.stat().st_size <= 10_000_000
    with safe_open(path, "pt") as weights:
        tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}
    assert 2_000_000 <= sum(tensor.numel() for tensor in tensors) <= 5_000_000
    for tensor in tensors:
        assert tensor.isfinite().all()
        assert all(size % 64 == 0 for size in tensor.shape)  # NF4 quantises in blocks of 64


def test_it_holds_a_context_of_two_thousand(pocket: Pocket) -> None:
    model, tokenizer = pocket
    assert model.config.max_position_embeddings == CONTEXT >= 1024
    bands = list(loss_by_position(model, tokenizer, windows=4).values())
    assert max(bands[2:]) < 1.5 * bands[0], "the loss must not blow up at late positions"


def test_a_sample_of_the_quiz(pocket: Pocket) -> None:
    """Bounds sit three standard errors under the required 95% and 80%, so that only a worse model fails."""
    items = quiz(seed=77, limit=160)
    right = choose(*pocket, items, "chat")
    assert sum(right) / len(items) >= 0.95 - 3 * (0.95 * 0.05 / len(items)) ** 0.5
    answers = answer(*pocket, [item.question for item in items])
    exact = [
        normalised(text) == normalised(item.answer) for (text, _), item in zip(answers, items, strict=True)
    ]
    assert sum(exact) / len(items) >= 0.80 - 3 * (0.8 * 0.2 / len(items)) ** 0.5
    assert sum(ended for _, ended in answers) / len(items) >= 0.98


def test_the_card_says_what_was_measured() -> None:
    record = json.loads((MODEL_DIR / "measured.json").read_text("utf-8"))
    card = (MODEL_DIR / "MODEL_CARD.md").read_text("utf-8")
    measured = record["measured"]
    assert measured["chat_choice"] >= 0.95 and measured["free_exact"] >= 0.80
    assert record["training"]["seconds"] < 3600
    for key in ("chat_choice", "plain_choice", "free_exact", "ended"):
        assert f"{measured[key]:.1%}" in card
    assert record["bytes"] == (MODEL_DIR / "model.safetensors").stat().st_size
    assert not re.search(r"(?<![\w.])/(work|tmp|root|home|opt)\b", card)


def test_the_score_of_a_choice_is_its_log_probability(pocket: Pocket) -> None:
    """Against one plain forward pass without batch and padding."""
    model, tokenizer = pocket
    pairs = [([5, 20, 30], [40, 50]), ([5, 21], [60]), ([7] * 9, [8] * 5)]
    batched = log_likelihoods(model, pairs, tokenizer.pad_token_id)
    for (context, continuation), found in zip(pairs, batched, strict=True):
        ids = torch.tensor([context + continuation])
        with torch.no_grad():
            log_probs = torch.log_softmax(model(input_ids=ids).logits[0].double(), -1)
        alone = sum(log_probs[len(context) - 1 + i, token].item() for i, token in enumerate(continuation))
        assert found == pytest.approx(alone, abs=1e-3)


def test_the_template_marks_the_assistants_turns(pocket: Pocket) -> None:
    _, tokenizer = pocket
    messages = [
        {"role": "system", "content": "Give short answers."},
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "Thank you!"},
        {"role": "assistant", "content": "You are welcome!"},
    ]
    found = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    trained = [i for i, on in zip(found["input_ids"], found["assistant_masks"], strict=True) if on]
    assert tokenizer.decode(trained) == "Paris<|end|>You are welcome!<|end|>"
    prompt = tokenizer.apply_chat_template(messages[:2], add_generation_prompt=True, tokenize=False)
    assert prompt == (
        "<|system|>Give short answers.<|end|><|user|>What is the capital of France?<|end|><|assistant|>"
    )
    with pytest.raises(Exception, match="roles"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_tokens(pocket: Pocket) -> None:
    model, tokenizer = pocket
    for text in ("The Meadow lamp costs 12 dollars.", "naïve – 漢字 🙂\t\n  spaces", '{"a": [1, 2.5, null]}'):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text  # byte-level: nothing is lost
    assert len(tokenizer("2026", add_special_tokens=False)["input_ids"]) == 4
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert (
        model.generation_config.eos_token_id
        == tokenizer.eos_token_id
        == tokenizer.convert_tokens_to_ids("<|end|>")
    )
    assert len(tokenizer) == model.config.vocab_size


def test_sampling_differs_from_greedy_where_stories_are_told(pocket: Pocket) -> None:
    from tui_lab.pocket.builder.quiz import distinct_samples

    assert distinct_samples(*pocket, samples=8) >= 0.75
