"""Forward passes of a whole batch: :func:`prefill` reads the prompt, :func:`step` one token per row. Both
call the model's ordinary forward with our cache, and return the hidden states after the final norm if
contrastive search needs them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from tui_lab.decoding.kv_cache import FixedShape, LaneCache

#: A causal language model of transformers.
CausalModel = PreTrainedModel


def embedding_weight(model: CausalModel) -> torch.Tensor:
    """The input embeddings (V, H). Token ids must be on their device."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight


def takes_positions(model: CausalModel) -> bool:
    """Whether the positions of a batch can be given, which padding before a prompt needs."""
    return "position_ids" in inspect.signature(model.forward).parameters


@dataclass(frozen=True)
class VirtualTokens:
    """What a virtual-token adapter adds before the prompt: embeddings (n, H), or keys and values of n
    positions for every layer, each (1, heads, n, head_dim)."""

    embeddings: torch.Tensor | None = None
    past: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()

    @property
    def length(self) -> int:
        """Number of virtual positions, n."""
        if self.embeddings is not None:
            return int(self.embeddings.shape[0])
        return int(self.past[0][0].shape[2]) if self.past else 0


@dataclass(frozen=True)
class Prefilled:
    """The result of the prefill."""

    logits: torch.Tensor  # (R, V) of the next token, in float32
    hidden: torch.Tensor | None  # (R, L, H), if requested
    cache: LaneCache


@contextmanager
def _last_hidden(model: CausalModel, wanted: bool) -> Iterator[list[torch.Tensor]]:
    """Collects the decoder's output, the hidden states after the final norm, of the forwards inside."""
    outputs: list[torch.Tensor] = []
    if not wanted:
        yield outputs
        return

    def collect(
        _module: torch.nn.Module, _args: object, output: tuple[torch.Tensor, ...] | BaseModelOutputWithPast
    ) -> None:
        state = output[0] if isinstance(output, tuple) else output.last_hidden_state
        assert state is not None
        outputs.append(state)

    handle = model.base_model.register_forward_hook(collect)
    try:
        yield outputs
    finally:
        handle.remove()


def embed(model: CausalModel, tokens: torch.Tensor, virtual: torch.Tensor) -> torch.Tensor:
    """Embeddings (R, n + L, H) of virtual tokens (n, H) followed by tokens (R, L)."""
    embeddings = model.get_input_embeddings()(tokens)
    prefix = virtual.to(embeddings).unsqueeze(0).expand(len(tokens), -1, -1)
    return torch.cat((prefix, embeddings), dim=1)


def virtual_cache(model: CausalModel, virtual: VirtualTokens, rows: int, positions: int) -> LaneCache:
    """A cache for ``positions`` real positions per row, with the virtual keys and values in front."""
    cache = LaneCache(model.config, virtual.length + positions)
    for at, (keys, values) in enumerate(virtual.past):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), at)
    return cache


def prefill(
    model: CausalModel,
    prompt: torch.Tensor,
    *,
    want_hidden: bool = False,
    virtual: VirtualTokens | None = None,
    padding: torch.Tensor | None = None,
) -> Prefilled:
    """Reads the prompt (R, L), one row for each adapter that shares the batch. Virtual tokens take positions
    of the cache and are left out of the hidden states. ``padding`` (R,): the first positions of each row that
    are no part of its prompt."""
    rows, length = prompt.shape
    virtual = virtual or VirtualTokens()
    cache = virtual_cache(model, virtual, rows, length)
    inputs = {"input_ids": prompt}
    if virtual.embeddings is not None:
        inputs = {"inputs_embeds": embed(model, prompt, virtual.embeddings)}
    if padding is not None:
        inputs |= _padded(padding, 0, length)
    with torch.inference_mode(), _last_hidden(model, want_hidden) as states:
        out = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    hidden = states[0][:, -length:] if states else None
    return Prefilled(out.logits[:, -1].float(), hidden, cache)


def step(
    model: CausalModel,
    tokens: torch.Tensor,
    cache: LaneCache,
    *,
    want_hidden: bool = False,
    padding: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Reads one token per row (R,); returns float32 logits (R, V) and, if requested, hidden states (R, H).
    ``padding``: as in :func:`prefill`.

    With fixed shapes of the cache, positions and masks come from its position on the device, which the
    caller advances."""
    inputs: dict[str, Any] = {"input_ids": tokens.unsqueeze(1), "past_key_values": cache, "use_cache": True}
    with torch.inference_mode(), _last_hidden(model, want_hidden) as states:
        if cache.fixed is not None:
            inputs["position_ids"] = cache.fixed.position.view(1, 1).expand(len(tokens), 1)
            inputs["attention_mask"] = attention_masks(model, cache, cache.fixed, len(tokens))
        elif padding is not None:
            inputs |= _padded(padding, cache.length, cache.length + 1)
        out = model(**inputs)
    return out.logits[:, -1].float(), states[0][:, -1] if states else None


def _padded(padding: torch.Tensor, first: int, end: int) -> dict[str, torch.Tensor]:
    """The mask (R, end) of a forward, and the positions (R, end - first) that it reads, with so much padding
    (R,) before each row."""
    places = torch.arange(end, device=padding.device)
    mask = (places >= padding.unsqueeze(1)).long()
    return {
        "attention_mask": mask,
        "position_ids": (places[first:] - padding.unsqueeze(1)).clamp(min=0),
    }


def attention_masks(
    model: CausalModel, cache: LaneCache, fixed: FixedShape, rows: int
) -> torch.Tensor | dict[str, torch.Tensor]:
    """The masks (rows, 1, 1, bucket) of a forward with fixed shapes as the model takes them: one, or one for
    each kind of layer."""
    config = model.config.get_text_config(decoder=True)

    def mask(window: int | None) -> torch.Tensor:
        seen = fixed.mask(window).expand(rows, 1, 1, fixed.bucket)
        if getattr(config, "_attn_implementation", "eager") == "sdpa":
            return seen
        lowest = torch.finfo(model.dtype).min
        return torch.zeros_like(seen, dtype=model.dtype).masked_fill_(~seen, lowest)

    windows = [layer.window for layer in cache.layers]
    window = next((each for each in windows if each is not None), None)
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return {"full_attention": mask(None), "sliding_attention": mask(window)}
    return mask(window)
