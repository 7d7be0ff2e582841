"""What is shipped, measured as the run was: the same suites and held-out rows, asked of base, tuned model,
merged weights and GGUF file, item by item."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.core.out_of_memory import free_memory
from tui_lab.data.rows import Model, Tokenizer
from tui_lab.evaluation import evaluate, prompts
from tui_lab.evaluation.acquisition import HeldOutTask
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.evaluation.request import resolve_target
from tui_lab.export.kinds import ExportTask
from tui_lab.export.records import ShippedResult
from tui_lab.models.loading import ModelSource, Precision, load_model
from tui_lab.retention import results, statistics
from tui_lab.retention.results import SuiteResult
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.scoring.score import score
from tui_lab.retention.stored import AcquisitionResult
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Suite

if TYPE_CHECKING:
    from tui_lab.export.gguf_model import GgufModel


def measure(task: ExportTask, model: GgufModel, merged: Path) -> list[ShippedResult]:
    """A result for each suite of the request, and for the run's held-out rows. Base and tuned model are
    measured first where that is not done yet. Raises LabError."""
    asked = EvaluationRequest(
        suites=task.request.suites,
        run=str(task.source.run.path),
        allow_large=task.source.recipe.allow_large,
        runs_dir=task.request.runs_dir,
    ).validated()
    measured = evaluate.evaluate(asked, task.on_progress)
    suites = [registry.load(name) for name in asked.suites]
    target = resolve_target(asked)
    assert target.tuned is not None
    tokenizer = prompts.measuring_tokenizer(target.base.location, target.base.revision, target.tuned.saved)
    held_out: HeldOutTask | None = None
    if measured.acquisition is not None and measured.acquisition.items:
        held_out = HeldOutTask(task.source.recipe, task.source.state, task.tokenizer, task.source.path)
    # the merged weights first: two models at once may not fit into memory
    whole = load_model(
        ModelSource(str(merged)), Precision("float32", unquantized=True), allow_large=asked.allow_large
    )
    own = _answers(task, "merged weights", whole, tokenizer, suites, held_out)
    del whole
    free_memory()
    shipped = _answers(task, "GGUF", model, tokenizer, suites, held_out)
    found = [
        _suite_result(suite, before, own.scores[at], shipped.scores[at])
        for at, (suite, before) in enumerate(zip(suites, measured.suites, strict=True))
    ]
    if held_out is not None and measured.acquisition is not None:
        result = held_out.result(own.texts, shipped.texts)
        found.append(_held_out_result(held_out.metric, measured.acquisition, result))
    return found


@dataclass(frozen=True)
class _Answers:
    """Scores by suite, and the texts of the held-out rows."""

    scores: list[list[ItemScore]]
    texts: list[str]


def _answers(
    task: ExportTask,
    side: str,
    model: Model,
    tokenizer: Tokenizer,
    suites: Sequence[Suite],
    held_out: HeldOutTask | None,
) -> _Answers:
    found = []
    for suite in suites:
        done = itertools.count(1)

        def on_score(_score: ItemScore, suite: Suite = suite, done: Iterator[int] = done) -> None:
            task.on_progress(f"{suite.name}: {side}", next(done), len(suite.items))

        found.append(score(model, tokenizer, suite, on_score=on_score))
    task.on_progress(f"held-out rows: {side}")
    return _Answers(found, held_out.answers(model) if held_out is not None else [])


def _suite_result(
    suite: Suite, measured: SuiteResult, merged: Sequence[ItemScore], shipped: Sequence[ItemScore]
) -> ShippedResult:
    compared = results.compare(suite, merged, shipped)
    assert measured.tuned is not None
    return ShippedResult(
        name=suite.name,
        metric=suite.metric,
        items=len(shipped),
        base=measured.base[suite.metric].value,
        tuned=measured.tuned[suite.metric].value,
        merged=compared.pre,
        shipped=compared.post,
        flips=sum(_answer(one) != _answer(other) for one, other in zip(merged, shipped, strict=True)),
        lost=compared.b,
        gained=compared.c,
        change=compared.difference.value,
        low=compared.difference.low,
        high=compared.difference.high,
    )


def _answer(scored: ItemScore) -> object:
    """What was answered: a text, or the choice."""
    return scored.extra.get("text") or (scored.predicted, scored.predicted_norm)


def _held_out_result(metric: str, measured: AcquisitionResult, pair: AcquisitionResult) -> ShippedResult:
    """``pair`` compares the merged weights with the file."""
    scores = [(float(item.base[metric]), float(item.tuned[metric])) for item in pair.items]
    change = statistics.mean_interval([after - before for before, after in scores])
    return ShippedResult(
        name="held-out rows",
        metric=metric,
        items=len(scores),
        base=measured.metrics[metric].base.value,
        tuned=measured.metrics[metric].tuned.value,
        merged=pair.metrics[metric].base.value,
        shipped=pair.metrics[metric].tuned.value,
        flips=sum(before != after for before, after in (item.texts for item in pair.items)),
        lost=sum(after < before for before, after in scores),
        gained=sum(after > before for before, after in scores),
        change=change.value,
        low=change.low,
        high=change.high,
    )
