"""Attention of packed rows without a mask: each document attends to its own tokens.

A mask of a packed micro-batch has as many entries as the square of its tokens, and sdpa copies it into each
layer. Here torch's kernel for sequences of different lengths (``torch.nn.attention.varlen``, flash attention)
takes the bounds of the documents, which trl's collator puts beside the tokens (``cu_seq_lens_q``). It needs
CUDA; on a CPU the documents are computed one by one, for tests.

The implementation has no mask function, so it only serves packed batches, inside of
:func:`attention_without_mask`. A model that does not pass the bounds on to its layers raises there instead of
mixing documents. A second one, for rows that are padded on the right, is plain causal attention: padding
comes later and has no labels. transformers looks at every mask, and the GPU waits for the host meanwhile.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tui_lab.training.trainer_seams import attention_name, set_attention_name
from tui_lab.training.types import Model

#: The names under which transformers finds the implementations: for packed batches, and for padded rows.
DOCUMENTS, ROWS = "packed_documents", "causal_rows"
#: The widest head that flash attention computes.
MOST_HEAD_DIM = 256
#: The columns of a batch that name the bounds of its documents.
BOUNDS, LONGEST = "cu_seq_lens_q", "max_length_q"


def why_no_kernel() -> str:
    """Why this torch has no kernel for packed documents; "" where it has one."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return f"torch {torch.__version__} has no attention for packed documents"
    if "window_size" not in inspect.signature(varlen_attn).parameters:
        return f"torch {torch.__version__}'s attention for packed documents has no causal window"
    return ""


def why_not(model: Model) -> str:
    """Why a loaded model cannot be trained without a mask; "" where it can."""
    config = model.config.get_text_config()
    for name in ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob"):
        if rate := getattr(config, name, 0.0):
            return f"{name} = {rate}: attention without a mask has no dropout"
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    if width > MOST_HEAD_DIM or width % 8:
        return f"heads of {width} values: the kernel takes multiples of 8 up to {MOST_HEAD_DIM}"
    return why_no_kernel() if model.device.type == "cuda" else ""


def is_packed(inputs: Mapping[str, Any]) -> bool:
    """Whether a batch has the bounds of packed documents, and no mask."""
    return inputs.get(BOUNDS) is not None and inputs.get("attention_mask") is None


@contextmanager
def attention_without_mask(model: Model, name: str = DOCUMENTS) -> Iterator[None]:
    """Batches inside are computed without a mask, forward and backward (checkpointing computes layers again
    there). ``name``: :data:`DOCUMENTS`, :data:`ROWS`, or "" to change nothing."""
    if not name:
        yield
        return
    plain = model.get_base_model() if hasattr(model, "peft_config") else model
    config = plain.config.get_text_config()
    before = attention_name(config)
    set_attention_name(config, name)
    try:
        yield
    finally:
        set_attention_name(config, before)


def active(model: Model) -> str:
    """The name with which a plain model is inside of :func:`attention_without_mask`; "" outside."""
    name = attention_name(model.config.get_text_config())
    return name if name in (DOCUMENTS, ROWS) else ""


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' interface: query (1, H, T, D), key and value (1, K, T, D) with K heads that divide H, to
    (1, T, H, D). Raises RuntimeError for what the kernel does not compute."""
    bounds = kwargs.get(BOUNDS)
    if bounds is None or attention_mask is not None or query.shape[0] != 1:
        raise RuntimeError(
            f"packed documents: {type(module).__name__} does not get their bounds; "
            "set packed_attention = 'mask'"
        )
    if dropout or kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise RuntimeError(
            f"packed documents: {type(module).__name__} has dropout, a soft cap or a sink in its attention; "
            "set packed_attention = 'mask'"
        )
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
    q, k, v = (each[0].transpose(0, 1).to(dtype) for each in (query, key, value))  # (T, heads, D)
    compute = kernel if device == "cuda" else document_by_document
    longest = kwargs.get(LONGEST) or query.shape[2]
    return compute(q, k, v, bounds, int(longest), scaling, sliding_window)[None], None


def causal_rows(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' interface: query (B, H, T, D), key and value (B, K, T, D), to (B, T, H, D)."""
    length = query.shape[2]
    if attention_mask is None and sliding_window is not None and sliding_window < length:
        attention_mask = _window(length, sliding_window, query.device)
    result: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return result


def _window(length: int, window: int, device: torch.device) -> Tensor:
    """Which positions (T, T) a token sees: itself and the ``window`` - 1 before."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position
    return (distance >= 0) & (distance < window)


def kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """torch's kernel over (T, heads, D); ``window``: tokens that a token sees, itself included."""
    from torch.nn.attention.varlen import varlen_attn

    options: dict[str, Any] = {"scale": scaling, "window_size": (-1 if window is None else window - 1, 0)}
    if _groups_heads():
        options["enable_gqa"] = query.shape[1] != key.shape[1]
    elif repeats := query.shape[1] // key.shape[1] - 1:
        key, value = (each.repeat_interleave(repeats + 1, 1) for each in (key, value))
    result = varlen_attn(query, key, value, bounds, bounds, longest, longest, **options)
    assert isinstance(result, Tensor)
    return result


@lru_cache(maxsize=1)
def _groups_heads() -> bool:
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters


def document_by_document(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    _longest: int,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """The same over each document in turn, for devices without the kernel."""
    results = []
    at = bounds.tolist()
    for begin, end in pairwise(at):
        q, k, v = (each[begin:end].transpose(0, 1)[None] for each in (query, key, value))
        mask = None
        if window is not None and window < end - begin:
            mask = _window(end - begin, window, query.device)
        result = scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
        )
        results.append(result[0].transpose(0, 1))
    return torch.cat(results)


AttentionInterface.register(DOCUMENTS, attention)
AttentionInterface.register(ROWS, causal_rows)
