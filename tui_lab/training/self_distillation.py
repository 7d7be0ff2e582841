"""The phase of a run in which the base writes the training answers anew, see
:mod:`tui_lab.data.self_distillation`. Greedy, in batches of similar length. Finished batches are in a file of
the run folder, so that an interrupted phase goes on there; a finished file is kept in the cache by the digest
of base, rows and settings, so that other runs of the same data need no generation."""

from __future__ import annotations

import gc
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import atomic_file, prune
from tui_lab.core.out_of_memory import free_memory, is_out_of_memory
from tui_lab.core.paths import cache_dir
from tui_lab.core.records import from_json, to_json
from tui_lab.data import row_tokens, self_distillation
from tui_lab.data.encoding import EncodedArrays, encode_batch
from tui_lab.data.examples import Example
from tui_lab.data.rows import TokenRow
from tui_lab.data.store import TokenRows
from tui_lab.decoding.generate import generate_answers
from tui_lab.models import dynamic_4bit
from tui_lab.runs.event_parts import Rewriting
from tui_lab.runs.schema import PhaseEvent, SelfDistillationEvent, WarningEvent
from tui_lab.training.attempt_records import AttemptContext, ResolvedRecipe, TrainingData
from tui_lab.training.base_model import load_base
from tui_lab.training.types import Model, Tokenizer

FILE = "self_distillation.jsonl"
PHASE = "self_distillation"
BATCH_ROWS = 32
#: Tokens of a new answer at most: twice the longest reference of its batch and a few more.
LENGTH_FACTOR, LENGTH_MORE, LONGEST = 2, 32, 1024
#: The share of rewritten answers under which a warning says that there is little to gain.
FEW = 0.1
#: Rewritings that the event has, and finished files in the cache.
SHOWN, CACHED_FILES, CACHED_BYTES = 5, 16, 4 << 30
_LONGEST_LINE = 4 << 20


def apply(context: AttemptContext, resolved: ResolvedRecipe, data: TrainingData) -> TrainingData:
    """The data with the answers of its training rows rewritten by the base. Raises LabError."""
    examples = data.prepared.train_examples
    if examples and examples[0].text is not None:
        raise LabError(
            "self_distillation rewrites answers, and these rows are plain text without answers; set "
            "self_distillation = false"
        )
    context.events.write(PhaseEvent(name=PHASE, detail=f"{len(examples):,} rows"))
    path = context.run.path / FILE
    digest = _digest(context, resolved, data)
    stored = cache_dir() / PHASE / f"{digest}.jsonl"
    if not path.exists() and stored.is_file() and data.inputs.base:
        shutil.copyfile(stored, path)
    done = _read(path, digest)
    if len(done) < len(examples):
        report = context.progress.of(PHASE, "rows")
        names = dynamic_4bit.names_of(context.run.path)
        base = load_base(resolved.source, context.recipe, resolved.device, resolved.values, names)
        try:
            _rewrite(base.eval(), data.tokenizer, examples, path, done, report)
        finally:
            del base
            gc.collect()
            free_memory()
        _keep(path, stored)
    event = _event(examples, done)
    context.events.write(event)
    if event.rewritten < FEW * event.rows:
        text = (
            f"the base could rewrite only {event.rewritten:,} of {event.rows:,} answers: self_distillation "
            "changes little; use a base that is tuned for instructions, or the preset keeper"
        )
        context.events.write(WarningEvent(text=text))
    rows = _encoded(data.tokenizer, examples, done, resolved.max_length)
    summary = msgspec.structs.replace(
        data.prepared.summary,
        train_rows=len(rows),
        train_tokens=int(rows.lengths.sum()),
        train_trained_tokens=int(rows.trained.sum()),
        mean_tokens=float(rows.lengths.mean()),
        longest_tokens=int(rows.lengths.max()),
    )
    return replace(data, prepared=replace(data.prepared, train=rows, summary=summary))


