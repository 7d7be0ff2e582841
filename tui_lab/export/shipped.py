"""What is shipped, measured as the run was: the same suites and held-out rows, asked of base, tuned model and
GGUF file, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui_lab.evaluation import evaluate, prompts
from tui_lab.evaluation.acquisition import HeldOutTask
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.evaluation.request import resolve_target
from tui_lab.export.kinds import ExportTask
from tui_lab.export.records import ShippedResult
from tui_lab.retention import results, statistics
from tui_lab.retention.results import AnswerScore, SuiteResult
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.scoring.score import score
from tui_lab.retention.stored import AcquisitionResult
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Suite

if TYPE_CHECKING:
    from tui_lab.export.gguf_model import GgufModel


def measure(task: ExportTask, model: GgufModel) -> list[ShippedResult]:
    """A result for each suite of the request, and for the run's held-out rows. Base and tuned model are
    measured first where that is not done yet. Raises LabError."""
    request = task.request
    asked = EvaluationRequest(
        suites=request.suites,
        run=str(task.source.run.path),
        allow_large=task.source.recipe.allow_large,
        runs_dir=request.runs_dir,
    ).validated()
    suites = [registry.load(name) for name in asked.suites]
    before = evaluate.evaluate(asked, task.on_progress)
    target = resolve_target(asked)
    assert target.tuned is not None
    tokenizer = prompts.measuring_tokenizer(target.base.location, target.base.revision, target.tuned.saved)
    found = []
    for suite, measured in zip(suites, before.suites, strict=True):
        done: list[str] = []

        def on_score(one: ItemScore, suite: Suite = suite, done: list[str] = done) -> None:
            done.append(one.id)
            text = f"{suite.name}: GGUF, {len(done):,} of {len(suite.items):,} items"
            task.on_progress(text, len(done), len(suite.items))

        found.append(_compared(suite, measured, score(model, tokenizer, suite, on_score=on_score)))
    if before.acquisition is not None and before.acquisition.items:
        task.on_progress("answering held-out rows in llama.cpp")
        held_out = HeldOutTask(task.source.recipe, task.source.state, task.tokenizer, task.source.path)
        found.append(_held_out(before.acquisition, held_out, held_out.answers(model)))
    return found


def _compared(suite: Suite, measured: SuiteResult, shipped: Sequence[ItemScore]) -> ShippedResult:
    """One suite. The change is that from the tuned model to the file."""
    tuned = [_item_score(item.id, item.tuned) for item in measured.items if item.tuned is not None]
    compared = results.compare(suite, tuned, shipped)
    assert measured.tuned is not None
    return ShippedResult(
        name=suite.name,
        metric=suite.metric,
        items=len(shipped),
        base=measured.base[suite.metric].value,
        tuned=compared.pre,
        shipped=compared.post,
        flips=sum(_answer(one) != _answer(other) for one, other in zip(tuned, shipped, strict=True)),
        lost=compared.b,
        gained=compared.c,
        change=compared.difference.value,
        low=compared.difference.low,
        high=compared.difference.high,
    )


def _answer(scored: ItemScore) -> object:
    """What was answered: a text, or the choice."""
    return scored.extra.get("text") or (scored.predicted, scored.predicted_norm)


def _item_score(item_id: str, stored: AnswerScore) -> ItemScore:
    return ItemScore(
        item_id,
        loglikelihoods=tuple(stored.loglikelihoods),
        tokens=tuple(stored.tokens),
        predicted=stored.predicted,
        predicted_norm=stored.predicted_norm,
        extra={
            "text": stored.text,
            "passed": bool(stored.correct),
            "words": stored.words,
            "bytes": stored.bytes,
            "cut": stored.cut,
        },
    )


def _held_out(measured: AcquisitionResult, task: HeldOutTask, answers: Sequence[str]) -> ShippedResult:
    """The run's held-out rows."""
    metric = task.metric
    shipped = task.result(answers, answers)
    pairs = [(item.tuned, again.tuned) for item, again in zip(measured.items, shipped.items, strict=True)]
    scores = [(float(one[metric]), float(other[metric])) for one, other in pairs]
    change = statistics.mean_interval([after - before for before, after in scores])
    return ShippedResult(
        name="held-out rows",
        metric=metric,
        items=len(pairs),
        base=measured.metrics[metric].base.value,
        tuned=measured.metrics[metric].tuned.value,
        shipped=shipped.metrics[metric].tuned.value,
        flips=sum(one["text"] != other["text"] for one, other in pairs),
        lost=sum(after < before for before, after in scores),
        gained=sum(after > before for before, after in scores),
        change=change.value,
        low=change.low,
        high=change.high,
    )
