"""The base's figures for the retention probe of a run: distributions over some text and scores of some items.

They are measured once before training (PiSSA moves weights out of the base, and full tuning overwrites it),
written to the run's folder, and read by later attempts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tui_lab.core.files import atomic_file, write_atomically
from tui_lab.retention import kl, probe_texts
from tui_lab.retention.scoring import score as scoring
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.suites.records import Suite, subset
from tui_lab.runs.folder import Run
from tui_lab.training.probe_plan import LEAST_ITEMS, items_to_ask, kl_size
from tui_lab.training.types import Model, Tokenizer

VERSION = 1
#: Sequences of the task's held-out text at most.
MOST_TASK_SEQUENCES = 8
#: Seconds for sampling text from the base: at least, at most.
SAMPLING_S = (1.0, 30.0)
#: Text of the first timing: sequences, tokens of each.
TRIAL = (4, 32)
#: A training step takes about three forward passes.
PASSES_A_STEP = 3.0


@dataclass(frozen=True)
class ProbeBase:
    """The base's figures. ``general``, ``task``: distributions on both texts; ``scores``: of items by id. The
    seconds of measuring are the basis of the probe schedule: ``item_s`` per item, ``item_fixed_s`` per call,
    ``kl_s`` for both texts, ``seconds`` in total."""

    general: kl.BaseRecord
    task: kl.BaseRecord
    scores: dict[str, ItemScore]
    item_s: float
    item_fixed_s: float
    kl_s: float
    seconds: float

    def suite_of(self, suite: Suite, items: int) -> Suite:
        """The items that the base was asked, at most ``items`` of them where that is not 0."""
        asked = tuple(item for item in suite.items if item.id in self.scores)
        return part_of(dataclasses.replace(suite, items=asked), items)


def part_of(suite: Suite, items: int) -> Suite:
    """A balanced subset of a suite; a larger subset contains every smaller one."""
    return dataclasses.replace(suite, items=subset(suite.items, items))


def fingerprint(*facts: object) -> str:
    """A digest by which a later attempt recognises figures of the same base, text and items."""
    return hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()


# --- measuring ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BaseBudget:
    """What decides how much of the base is measured. ``trained_tokens``: that the run will train on;
    ``share``: of the training time for probes; ``longest``: tokens that a sequence may have."""

    trained_tokens: int
    share: float
    longest: int


def measure(
    model: Model,
    tokenizer: Tokenizer,
    suite: Suite,
    held_out: Sequence[Sequence[int]],
    *,
    budget: BaseBudget,
    seed: int,
    batch_tokens: int,
    on_progress: Callable[[str], None],
) -> ProbeBase:
    """Measures the base, in evaluation mode. ``held_out``: token ids of the task's validation rows. How much
    is measured follows from ``budget`` and from the time of a first trial. Raises LabError."""
    began = time.monotonic()
    on_progress("how likely the base finds text")
    token_s = _token_s(model, tokenizer)
    train_s = budget.trained_tokens * token_s * PASSES_A_STEP
    count, length = kl_size(train_s, token_s, budget.share)
    length = max(2, min(length, budget.longest))
    shortest_s, longest_s = SAMPLING_S
    sampling_s = min(longest_s, max(shortest_s, budget.share * train_s / 2))
    general = probe_texts.probe_sequences(model, tokenizer, count, length, seed, sampling_s)
    task = probe_texts.cut(held_out, max(2, min(MOST_TASK_SEQUENCES, count // 2)), length)
    reading = time.monotonic()
    kept_general, kept_task = (kl.record_base(model, texts, seed) for texts in (general, task))
    kl_s = time.monotonic() - reading

    on_progress(f"what the base answers to {suite.title}")
    done: dict[str, ItemScore] = {}

    def ask(items: int) -> float:
        """Scores ``items`` items, except those that are scored already; the seconds that it took."""
        start = time.monotonic()
        part = part_of(suite, items)
        scores = scoring.score(model, tokenizer, part, done=done, batch_tokens=batch_tokens)
        done.update((score.id, score) for score in scores)
        return time.monotonic() - start

    ask(LEAST_ITEMS // 2)  # the first call warms up caches
    few_s = ask(LEAST_ITEMS)
    few = LEAST_ITEMS - LEAST_ITEMS // 2
    item_s, fixed_s = few_s / few, 0.0
    if items_to_ask(train_s, item_s, budget.share) > 2 * LEAST_ITEMS:
        # a call takes a fixed time and one per item: two calls of different size separate them
        many_s = ask(3 * LEAST_ITEMS)
        many = max(few + 1, min(len(suite.items), 3 * LEAST_ITEMS) - LEAST_ITEMS)
        item_s = max((many_s - few_s) / (many - few), many_s / many / 2)
        fixed_s = max(0.0, few_s - few * item_s)
    ask(items_to_ask(train_s, item_s, budget.share))
    return ProbeBase(
        kept_general,
        kept_task,
        done,
        item_s=item_s,
        item_fixed_s=fixed_s,
        kl_s=kl_s,
        seconds=time.monotonic() - began,
    )


def _token_s(model: Model, tokenizer: Tokenizer) -> float:
    """Seconds of a forward pass per token, from the second pass over a little text."""
    texts = probe_texts.texts(tokenizer, *TRIAL)
    seconds = 0.0
    for _ in range(2):
        start = time.monotonic()
        for logits in kl.logits_of(model, texts):
            float(logits[0, 0])  # waits for the GPU
        seconds = time.monotonic() - start
    return seconds / sum(map(len, texts))


# --- keeping --------------------------------------------------------------------------------------------


def _paths(run: Run) -> tuple[Path, Path]:
    folder = run.path / "retention"
    return folder / "probe_base.json", folder / "probe_base.safetensors"


def write(run: Run, base: ProbeBase, key: str) -> None:
    """Writes the figures to the run's folder, complete or not at all."""
    facts, tensors = _paths(run)
    facts.parent.mkdir(mode=0o700, exist_ok=True)
    named: dict[str, torch.Tensor] = {}
    for part, record in (("general", base.general), ("task", base.task)):
        named |= {f"{part}.{name}": tensor.contiguous() for name, tensor in record.kept.tensors().items()}
        rows = record.sequences
        named[f"{part}.tokens"] = torch.tensor([token for row in rows for token in row], dtype=torch.int32)
        named[f"{part}.lengths"] = torch.tensor([len(row) for row in rows], dtype=torch.int32)
    with atomic_file(tensors) as partial:
        save_file(named, partial)
    known = {
        "v": VERSION,
        "key": key,
        "item_s": base.item_s,
        "item_fixed_s": base.item_fixed_s,
        "kl_s": base.kl_s,
        "seconds": base.seconds,
        "items": [dataclasses.asdict(score) for score in base.scores.values()],
    }
    write_atomically(facts, json.dumps(known))


