"""Scores a given text with a model: one forward over prompt and text, then log-probability, rank and entropy
of every token, and the most probable tokens at its position. The inspector compares base and tuned model with
it, and it gives the perplexity of an answer under the base model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.adapters import AdapterSplit
from tui_lab.decoding.detokenize import Decode
from tui_lab.decoding.forward import CausalModel, VirtualTokens, embed, embedding_weight, virtual_cache
from tui_lab.decoding.lane_output import token_stats
from tui_lab.decoding.records import ScoredToken
from tui_lab.decoding.session import BASE, DecodingSession

#: Positions whose statistics are computed at once, which bounds the memory for logits in float32.
_CHUNK = 64


def score_tokens(
    session: DecodingSession,
    prompt_ids: Sequence[int],
    token_ids: Sequence[int],
    on: str = BASE,
    top: int = 0,
) -> list[ScoredToken]:
    """Scores each of ``token_ids`` after the prompt and the tokens before it, with the ``top`` most probable
    tokens at its position.

    ``on``: the base, an adapter or another model of the session. Raises LabError for an unknown ``on`` and
    for an empty prompt."""
    if on not in session.names:
        raise LabError(f"there is no model {sanitize(on)!r}; there are {', '.join(session.names)}")
    if not prompt_ids:
        raise LabError("the prompt is empty: the first token has no probability without one before it")
    if not token_ids:
        return []
    adapter = session.adapters.get(on)
    virtual = adapter.virtual if adapter else None
    model = session.model_of(on)
    ids = [*prompt_ids, *token_ids]
    if max(ids) >= (rows := embedding_weight(model).shape[0]):
        raise LabError(f"the text has tokens that {sanitize(on)} does not know: its vocabulary has {rows:,}")
    if adapter is None or virtual is not None:
        logits = _logits(model, ids, len(token_ids), virtual)
    else:
        split = AdapterSplit(model, [adapter])
        try:
            with split.rows([0, 1]):
                logits = _logits(model, ids, len(token_ids), None)
        finally:
            split.close()
    return _scores(logits, token_ids, top, session.decoder(on))


def _logits(model: CausalModel, ids: list[int], count: int, virtual: VirtualTokens | None) -> torch.Tensor:
    """The logits (count, V) that predict the last ``count`` tokens."""
    tokens = torch.tensor([ids], device=embedding_weight(model).device)
    with torch.inference_mode():
        if virtual is None:
            out = model(input_ids=tokens, use_cache=False, logits_to_keep=count + 1)
        elif virtual.embeddings is not None:
            embeddings = embed(model, tokens, virtual.embeddings)
            out = model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=count + 1)
        else:
            cache = virtual_cache(model, virtual, 1, len(ids))
            out = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=count + 1)
    logits: torch.Tensor = out.logits[0, :-1]
    return logits


def _scores(logits: torch.Tensor, token_ids: Sequence[int], top: int, decode: Decode) -> list[ScoredToken]:
    scores = []
    for begin in range(0, len(token_ids), _CHUNK):
        rows = logits[begin : begin + _CHUNK].float()
        ids = torch.tensor(token_ids[begin : begin + _CHUNK], device=rows.device)
        best = rows.log_softmax(-1).topk(min(top, rows.shape[1])) if top else None
        for at, (token, stats) in enumerate(zip(ids.tolist(), token_stats(rows, ids).tolist(), strict=True)):
            most_probable: tuple[tuple[int, str, float], ...] = ()
            if best is not None:
                pairs = zip(best.indices[at].tolist(), best.values[at].tolist(), strict=True)
                most_probable = tuple((i, decode([i]), value) for i, value in pairs)
            scores.append(ScoredToken(token, stats[0], int(stats[1]), stats[2], most_probable))
    return scores
