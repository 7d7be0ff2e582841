"""The distance from the base: the estimate against the exact KL, on logits and on whole models."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from tui_lab.retention import kl

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
VOCABULARY = 150
SEQUENCES = [[3, 4, 5, 6, 7, 8, 9], [20, 21], [30, 31, 32, 33, 34], [140], [7] * 12]


def exact_kl(base: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """KL(base ‖ now) at each position (N,), nats, from both models' whole logits (N, V)."""
    p, q = base.double().log_softmax(-1), logits.double().log_softmax(-1)
    return torch.where(torch.isneginf(p), 0.0, p.exp() * (p - q)).sum(-1)


def exact_kl_by_sequence(model: Any, base: Any, sequences: Any) -> list[float]:
    pairs = zip(kl.logits_of(base, sequences), kl.logits_of(model, sequences), strict=True)
    values = torch.cat([exact_kl(one, other).cpu() for one, other in pairs])
    return [float(part.mean()) for part in values.split([len(one) for one in sequences])]


def models(kind: str) -> Any:
    torch.manual_seed(1)
    shared = {"vocab_size": VOCABULARY, "max_position_embeddings": 64, **SIZES}
    if kind == "neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**shared)).eval()
    if kind == "gemma":
        config = Gemma2Config(**shared, num_key_value_heads=2, head_dim=8, final_logit_softcapping=5.0)
        return Gemma2ForCausalLM(config).eval()
    if kind == "phi":
        model = PhiForCausalLM(PhiConfig(**shared)).eval()
        torch.nn.init.normal_(model.lm_head.bias, std=3.0)
        return model
    return LlamaForCausalLM(LlamaConfig(**shared, num_key_value_heads=2)).eval()


def moved(model: Any, by: float) -> Any:
    """A copy with all weights moved a little at random."""
    other = type(model)(model.config).eval()
    other.load_state_dict(model.state_dict())
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * by)
    return other


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the estimate ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vocabulary", "top"), [(40, 4), (300, 64), (2000, 64)])
def test_the_estimate_is_unbiased(vocabulary: int, top: int) -> None:
    """The mean over many draws of the tail lies within four standard errors of the exact KL; the stored top
    alone does not."""
    torch.manual_seed(vocabulary)
    base = torch.randn(1, vocabulary) * 1.5
    now = base + torch.randn(1, vocabulary)
    exact = float(exact_kl(base, now))
    many = 4000
    summary = kl.summarize(base.expand(many, -1), generator(0), top=top)
    estimates = kl.estimate_kl(summary, now.expand(many, -1))
    error = float(estimates.std() / math.sqrt(many))
    assert abs(float(estimates.mean()) - exact) < 4 * error + 1e-6
    p, q = base[0].double().log_softmax(-1), now[0].double().log_softmax(-1)
    best = p.topk(top).indices
    top_alone = float((p[best].exp() * (p[best] - q[best])).sum())
    assert abs(top_alone - exact) > 10 * error


@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.integers(2, 200),
    spread=st.floats(0.0, 12.0),
    change=st.floats(0.0, 6.0),
)
def test_the_estimate_is_a_number_that_is_zero_for_the_same_logits(
    seed: int, vocabulary: int, spread: float, change: float
) -> None:
    torch.manual_seed(seed)
    base = torch.randn(3, vocabulary) * spread
    summary = kl.summarize(base, generator(seed))
    assert torch.allclose(kl.estimate_kl(summary, base), torch.zeros(3, dtype=torch.float64), atol=1e-5)
    now = base + torch.randn(3, vocabulary) * change
    estimate, exact = kl.estimate_kl(summary, now), exact_kl(base, now)
    assert torch.isfinite(estimate).all() and (estimate > -1e-5).all()
    if vocabulary <= kl.TOP:  # everything is stored
        assert torch.allclose(estimate, exact, atol=1e-4, rtol=1e-4)


def test_kl_is_finite_for_probabilities_of_zero_and_one() -> None:
    base = torch.zeros(2, 100)
    base[:, 1:] = -math.inf  # one token has everything
    base[1, 1] = 0.0
    summary = kl.summarize(base, generator(0))
    now = torch.randn(2, 100)
    assert torch.allclose(kl.estimate_kl(summary, now), exact_kl(base, now), atol=1e-5)


def test_kl_does_not_depend_on_constants_added_to_logits() -> None:
    base, now = torch.randn(4, 500), torch.randn(4, 500)
    summary = kl.summarize(base, generator(3))
    assert torch.allclose(kl.estimate_kl(summary, now), kl.estimate_kl(summary, now + 7.5), atol=1e-5)


def test_a_summary_takes_little_memory() -> None:
    summary = kl.summarize(torch.randn(10, 1000), generator(0))
    assert sum(t.numel() * t.element_size() for t in summary.tensors().values()) == 10 * (72 * 8 + 4)


