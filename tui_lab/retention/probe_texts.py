"""The token sequences on which a run measures its distance from the base: general text, one half the facts of
the everyday suite told as plain text, the other half what the base itself says when nothing is asked (its own
samples, which no data set can leave out or over-represent). Halves take turns, so that any first part of the
sequences is balanced."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence

import torch

from tui_lab.data.rows import Model, Tokenizer
from tui_lab.retention.scoring.forward import evaluation_mode
from tui_lab.retention.suites import registry

#: Shorter than this a sequence says nothing.
MIN_TOKENS = 8


def probe_sequences(
    model: Model, tokenizer: Tokenizer, count: int, length: int, seed: int, longest_s: float
) -> list[list[int]]:
    """``count`` sequences of at most ``length`` tokens. Sampling is cut short after about ``longest_s``
    seconds: then the base's own sequences are fewer tokens long, and with too few they are left out."""
    told = texts(tokenizer, count, length)
    own = samples(model, tokenizer, count // 2, length, seed, longest_s)
    own = [one for one in own if len(one) >= MIN_TOKENS]
    turns = itertools.zip_longest(told[: count - len(own)], own)
    return [one for turn in turns for one in turn if one]


def texts(tokenizer: Tokenizer, count: int, length: int) -> list[list[int]]:
    """Sequences of ``length`` tokens out of the everyday facts, which go on where the last one ended."""
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    stream = _facts(tokenizer)
    room = max(1, length - len(start))
    return [[*start, *itertools.islice(stream, room)] for _ in range(count)]


def _facts(tokenizer: Tokenizer) -> Iterator[int]:
    """The tokens of all facts, again and again."""
    items = registry.load("everyday").items
    while True:
        for item in items:
            fact = f"{item.question} {item.choices[item.answers[0]]}\n"
            # a tokenizer that knows none of the words must not make this endless
            yield from tokenizer(fact, add_special_tokens=False)["input_ids"] or [0]


def samples(
    model: Model, tokenizer: Tokenizer, count: int, length: int, seed: int, longest_s: float
) -> list[list[int]]:
    """What the base says from nothing at temperature 1, documents one after another. The same seed gives the
    same sequences; torch's random states stay as they are."""
    own = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    first = next((token for token in own if token is not None), None)
    # where no token begins a text, the facts' first tokens do
    begins = [row[:1] for row in texts(tokenizer, count, length)] if first is None else [[first]] * count
    if not begins:
        return []
    device = model.get_input_embeddings().weight.device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), evaluation_mode(model):
        torch.manual_seed(seed)
        ids = torch.tensor(begins, device=device)  # (B, T)
        deadline, past = time.monotonic() + longest_s, None
        # not `generate`: it would take the model's own penalties and stop at the end of a document
        while ids.shape[1] < length and time.monotonic() < deadline:
            unread = ids if past is None else ids[:, -1:]
            out = model(input_ids=unread, past_key_values=past, use_cache=True)
            past = getattr(out, "past_key_values", None)
            chosen = torch.multinomial(out.logits[:, -1].float().softmax(-1), 1)
            ids = torch.cat([ids, chosen], dim=1)
    rows: list[list[int]] = ids.tolist()
    return rows


def cut(rows: Sequence[Sequence[int]], count: int, length: int) -> list[list[int]]:
    """The first ``count`` rows that are long enough, cut at ``length``: the task's own held-out text."""
    long_enough = [list(row[:length]) for row in rows if len(row) >= MIN_TOKENS]
    return long_enough[:count] or [list(row[:length]) for row in rows if len(row)][:count]