def _digest(context: AttemptContext, resolved: ResolvedRecipe, data: TrainingData) -> str:
    """What the new answers depend on."""
    inputs, values = data.inputs, resolved.values
    budget = context.recipe.unquantized_budget
    parts = (
        inputs.base, inputs.tokenizer, inputs.rows, values.compute_dtype, values.quantization,
        resolved.device.type, self_distillation.TEMPLATE, BATCH_ROWS, LENGTH_FACTOR, LENGTH_MORE, LONGEST,
        *([budget] if budget else []),
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _read(path: Path, digest: str) -> dict[int, Rewriting]:
    """The rows that are in a file of the same digest; a damaged line and what follows it are left out."""
    found: dict[int, Rewriting] = {}
    if not path.exists():
        path.write_text(to_json({"digest": digest}) + "\n", encoding="utf-8")
        return found
    with input_files.open_regular(path) as source:
        good = len(first := source.readline(_LONGEST_LINE))
        if first.decode("utf-8", "replace").strip() != to_json({"digest": digest}):
            raise LabError(
                f"{FILE} in the run folder has answers to other rows or of another base; start a new run"
            )
        while (line := source.readline(_LONGEST_LINE)).endswith(b"\n"):
            try:
                each = from_json(line, Rewriting, FILE)
            except LabError:
                break
            found[each.row] = each
            good += len(line)
    with path.open("rb+") as file:
        file.truncate(good)
    return found


def _keep(path: Path, stored: Path) -> None:
    """Copies a finished file into the cache and removes the oldest ones there. A cache that cannot be written
    only costs later runs their time."""
    try:
        stored.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_file(stored) as target:
            shutil.copyfile(path, target)
        prune(stored.parent, "*.jsonl", CACHED_FILES, CACHED_BYTES)
    except OSError:
        return


def _rewrite(
    model: Model,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    path: Path,
    done: dict[int, Rewriting],
    report: Callable[[int, int], None],
) -> None:
    """Answers the rows that are not in ``done``, adds them there, and appends each batch to the file. Batches
    are the same whichever rows are done, so an interrupted phase ends with the same answers. Raises
    LabError where one answer does not fit into memory."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 1 << 30
    stops = row_tokens.stop_ids(tokenizer, model, chat=bool(tokenizer.chat_template))
    prompts: dict[int, list[int]] = {}
    lengths: dict[int, int] = {}
    skipped = []
    for row, example in enumerate(examples):
        if not self_distillation.can_be_rewritten(example):
            skipped.append(Rewriting(row=row, text="", lost="not a text"))
            continue
        prompts[row] = row_tokens.prompt_ids(tokenizer, self_distillation.rewriting_prompt(example))
        reference = tokenizer(example.expected, add_special_tokens=False)["input_ids"]
        lengths[row] = min(LONGEST, LENGTH_FACTOR * len(reference) + LENGTH_MORE)
        if len(prompts[row]) + lengths[row] > context:
            skipped.append(Rewriting(row=row, text="", lost="too long"))
            del prompts[row]
    _append(path, [each for each in skipped if each.row not in done], done)
    order = sorted(prompts, key=lambda row: (len(prompts[row]), row))
    report(len(done), len(examples))
    for first in range(0, len(order), BATCH_ROWS):
        batch = order[first : first + BATCH_ROWS]
        if all(row in done for row in batch):
            continue
        limit = min(max(lengths[row] for row in batch), context - max(len(prompts[row]) for row in batch))
        texts = _answers(model, tokenizer, [prompts[row] for row in batch], stops, limit)
        found = []
        for row, text in zip(batch, texts, strict=True):
            loss = self_distillation.lost(text, examples[row].expected)
            if not loss and len(tokenizer(text, add_special_tokens=False)["input_ids"]) >= limit - 1:
                loss = "without an end"
            found.append(Rewriting(row=row, text=text, lost=loss))
        _append(path, found, done)
        report(len(done), len(examples))


def _answers(
    model: Model, tokenizer: Tokenizer, prompts: list[list[int]], stops: list[int], limit: int
) -> list[str]:
    """Greedy answers, in smaller batches where memory runs out."""
    rows_a_batch = len(prompts)
    while True:
        try:
            with torch.no_grad():
                return generate_answers(
                    model, tokenizer, prompts,
                    stop_ids=stops, max_new_tokens=limit, rows_a_batch=rows_a_batch,
                )  # fmt: skip
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            error.__traceback__ = None  # it holds the tensors of the batch
        free_memory()
        if rows_a_batch == 1:
            raise LabError(
                f"self_distillation: an answer of {limit} tokens does not fit the free memory; close other "
                "programs, or set quantization = 'nf4'"
            )
        rows_a_batch //= 2


def _append(path: Path, found: Sequence[Rewriting], done: dict[int, Rewriting]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(to_json(each) + "\n" for each in found)
    done.update((each.row, each) for each in found)


def _event(examples: Sequence[Example], done: dict[int, Rewriting]) -> SelfDistillationEvent:
    used = [each for each in done.values() if not each.lost]
    return SelfDistillationEvent(
        rows=len(examples),
        rewritten=len(used),
        kept=dict(Counter(each.lost for each in done.values() if each.lost).most_common()),
        examples=[
            msgspec.structs.replace(each, reference=examples[each.row].expected)
            for each in sorted(used, key=lambda each: each.row)[:SHOWN]
        ],
    )


def _encoded(
    tokenizer: Tokenizer, examples: Sequence[Example], done: dict[int, Rewriting], max_length: int
) -> TokenRows:
    """The training rows with their new answers; a row whose new answer cannot be trained keeps its own."""
    rows: list[TokenRow] = []
    for first in range(0, len(examples), 256):
        own = examples[first : first + 256]
        new = [
            self_distillation.with_answer(example, done[first + at].text)
            if not done[first + at].lost
            else example
            for at, example in enumerate(own)
        ]
        pairs = zip(own, encode_batch(tokenizer, new), encode_batch(tokenizer, list(own)), strict=True)
        for example, rewritten, plain in pairs:
            for encoded in (rewritten, plain):
                if isinstance(encoded, EncodedArrays) and (cut := encoded.cut(max_length)).trained:
                    row: TokenRow = {"input_ids": cut.ids.tolist(), "labels": cut.labels.tolist()}
                    if example.task:
                        row["task"] = example.task
                    rows.append(row)
                    break
    return TokenRows.of(rows)