# --- models --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "neox", "gemma", "phi"])
@pytest.mark.parametrize("chunk", [3, 10_000])
def test_logits_equal_those_of_separate_sequences(
    kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kl, "positions_per_block", lambda _device, _vocabulary: chunk)
    monkeypatch.setattr(kl, "BATCH_TOKENS", 20)
    model = models(kind)
    found = list(kl.logits_of(model, SEQUENCES))
    assert max(map(len, found)) <= chunk
    with torch.no_grad():
        alone = torch.cat([model(input_ids=torch.tensor([one])).logits[0] for one in SEQUENCES])
    assert torch.allclose(torch.cat(found), alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "neox", "gemma", "phi"])
def test_kl_between_models(kind: str) -> None:
    model = models(kind)
    base = kl.record_base(model, SEQUENCES, seed=5)
    assert base.tokens == sum(map(len, SEQUENCES)) == len(base.distribution.top_ids)
    assert kl.kl_by_sequence(model, base) == pytest.approx([0.0] * len(SEQUENCES), abs=1e-6)
    other = moved(model, 0.05)
    exact = exact_kl_by_sequence(other, model, SEQUENCES)
    assert min(exact) > 1e-4
    estimates = torch.tensor(
        [kl.kl_by_sequence(other, kl.record_base(model, SEQUENCES, seed)) for seed in range(40)]
    )
    error = estimates.std(0) / math.sqrt(len(estimates))
    assert bool(((estimates.mean(0) - torch.tensor(exact)).abs() < 4.5 * error + 1e-6).all())
    part = base.part(3, 4)
    assert part.sequences == ((3, 4, 5, 6), (20, 21), (30, 31, 32, 33)) and part.tokens == 10
    assert kl.kl_by_sequence(other, base.part(2, 99)) == pytest.approx(
        kl.kl_by_sequence(other, base)[:2], abs=1e-6
    )
    # what a causal model says of the first tokens does not depend on those after them
    texts = [list(one) for one in part.sequences]
    values = torch.cat(
        [
            kl.estimate_kl(base.distribution.part(at, at + size), logits)
            for at, size, logits in zip(
                (0, 7, 9),
                (4, 2, 4),
                torch.cat(list(kl.logits_of(other, texts))).split([4, 2, 4]),
                strict=True,
            )
        ]
    )
    assert kl.kl_by_sequence(other, part) == pytest.approx(
        [float(one.mean()) for one in values.split([4, 2, 4])], abs=1e-6
    )


def test_measuring_an_adapter_does_not_change_the_model() -> None:
    import peft

    model = models("llama")
    base = kl.record_base(model, SEQUENCES, seed=0)
    config = peft.LoraConfig(
        r=4, lora_dropout=0.5, target_modules=["v_proj", "o_proj"], task_type="CAUSAL_LM"
    )
    tuned = peft.get_peft_model(model, config).train()
    assert kl.kl_by_sequence(tuned, base) == pytest.approx([0.0] * len(SEQUENCES), abs=1e-6)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=2.0)
    state = torch.get_rng_state()
    once, again = kl.kl_by_sequence(tuned, base), kl.kl_by_sequence(tuned, base)
    assert once == again and min(once) > 1e-4  # dropout is off
    assert tuned.training and torch.equal(state, torch.get_rng_state())
    with tuned.disable_adapter():
        assert kl.kl_by_sequence(tuned, base) == pytest.approx([0.0] * len(SEQUENCES), abs=1e-6)


def test_virtual_tokens_are_measured() -> None:
    import peft

    model = models("llama")
    base = kl.record_base(model, SEQUENCES, seed=0)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    tuned = peft.get_peft_model(model, config).eval()
    found = kl.kl_by_sequence(tuned, base)
    assert len(found) == len(SEQUENCES) and min(found) > 1e-6
    logits = torch.cat(list(kl.logits_of(tuned, SEQUENCES[:1])))
    with torch.no_grad():
        whole = tuned(input_ids=torch.tensor(SEQUENCES[:1])).logits[0, 3:]
    assert torch.allclose(logits, whole, atol=1e-5)


def test_kl_of_a_diverged_model_is_nan() -> None:
    model = models("llama")
    base = kl.record_base(model, SEQUENCES, seed=0)
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
    assert all(math.isnan(value) for value in kl.kl_by_sequence(model, base))


def test_interleaved_measurements_do_not_change_gradients() -> None:
    base = models("llama")
    exact_kl_by_sequence(moved(models("llama"), 0.1), base, SEQUENCES)
    assert torch.is_grad_enabled()
    unfinished = kl.logits_of(base, SEQUENCES)
    next(unfinished)
    assert torch.is_grad_enabled()
