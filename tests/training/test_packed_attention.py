"""Packed rows without a mask: the same losses and gradients as each document alone, on every architecture
that :data:`tui_lab.recipes.packed_attention.VARLEN_MODELS` names, and what torch's kernel is asked for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tests.training.conftest import losses, recipe_for
from tui_lab.hardware.device import DeviceFacts
from tui_lab.recipes.packed_attention import VARLEN_MODELS
from tui_lab.recipes.recipe import build
from tui_lab.recipes.resolve import Resolution, resolve
from tui_lab.training import packed_attention
from tui_lab.training.trainer import LabTrainer

VOCABULARY, LENGTHS = 97, (5, 9, 3, 12)
TOTAL = sum(LENGTHS)
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 1,
}  # fmt: skip
#: Windows are shorter than the longest documents.
SPECIAL: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8},
    "phi3": {"sliding_window": 4},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "attn_pdrop": 0, "resid_pdrop": 0, "embd_pdrop": 0},
}


class Squares(TorchDispatchMode):
    """Operations whose result has a square of all tokens of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.dim() > 1 and leaf.shape[-2:] == (TOTAL, TOTAL):
                self.found.append(str(func))
        return result


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SIZES, **SPECIAL.get(kind, {})})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").train()
    model.config.use_cache = False
    return model


def documents() -> list[torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    return [torch.randint(3, VOCABULARY, (length,), generator=chance) for length in LENGTHS]


def packed() -> dict[str, Any]:
    collator = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    batch: dict[str, Any] = collator([{"input_ids": d.tolist(), "labels": d.tolist()} for d in documents()])
    return batch


def loss_of(model: Any, labels: torch.Tensor, **inputs: Any) -> torch.Tensor:
    logits = model(**inputs).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=-100, reduction="sum")


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("kind", VARLEN_MODELS)
def test_packed_equals_alone(kind: str) -> None:
    model = model_of(kind)
    alone = 0.0
    for document in documents():
        loss = loss_of(model, document[None], input_ids=document[None])
        loss.backward()  # type: ignore[no-untyped-call]
        alone += float(loss.detach())
    expected = {name: each.clone() for name, each in gradients(model).items()}
    model.zero_grad()
    if model.supports_gradient_checkpointing:  # layers are computed again in the backward pass
        model.gradient_checkpointing_enable()
    batch = packed()
    labels = batch.pop("labels")
    with Squares() as squares, packed_attention.attention_without_mask(model):
        loss = loss_of(model, labels, **batch)
        loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(alone, rel=1e-6)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=name)
    assert not squares.found
    assert model.config._attn_implementation == "sdpa"


def test_a_mask_has_the_square_that_is_saved() -> None:
    model, batch = model_of("llama"), packed()
    labels = batch.pop("labels")
    with Squares() as squares:
        loss_of(model, labels, **batch)
    assert squares.found


def test_a_model_that_loses_the_bounds_is_refused() -> None:
    batch = packed()
    labels = batch.pop("labels")
    model = model_of("stablelm")
    with (
        packed_attention.attention_without_mask(model),
        pytest.raises(RuntimeError, match="packed_attention"),
    ):
        loss_of(model, labels, **batch)


@pytest.mark.parametrize("kind", ["mistral", "gemma3_text"])
def test_padded_rows_keep_their_windows(kind: str) -> None:
    model = model_of(kind)
    ids = torch.stack([documents()[3], documents()[3].flip(0)])
    expected = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    with packed_attention.attention_without_mask(model, packed_attention.ROWS):
        torch.testing.assert_close(model(input_ids=ids).logits, expected)


@pytest.mark.parametrize("objective", [{}, {"kl_weight": 0.3}, {"kl_weight": 0.3, "method": "full"}])
def test_a_run_has_the_same_losses_as_with_a_mask(
    make_trainer: Callable[..., LabTrainer], objective: dict[str, Any]
) -> None:
    recipe = recipe_for(
        packing=True, per_device_train_batch_size=3, max_steps=2, gradient_checkpointing=True, **objective
    )
    histories = []
    for way in ("mask", "varlen"):
        trainer = make_trainer(recipe, packed_attention=way, folder=way)
        trainer.train()
        histories.append([*losses(trainer), trainer.validation_loss()])
    assert histories[1] == pytest.approx(histories[0], rel=1e-4)
    assert len(histories[0]) == 3


