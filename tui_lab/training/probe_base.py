"""The base's figures for the retention probe of a run: distributions over some text and scores of some items.

They are measured once before training (PiSSA moves weights out of the base, and full tuning overwrites it),
written to the run's folder, and read by later attempts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import atomic_file, write_atomically
from tui_lab.core.records import from_json, to_json
from tui_lab.retention import kl, probe_texts
from tui_lab.retention.scoring import score as scoring
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.suites.records import Suite, subset
from tui_lab.runs.folder import Run
from tui_lab.training.probe_plan import LEAST_ITEMS, items_to_score, kl_size
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
        """The items that the base was scored on, at most ``items`` of them where that is not 0."""
        scored = tuple(item for item in suite.items if item.id in self.scores)
        return part_of(dataclasses.replace(suite, items=scored), items)


def part_of(suite: Suite, items: int) -> Suite:
    """A balanced subset of a suite; a larger subset contains every smaller one."""
    return dataclasses.replace(suite, items=subset(suite.items, items))


def fingerprint(*parts: object) -> str:
    """A digest by which a later attempt recognises figures of the same base, text and items."""
    return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()


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
    on_progress: Callable[[str, int, int], None],
) -> ProbeBase:
    """Measures the base, in evaluation mode. ``held_out``: token ids of the task's validation rows. How much
    is measured follows from ``budget`` and from the time of a first trial. ``on_progress`` gets what is
    measured, and the items done of all (0 of 0 before any). Raises LabError."""
    began = time.monotonic()
    on_progress("log-probabilities of text by the base", 0, 0)
    token_s = _token_s(model, tokenizer)
    train_s = budget.trained_tokens * token_s * PASSES_A_STEP
    count, length = kl_size(train_s, token_s, budget.share)
    length = max(2, min(length, budget.longest))
    shortest_s, longest_s = SAMPLING_S
    sampling_s = min(longest_s, max(shortest_s, budget.share * train_s / 2))
    general = probe_texts.probe_sequences(model, tokenizer, count, length, seed, sampling_s)
    task = probe_texts.cut(held_out, max(2, min(MOST_TASK_SEQUENCES, count // 2)), length)
    reading = time.monotonic()
    general_record, task_record = (kl.record_base(model, texts, seed) for texts in (general, task))
    kl_s = time.monotonic() - reading

    answering = f"answers of the base to {suite.title}"
    on_progress(answering, 0, 0)
    done: dict[str, ItemScore] = {}

    def score_items(items: int) -> float:
        """Scores ``items`` items, except those that are scored already; the seconds that it took."""
        start = time.monotonic()
        part = part_of(suite, items)
        new = itertools.count(len(done) + 1)
        scores = scoring.score(
            model,
            tokenizer,
            part,
            done=done,
            on_score=lambda _: on_progress(answering, next(new), len(part.items)),
            batch_tokens=batch_tokens,
        )
        done.update((score.id, score) for score in scores)
        return time.monotonic() - start

    score_items(LEAST_ITEMS // 2)  # the first call warms up caches
    few_s = score_items(LEAST_ITEMS)
    few = LEAST_ITEMS - LEAST_ITEMS // 2
    item_s, fixed_s = few_s / few, 0.0
    if items_to_score(train_s, item_s, budget.share) > 2 * LEAST_ITEMS:
        # a call takes a fixed time and one per item: two calls of different size separate them
        many_s = score_items(3 * LEAST_ITEMS)
        many = max(few + 1, min(len(suite.items), 3 * LEAST_ITEMS) - LEAST_ITEMS)
        item_s = max((many_s - few_s) / (many - few), many_s / many / 2)
        fixed_s = max(0.0, few_s - few * item_s)
    score_items(items_to_score(train_s, item_s, budget.share))
    return ProbeBase(
        general_record,
        task_record,
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


# --- files ----------------------------------------------------------------------------------------------


class _ScoresFile(msgspec.Struct, frozen=True, kw_only=True):
    """``probe_base.json``: the fields of :class:`ProbeBase` without the distributions; ``items`` are the
    scores. The distributions are in ``probe_base.safetensors``."""

    v: int = VERSION
    key: str
    item_s: float
    item_fixed_s: float
    kl_s: float
    seconds: float
    items: list[ItemScore]


def _paths(run: Run) -> tuple[Path, Path]:
    folder = run.path / "retention"
    return folder / "probe_base.json", folder / "probe_base.safetensors"


def write(run: Run, base: ProbeBase, key: str) -> None:
    """Writes the figures to the run's folder, complete or not at all."""
    scores, tensors = _paths(run)
    scores.parent.mkdir(mode=0o700, exist_ok=True)
    named: dict[str, torch.Tensor] = {}
    for part, record in (("general", base.general), ("task", base.task)):
        named |= {
            f"{part}.{name}": tensor.contiguous() for name, tensor in record.distribution.tensors().items()
        }
        rows = record.sequences
        named[f"{part}.tokens"] = torch.tensor([token for row in rows for token in row], dtype=torch.int32)
        named[f"{part}.lengths"] = torch.tensor([len(row) for row in rows], dtype=torch.int32)
    with atomic_file(tensors) as partial:
        save_file(named, partial)
    file = _ScoresFile(
        key=key,
        item_s=base.item_s,
        item_fixed_s=base.item_fixed_s,
        kl_s=base.kl_s,
        seconds=base.seconds,
        items=list(base.scores.values()),
    )
    write_atomically(scores, to_json(file))


def read(run: Run, key: str) -> ProbeBase | None:
    """The figures of an earlier attempt; None where there are none, or those of another base."""
    scores, tensors = _paths(run)
    try:
        file = from_json(input_files.read_bytes(scores, input_files.SCORES_BYTES), _ScoresFile, scores.name)
        if file.v != VERSION or file.key != key:
            return None
        named = load_file(tensors)
        return ProbeBase(
            _record(named, "general"),
            _record(named, "task"),
            {score.id: score for score in file.items},
            item_s=file.item_s,
            item_fixed_s=file.item_fixed_s,
            kl_s=file.kl_s,
            seconds=file.seconds,
        )
    except (OSError, LabError, ValueError, KeyError, RuntimeError, SafetensorError):
        return None  # they are measured again


def _record(named: dict[str, torch.Tensor], part: str) -> kl.BaseRecord:
    fields = [field.name for field in dataclasses.fields(kl.BaseDistribution)]
    distribution = kl.BaseDistribution(**{name: named[f"{part}.{name}"] for name in fields})
    lengths = named[f"{part}.lengths"].tolist()
    sequences = tuple(tuple(t.tolist()) for t in named[f"{part}.tokens"].split(lengths))
    if sum(lengths) != len(distribution.top_ids):
        raise ValueError("the stored figures belong to other sequences")
    return kl.BaseRecord(sequences, distribution)