def read(run: Run, key: str) -> ProbeBase | None:
    """The figures of an earlier attempt; None where there are none, or those of another base."""
    facts, tensors = _paths(run)
    try:
        record = json.loads(facts.read_text("utf-8"))
        if record["v"] != VERSION or record["key"] != key:
            return None
        named = load_file(tensors)
        scores = [_score(one) for one in record["items"]]
        return ProbeBase(
            _record(named, "general"),
            _record(named, "task"),
            {score.id: score for score in scores},
            *(float(record[name]) for name in ("item_s", "item_fixed_s", "kl_s", "seconds")),
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError):
        return None  # they are measured again


def _score(one: dict[str, Any]) -> ItemScore:
    lists = {key: tuple(one[key]) for key in ("loglikelihoods", "tokens")}
    return ItemScore(**{**one, **lists})


def _record(named: dict[str, torch.Tensor], part: str) -> kl.BaseRecord:
    fields = [field.name for field in dataclasses.fields(kl.BaseDistribution)]
    kept = kl.BaseDistribution(**{name: named[f"{part}.{name}"] for name in fields})
    lengths = named[f"{part}.lengths"].tolist()
    sequences = tuple(tuple(t.tolist()) for t in named[f"{part}.tokens"].split(lengths))
    if sum(lengths) != len(kept.top_ids):
        raise ValueError("the stored figures belong to other sequences")
    return kl.BaseRecord(sequences, kept)
