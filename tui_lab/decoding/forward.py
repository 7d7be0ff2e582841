"""One forward of the whole batch: ``prefill`` of the prompt, ``step`` of one token a row. Both go through
the model's ordinary forward, whatever its architecture, with our cache in place of its own, and bring the
hidden states after the final norm along where contrastive search needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tui_lab.decoding.kv_cache import LaneCache


@dataclass(frozen=True)
class VirtualTokens:
    """What a virtual-token adapter puts before the prompt: embeddings (n, H), or keys and values of n
    positions for every layer, each (1, heads, n, head_dim)."""

    embeddings: torch.Tensor | None = None
    past: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()

    @property
    def length(self) -> int:
        if self.embeddings is not None:
            return int(self.embeddings.shape[0])
        return int(self.past[0][0].shape[2]) if self.past else 0


@dataclass(frozen=True)
class Prefilled:
    """The prompt, read: logits (R, V) of the next token, hidden states (R, L, H) if asked for, cache."""

    logits: torch.Tensor
    hidden: torch.Tensor | None
    cache: LaneCache


@contextmanager
def _last_hidden(model: Any, wanted: bool) -> Iterator[list[torch.Tensor]]:
    """Collects the decoder's output, i.e. hidden states after the final norm, during a forward."""
    found: list[torch.Tensor] = []
    if not wanted:
        yield found
        return
    decoder = getattr(model, model.base_model_prefix)

    def collect(module: Any, args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output.last_hidden_state)

    handle = decoder.register_forward_hook(collect)
    try:
        yield found
    finally:
        handle.remove()


def prefill(
    model: Any, prompt: torch.Tensor, *, want_hidden: bool = False, virtual: VirtualTokens | None = None
) -> Prefilled:
    """Reads the prompt (R, L), one row for each model that shares the batch. Positions of virtual tokens
    count for the cache and are left out of the hidden states."""
    rows, length = prompt.shape
    virtual = virtual or VirtualTokens()
    cache = LaneCache(model.config, virtual.length + length)
    inputs: dict[str, Any] = {"input_ids": prompt}
    if virtual.embeddings is not None:
        words = model.get_input_embeddings()(prompt)  # (R, L, H)
        before = virtual.embeddings.to(words).unsqueeze(0).expand(rows, -1, -1)
        inputs = {"inputs_embeds": torch.cat((before, words), dim=1)}
    for at, (keys, values) in enumerate(virtual.past):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), at)
    with torch.inference_mode(), _last_hidden(model, want_hidden) as found:
        out = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    hidden = found[0][:, -length:] if found else None
    return Prefilled(out.logits[:, -1].float(), hidden, cache)


def step(
    model: Any, tokens: torch.Tensor, cache: LaneCache, *, want_hidden: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Feeds one token to every row (R,); returns logits (R, V) in float32 and hidden states (R, H)."""
    with torch.inference_mode(), _last_hidden(model, want_hidden) as found:
        out = model(input_ids=tokens.unsqueeze(1), past_key_values=cache, use_cache=True)
    return out.logits[:, -1].float(), found[0][:, -1] if found else None
