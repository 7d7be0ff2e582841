"""Scoring speed: items as long as HellaSwag's, and the KL probe of a run."""

from __future__ import annotations

import random
import time

import torch
from transformers import AutoTokenizer

from tests.gpu.bench import Bench, PartLog
from tui_lab.pocket import MODEL_DIR
from tui_lab.retention import kl
from tui_lab.retention.scoring.score import score
from tui_lab.retention.suites.records import Item, Suite

MODEL = "Qwen/Qwen2.5-0.5B"
#: Words of a context and of an ending: HellaSwag's have about 60 and 25 tokens.
CONTEXT_WORDS, ENDING_WORDS = 40, 17


def run(bench: Bench, log: PartLog) -> None:
    """Runs the part."""
    model = bench.model(MODEL, four_bit=False)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    count = bench.pick(256, 4)
    with log.case("items like HellaSwag's"):
        warm, items = items_like_hellaswag(4, seed=1), items_like_hellaswag(count, seed=0)
        score(model, tokenizer, warm)
        bench.synchronize()
        began = time.perf_counter()
        found = score(model, tokenizer, items)
        seconds = time.perf_counter() - began
        log.figure(f"{count} items like HellaSwag's", seconds, "s")
        log.figure("items like HellaSwag's", count / seconds, "items/s")
        finite = all(torch.isfinite(torch.tensor(each.loglikelihoods)).all() for each in found)
        log.check("every item has a finite score", finite and len(found) == count)
    if not log.has_time("KL probe"):
        return
    with log.case("KL probe"):
        chance = random.Random(0)
        sequences, length = bench.pick((32, 256), (2, 16))
        vocabulary = model.config.vocab_size
        texts = [[chance.randrange(3, vocabulary) for _ in range(length)] for _ in range(sequences)]
        record = kl.record_base(model, texts, 0)
        seconds = bench.seconds(lambda: kl.kl_by_sequence(model, record))
        log.figure(f"KL probe, {sequences} × {length} tokens", seconds, "s")
        distance = max(abs(each) for each in kl.kl_by_sequence(model, record))
        log.check("the KL of a model from itself is 0", distance < 1e-6, f"{distance:.2g} nats")
    bench.free_memory()


def items_like_hellaswag(count: int, seed: int) -> Suite:
    """Items of random words with four endings each."""
    chance = random.Random(seed)
    words = [" ".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=3)).replace(" ", "") for _ in range(500)]

    def text(length: int) -> str:
        return " ".join(chance.choices(words, k=length))

    items = tuple(
        Item(
            id=f"item-{number}",
            context=text(CONTEXT_WORDS),
            continuations=tuple(f" {text(ENDING_WORDS)}" for _ in range(4)),
            answers=(0,),
        )
        for number in range(count)
    )
    return Suite(
        name="like-hellaswag", version="1", title="", description="", kind="choice", metric="acc_norm",
        items=items, chance=0.25, licence="", source="", sha256="",
    )  # fmt: skip
