"""What a model thinks of a text that stands already: one forward over prompt and answer, then for every
token of the answer its log-probability, rank and entropy, and the most probable tokens. Base and tuned
side by side, and the perplexity of an answer under the base, come from here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from tui_lab.core.errors import LabError
from tui_lab.decoding.adapters import AdapterSplit
from tui_lab.decoding.decoders import token_stats
from tui_lab.decoding.detokenize import Decode
from tui_lab.decoding.forward import VirtualTokens
from tui_lab.decoding.session import BASE, DecodingSession

#: Positions whose logits are in memory at once.
_CHUNK = 64


@dataclass(frozen=True)
class Judged:
    """One token of a text in a model's eyes."""

    token_id: int
    logprob: float  # natural logarithm
    rank: int  # 1 is the most probable token
    entropy: float  # nats
    top: tuple[tuple[int, str, float], ...]  # token, text, log-probability of the most probable ones


def score_tokens(
    stage: DecodingSession, prompt_ids: Sequence[int], token_ids: Sequence[int], on: str = BASE, top: int = 0
) -> list[Judged]:
    """Every token of ``token_ids`` as ``on`` (base, an adapter or another model of the stage) judges it
    after the prompt and the tokens before it."""
    if on not in stage.names:
        raise LabError(f"there is no {on!r} to judge by; there are {', '.join(stage.names)}")
    if not prompt_ids:
        raise LabError("the prompt is empty: a first token has no probability without one before it")
    if not token_ids:
        return []
    model = stage.others.get(on, stage.model)
    adapter = stage.adapters.get(on)
    split = AdapterSplit(model, [adapter]) if adapter and adapter.virtual is None else None
    try:
        with split.rows([0, 1]) if split else nullcontext():
            states = _logits(
                model, [*prompt_ids, *token_ids], len(token_ids), adapter.virtual if adapter else None
            )
    finally:
        if split:
            split.close()
    return _read(states, token_ids, top, stage.decode_text)


def _logits(model: Any, ids: list[int], count: int, virtual: VirtualTokens | None) -> torch.Tensor:
    """Logits (count, V) that foretell the last ``count`` tokens."""
    from tui_lab.decoding.kv_cache import LaneCache

    device = model.get_input_embeddings().weight.device
    tokens = torch.tensor([ids], device=device)
    inputs: dict[str, Any] = {"input_ids": tokens, "use_cache": False}
    with torch.inference_mode():
        if virtual is not None and virtual.embeddings is not None:
            words = model.get_input_embeddings()(tokens)
            inputs = {
                "inputs_embeds": torch.cat((virtual.embeddings.to(words)[None], words), 1),
                "use_cache": False,
            }
        elif virtual is not None:
            cache = LaneCache(model.config, virtual.length + len(ids))
            for at, (keys, values) in enumerate(virtual.past):
                cache.update(keys, values, at)
            inputs |= {"past_key_values": cache, "use_cache": True}
        return model(**inputs, logits_to_keep=count + 1).logits[0, :-1]


def _read(logits: torch.Tensor, token_ids: Sequence[int], top: int, decode: Decode) -> list[Judged]:
    found = []
    for begin in range(0, len(token_ids), _CHUNK):
        rows = logits[begin : begin + _CHUNK].float()
        ids = torch.tensor(token_ids[begin : begin + _CHUNK], device=rows.device)
        best = rows.log_softmax(-1).topk(min(top, rows.shape[1])) if top else None
        for at, (token, facts) in enumerate(zip(ids.tolist(), token_stats(rows, ids).tolist(), strict=True)):
            shown: tuple[tuple[int, str, float], ...] = ()
            if best is not None:
                pairs = zip(best.indices[at].tolist(), best.values[at].tolist(), strict=True)
                shown = tuple((i, decode([i]), value) for i, value in pairs)
            found.append(Judged(token, facts[0], int(facts[1]), facts[2], shown))
    return found


def perplexity(judged: Sequence[Judged]) -> float:
    """exp of the mean negative log-probability; nan for no tokens."""
    return math.exp(-sum(j.logprob for j in judged) / len(judged)) if judged else math.nan
