"""Scoring against lm-evaluation-harness itself on the same items: seconds of both in one run, how many times
as fast, and every difference there is. The harness must be importable, as must real HellaSwag and MMLU files
be beside the checkout (or under TUI_LAB_SHARED). Items reach it with the contexts and continuations of the
suites, which tests/retention/test_suites_standard.py checks against the harness's own."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.benchmarks.figures import Figure
from tui_lab.decoding.loading import quiet_libraries
from tui_lab.pocket import MODEL_DIR
from tui_lab.retention import suites
from tui_lab.retention.scoring import ItemScore, score
from tui_lab.retention.suites_records import Suite

SHARED = Path(os.environ.get("TUI_LAB_SHARED") or Path(__file__).parents[3] / "shared")
#: Suite and items: a few minutes on two cores, most of them the harness's.
SUITES = (("hellaswag:{data}/hellaswag", 300), ("mmlu:{data}/mmlu", 285), ("mmlu@5:{data}/mmlu", 57))
#: The harness gets the batch size at which it is fastest; its default of 1 is slower than all of these.
BATCHES = (8, 32)
TOLERANCE = 1e-4  # nats


def by_harness(model: Any, tokenizer: Any, suite: Suite, batch_size: int) -> tuple[list[list[float]], float]:
    """The log-likelihood of every continuation of every item, and the seconds that they took."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu")
    requests = [
        Instance("loglikelihood", {}, (item.context, text), at)
        for item in suite.items
        for at, text in enumerate(item.continuations)
    ]
    began = time.perf_counter()
    values = iter(harness.loglikelihood(requests, disable_tqdm=True))
    seconds = time.perf_counter() - began
    return [[next(values)[0] for _ in item.continuations] for item in suite.items], seconds


def differences(suite: Suite, ours: list[ItemScore], theirs: list[list[float]]) -> tuple[float, int]:
    """The largest difference of a log-likelihood (nats), and on how many items a choice differs, for acc or
    for acc_norm. Choices are made here as the harness makes them: argmax of sums, and of sums by length."""
    largest, choices = 0.0, 0
    for item, one, other in zip(suite.items, ours, theirs, strict=True):
        largest = max(largest, *(abs(a - b) for a, b in zip(one.loglikelihoods, other, strict=True)))
        plain = max(range(len(other)), key=lambda i: other[i])
        normed = max(range(len(other)), key=lambda i: other[i] / len(item.choices[i]))
        choices += (plain, normed) != (one.predicted, one.predicted_norm)
    return largest, choices


def run() -> Iterator[Figure]:
    if importlib.util.find_spec("lm_eval") is None:
        print("  lm-evaluation-harness (lm_eval) is not installed: nothing to compare with")
        return
    if not (SHARED / "data" / "hellaswag").is_dir():
        print(
            "  there are no HellaSwag and MMLU files beside the checkout; TUI_LAB_SHARED names their folder"
        )
        return
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # one thread each: on a busy machine more threads measure the other programs
    torch.set_num_threads(1)
    with quiet_libraries():
        for folder in (SHARED / "models" / "stories260K", MODEL_DIR):
            yield from _model(folder)


def _model(folder: Path) -> Iterator[Figure]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    name = "pocket" if folder == MODEL_DIR else folder.name
    score(model, tokenizer, suites.load("everyday", 8))  # what the first forward loads is nobody's time
    for where, limit in SUITES:
        suite = suites.load(where.format(data=SHARED / "data"), limit)
        began = time.perf_counter()
        ours = score(model, tokenizer, suite)
        seconds = time.perf_counter() - began
        tried = [by_harness(model, tokenizer, suite, size) for size in BATCHES]
        theirs, slowest = min(tried, key=lambda one: one[1])
        largest, choices = differences(suite, ours, theirs)
        case = f"{name}, {suite.name}, {len(suite.items)} items"
        yield Figure(f"{case}: harness", slowest, "s")
        yield Figure(f"{case}: here", seconds, "s")
        yield Figure(f"{case}: times as fast", slowest / seconds, "×")
        yield Figure(f"{case}: largest difference", largest, "nats", TOLERANCE)
        yield Figure(f"{case}: items chosen differently", choices, "", 0)
