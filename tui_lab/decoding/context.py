"""The context length of a model: how many positions it was built for. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

#: The names under which architectures store it, the most common first.
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx")


def context_length(config: PreTrainedConfig | Mapping[str, object]) -> int | None:
    """The positions that a configuration names, in tokens; None if it has none.

    ``config`` is transformers' configuration or the content of a ``config.json``.
    """
    if isinstance(config, Mapping):
        found = [config.get(key) for key in CONTEXT_KEYS]
    else:
        text = config.get_text_config(decoder=True)
        found = [getattr(text, key, None) for key in CONTEXT_KEYS]
    lengths = (
        value for value in found if isinstance(value, int) and not isinstance(value, bool) and value > 0
    )
    return next(lengths, None)


def remaining_context(
    config: PreTrainedConfig | Mapping[str, object], prompt_tokens: int, virtual_tokens: int = 0
) -> int | None:
    """New tokens that fit after a prompt and an adapter's virtual tokens; None if the context is unknown.

    The last new token is emitted without being read, so it takes no position.
    """
    context = context_length(config)
    return None if context is None else context - prompt_tokens - virtual_tokens