# --------------------------------------------------------------------------------------------------
# torch's kernel


def by_mask(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    *args: Any,
    **options: Any,
) -> torch.Tensor:
    """What ``varlen_attn`` documents: softmax of (T, heads, D) within documents and window."""
    left, right = options["window_size"]
    total, groups = len(query), query.shape[1] // key.shape[1]
    assert groups == 1 or options["enable_gqa"]
    document = torch.bucketize(torch.arange(total), bounds.long()[1:], right=True)
    distance = torch.arange(total)[:, None] - torch.arange(total)
    seen = (
        (document[:, None] == document) & (distance <= (left if left >= 0 else total)) & (distance >= -right)
    )
    key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * options["scale"]
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), value)


@pytest.mark.parametrize("window", [None, 1, 4, 40])
def test_the_kernel_is_asked_for_the_same(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_mask)
    monkeypatch.setattr(packed_attention, "_groups_heads", lambda: True)
    chance = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(TOTAL, heads, 8, generator=chance) for heads in (4, 2, 2))
    bounds = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0).tolist()], dtype=torch.int32)
    arguments = (query, key, value, bounds, max(LENGTHS), 0.3, window)
    by_kernel = packed_attention.kernel(*arguments)
    torch.testing.assert_close(by_kernel, packed_attention.document_by_document(*arguments))


def test_a_torch_without_the_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", lambda query, is_causal=False: query)
    assert "no causal window" in packed_attention.why_no_kernel()
    monkeypatch.undo()
    assert not packed_attention.why_no_kernel()


def test_dropout_and_odd_heads_are_named() -> None:
    model = model_of("llama")
    assert not packed_attention.why_not(model)
    model.config.attention_dropout = 0.1
    assert "dropout" in packed_attention.why_not(model)
    model.config.attention_dropout, model.config.head_dim = 0.0, 12
    assert "heads of 12" in packed_attention.why_not(model)
    wrapped = get_peft_model(model_of("llama"), LoraConfig(target_modules=["q_proj"]))
    with packed_attention.attention_without_mask(wrapped):
        assert packed_attention.active(wrapped.get_base_model())
    assert not packed_attention.active(wrapped.get_base_model())


# --------------------------------------------------------------------------------------------------
# which is chosen


CARD = DeviceFacts("cuda", "NVIDIA A100-SXM4-80GB", 80 << 30, True, 8)
T4 = DeviceFacts("cuda", "Tesla T4", 16 << 30, False, 8)
CPU = DeviceFacts("cpu", "cpu", 0, True, 1)


def resolved(kind: str, device: DeviceFacts, **values: Any) -> Resolution:
    model = SimpleNamespace(label=kind, model_type=kind, parameters=10**9, context=8192, chat_template=True)
    return resolve(build({"model": "x", "packing": True, **values}), device, model)


def reason_of(found: Resolution) -> str:
    return next(each.reason for each in found.reasons if each.field == "packed_attention")


@pytest.mark.parametrize(
    ("kind", "device", "values", "expected", "reason"),
    [
        ("qwen2", CARD, {}, "varlen", "without a mask"),
        ("gemma3_text", CARD, {}, "varlen", "without a mask"),
        ("gemma2", CARD, {}, "mask", "caps its attention logits"),
        ("stablelm", CARD, {}, "mask", "was not compared"),
        ("qwen2", T4, {}, "mask", "a card with bf16"),
        ("qwen2", CARD, {"compute_dtype": "float32"}, "mask", "16 bits"),
        ("qwen2", CARD, {"packed_attention": "mask"}, "mask", "the recipe sets it"),
        ("qwen2", CPU, {}, "mask", "needs CUDA"),
        ("qwen2", CPU, {"packed_attention": "varlen"}, "varlen", "one after the other"),
    ],
)
def test_choice_and_reason(
    kind: str, device: DeviceFacts, values: dict[str, Any], expected: str, reason: str
) -> None:
    found = resolved(kind, device, **values)
    assert found.values.packed_attention == expected
    assert reason in reason_of(found)


def test_an_old_torch_keeps_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_lab.recipes.packed_attention._torch_version", lambda: (2, 9))
    found = resolved("qwen2", CARD, packed_attention="varlen")
    assert found.values.packed_attention == "mask" and "torch 2.9" in reason_of(found)
    assert any("packed_attention = 'varlen'" in text for text in found.warnings)
