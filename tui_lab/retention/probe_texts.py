"""The token sequences on which a run measures its distance from the base.

One half is general text, the facts of the everyday suite as plain text; the other half are unconditional
samples of the base itself. Both alternate, so that any first part of the sequences is balanced."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence

import torch

from tui_lab.data.rows import Model, Tokenizer
from tui_lab.retention.scoring.forward import evaluation_mode
from tui_lab.retention.suites import registry

#: Shorter sequences are left out.
MIN_TOKENS = 8


def probe_sequences(
    model: Model, tokenizer: Tokenizer, count: int, length: int, seed: int, longest_s: float
) -> list[list[int]]:
    """``count`` sequences of at most ``length`` tokens. Sampling ends after about ``longest_s`` seconds: the
    samples are then shorter, and left out below MIN_TOKENS."""
    general = texts(tokenizer, count, length)
    sampled = samples(model, tokenizer, count // 2, length, seed, longest_s)
    sampled = [one for one in sampled if len(one) >= MIN_TOKENS]
    turns = itertools.zip_longest(general[: count - len(sampled)], sampled)
    return [one for turn in turns for one in turn if one]


def texts(tokenizer: Tokenizer, count: int, length: int) -> list[list[int]]:
    """``count`` sequences of ``length`` tokens from the stream of everyday facts."""
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    stream = _general_text(tokenizer)
    body_length = max(1, length - len(start))
    return [[*start, *itertools.islice(stream, body_length)] for _ in range(count)]


def _general_text(tokenizer: Tokenizer) -> Iterator[int]:
    """The tokens of all facts, repeated without end."""
    items = registry.load("everyday").items
    while True:
        for item in items:
            fact = f"{item.question} {item.choices[item.answers[0]]}\n"
            # at least one token each, or the stream would never yield
            yield from tokenizer(fact, add_special_tokens=False)["input_ids"] or [0]


def samples(
    model: Model, tokenizer: Tokenizer, count: int, length: int, seed: int, longest_s: float
) -> list[list[int]]:
    """Unconditional samples of the base at temperature 1, document after document. The same seed gives the
    same sequences; torch's random states are restored."""
    specials = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    first = next((token for token in specials if token is not None), None)
    # without a start token, each begins with the first token of a general text
    begins = [row[:1] for row in texts(tokenizer, count, length)] if first is None else [[first]] * count
    if not begins:
        return []
    device = model.get_input_embeddings().weight.device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), evaluation_mode(model):
        torch.manual_seed(seed)
        ids = torch.tensor(begins, device=device)  # (B, T)
        deadline, past = time.monotonic() + longest_s, None
        # not `generate`, which applies the model's penalties and stops at the end of a document
        while ids.shape[1] < length and time.monotonic() < deadline:
            unread = ids if past is None else ids[:, -1:]
            out = model(input_ids=unread, past_key_values=past, use_cache=True)
            past = getattr(out, "past_key_values", None)
            chosen = torch.multinomial(out.logits[:, -1].float().softmax(-1), 1)
            ids = torch.cat([ids, chosen], dim=1)
    rows: list[list[int]] = ids.tolist()
    return rows


def cut(rows: Sequence[Sequence[int]], count: int, length: int) -> list[list[int]]:
    """The first ``count`` rows of at least MIN_TOKENS, cut to ``length`` tokens: held-out text of the
    task."""
    long_enough = [list(row[:length]) for row in rows if len(row) >= MIN_TOKENS]
    return long_enough[:count] or [list(row[:length]) for row in rows if len(row)][:count]
