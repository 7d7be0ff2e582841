"""Scoring against lm-evaluation-harness itself on the same items: seconds of both in one run, how many times
as fast, and every difference there is. The harness must be importable, as must real HellaSwag and MMLU files
be beside the checkout (or under TUI_LAB_SHARED). Items reach it with the contexts and continuations of the
suites, which tests/retention/suites/test_standard.py checks against the harness's own."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.benchmarks.figures import Figure
from tests.paths import SHARED
from tui_lab.models.loading import quiet_libraries
from tui_lab.pocket import MODEL_DIR
from tui_lab.retention.scoring.score import ItemScore, score
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Suite

#: Suite, categories (0: all) and items. Few-shot items of one subject share their examples, so there are many
#: of a few subjects, as in the whole benchmark. A few minutes on two cores, most of them the harness's.
SUITES = (("hellaswag:{data}/hellaswag", 0, 200), ("mmlu:{data}/mmlu", 0, 200), ("mmlu@5:{data}/mmlu", 3, 60))
#: The harness's default batch size, and a larger one: it is measured by the faster of the two.
BATCHES = (1, 8)
TOLERANCE = 1e-4  # nats; where float32 itself is coarser (from 1,024 nats on), two of its steps


def suite_of(where: str, categories: int, items: int) -> Suite:
    """A part of a suite, as many items of each category."""
    if not categories:
        return registry.load(where, items)
    whole = registry.load(where)
    each = items // categories
    chosen = [
        item
        for name in whole.categories[:categories]
        for item in [item for item in whole.items if item.category == name][:each]
    ]
    return replace(whole, items=tuple(chosen))


def by_harness(
    model: Any, tokenizer: Any, suite: Suite, batch_size: int
) -> tuple[list[list[float]], float, float]:
    """The log-likelihood of every continuation of every item, and the seconds that they took: on the wall and
    on the processor."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu")
    requests = [
        Instance("loglikelihood", {}, (item.context, text), at)
        for item in suite.items
        for at, text in enumerate(item.continuations)
    ]
    wall, cpu = time.perf_counter(), time.process_time()
    values = iter(harness.loglikelihood(requests, disable_tqdm=True))
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    return [[next(values)[0] for _ in item.continuations] for item in suite.items], *seconds


def differences(suite: Suite, ours: list[ItemScore], theirs: list[list[float]]) -> tuple[float, int, int]:
    """The largest difference of a log-likelihood (nats), how many are further apart than the tolerance, on
    how many items a choice differs, for acc or for acc_norm. Choices are made as the harness makes them:
    argmax of sums, and of sums by length."""
    largest, apart, choices = 0.0, 0, 0
    for item, one, other in zip(suite.items, ours, theirs, strict=True):
        for a, b in zip(one.loglikelihoods, other, strict=True):
            largest = max(largest, abs(a - b))
            apart += abs(a - b) > max(TOLERANCE, 2 * float(numpy.spacing(numpy.float32(abs(b)))))
        plain = max(range(len(other)), key=lambda i: other[i])
        normed = max(range(len(other)), key=lambda i: other[i] / len(item.choices[i]))
        choices += (plain, normed) != (one.predicted, one.predicted_norm)
    return largest, apart, choices


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
    totals = [0.0, 0.0]
    with quiet_libraries():
        for folder in (SHARED / "models" / "stories260K", MODEL_DIR):
            for figure in _model(folder):
                yield figure
                if figure.unit == "s CPU":
                    totals[figure.name.endswith("here, CPU")] += figure.value
    yield Figure("all of it: times as fast (CPU)", totals[0] / totals[1], "×")


def _model(folder: Path) -> Iterator[Figure]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    name = "pocket" if folder == MODEL_DIR else folder.name
    score(model, tokenizer, registry.load("everyday", 8))  # what the first forward loads is nobody's time
    for where, categories, items in SUITES:
        suite = suite_of(where.format(data=SHARED / "data"), categories, items)
        wall, cpu = time.perf_counter(), time.process_time()
        ours = score(model, tokenizer, suite)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        tried = [by_harness(model, tokenizer, suite, size) for size in BATCHES]
        theirs, their_wall, their_cpu = min(tried, key=lambda one: one[2])
        largest, apart, choices = differences(suite, ours, theirs)
        case = f"{name}, {suite.name}, {len(suite.items)} items"
        yield Figure(f"{case}: harness", their_wall, "s")
        yield Figure(f"{case}: harness, CPU", their_cpu, "s CPU")
        yield Figure(f"{case}: here", wall, "s")
        yield Figure(f"{case}: here, CPU", cpu, "s CPU")
        yield Figure(f"{case}: times as fast (CPU)", their_cpu / cpu, "×")
        yield Figure(f"{case}: largest difference", largest, "nats")
        yield Figure(f"{case}: log-likelihoods too far apart", apart, "", 0)
        yield Figure(f"{case}: items chosen differently", choices, "", 0)
