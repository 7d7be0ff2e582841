"""The job that measures whether to tune at all: the held-out rows of a data set are answered zero-shot, with
fixed examples, with the most similar rows of the training data, and by the tuned model. Answers are kept in
the user's cache row by row, so that an interrupted job goes on and a base is asked once.

Examples come from the rows that a run would train on; repetitions of held-out questions are not among
them."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.data.examples import Example
from tui_lab.data.prepared_cache import prepare_recipe
from tui_lab.data.rows import Tokenizer
from tui_lab.evaluation import advice, predict, prompts, shots
from tui_lab.evaluation.advice import AdviseRequest, Method, TuningAdvice
from tui_lab.evaluation.cached_answers import CachedAnswers, HowAnswered
from tui_lab.evaluation.prediction_file import Prediction
from tui_lab.evaluation.prediction_summary import compare
from tui_lab.evaluation.request import EvaluationTarget, accepted_changes, resolve_target
from tui_lab.forecast.cost import Prices, prices
from tui_lab.recipes import recipe as recipes
from tui_lab.recipes.recipe import Recipe

#: Rows that are answered one at a time, for the time of an answer.
TIMED_ROWS = 5
#: Tokens of a row at most, where no run says how it was trained.
MAX_LENGTH = 4096
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class _Task:
    """The held-out rows with and without examples, and how they are scored."""

    data: str
    metric: str
    zero_shot: Sequence[Example]
    few_shot: Sequence[Example]
    retrieval: Sequence[Example]
    max_new_tokens: int
    is_text: bool  # continued as text, not asked as a chat


def advise(
    request: AdviseRequest,
    on_progress: job_protocol.OnProgress,
    cancelled: Callable[[], bool] = lambda: False,
) -> TuningAdvice:
    """Answers what is not answered yet, and says what follows. Raises Interrupted, and LabError."""
    request = request.validated()
    tariff = prices()
    target = resolve_target(request.target, on_progress)
    notes = accepted_changes(target, data=not request.data)
    recipe = _recipe(request, target)
    on_progress(f"reading {sanitize(recipe.data)}")
    tuned = target.tuned
    tokenizers = prompts.Tokenizers.of(target.base, tuned)
    task = _task(request, recipe, target, tokenizers.base)
    arms = {
        advice.ZERO_SHOT: (task.zero_shot, ""),
        advice.few_shot(request.shots): (task.few_shot, ""),
        advice.RETRIEVAL: (task.retrieval, ""),
    }
    if tuned is not None:
        arms[advice.TUNED] = (task.zero_shot, predict.TUNED)
        arms[advice.TUNED_RETRIEVAL] = (task.retrieval, predict.TUNED)
    how = HowAnswered(
        task.data,
        task.metric,
        task.max_new_tokens,
        request.target.allow_large,
        TIMED_ROWS,
        (shots.BETWEEN,) if task.is_text else (),
    )
    asking = CachedAnswers(target, how, tokenizers, on_progress, cancelled)
    answers = {name: asking.answers(name, rows, side) for name, (rows, side) in arms.items()}
    scores = _common_scores(answers)
    methods = [_method(name, answers[name], asking.files[name], scores, tariff) for name in arms]
    count = len(scores[advice.ZERO_SHOT])
    if not count:
        raise LabError(
            f"no held-out row of {sanitize(recipe.data)} fits the model's context with {request.shots} "
            "examples: take fewer --shots"
        )
    if count < advice.FEW_ROWS:
        notes = [*notes, f"{count} rows are few: intervals are wide, and little is decided"]
    return TuningAdvice(
        model=target.label,
        tuned=target.name if tuned is not None else "",
        data=recipe.data,
        metric=task.metric,
        rows=count,
        shots=request.shots,
        goal=request.goal,
        currency=tariff.currency,
        methods=methods,
        verdict=advice.decide(scores, request.shots, request.goal),
        notes=notes,
    )


def _recipe(request: AdviseRequest, target: EvaluationTarget) -> Recipe:
    """The recipe whose training and held-out rows are compared."""
    if target.run is not None:
        recipe = target.run.recipe()
        if not request.data or request.data == recipe.data:
            return recipe
        return recipe.changed(data=request.data, data_format=request.data_format, columns=request.columns)
    if not request.data:
        raise LabError("no data was named: --data NAME is a file, a folder, a bundled set or a hub id")
    return recipes.build(
        {"data": request.data, "data_format": request.data_format, "columns": request.columns}
    )


def _task(request: AdviseRequest, recipe: Recipe, target: EvaluationTarget, tokenizer: Tokenizer) -> _Task:
    saved = target.run.saved_path if target.run is not None else None
    max_length = recipe.max_length if target.run is not None and recipe.max_length else MAX_LENGTH
    prepared = prepare_recipe(recipe, tokenizer, max_length, saved=saved)
    train, held_out = prepared.train_examples, prepared.validation_examples[: request.limit]
    name = sanitize(recipe.data)
    if not held_out:
        raise LabError(f"{name} has no held-out rows: set validation_fraction, or name data with a test part")
    if any(example.text is not None for example in held_out):
        raise LabError(f"{name} has texts without questions: prompts are compared on questions with answers")
    fixed = shots.fixed(train, request.shots)
    index = shots.Retriever(train)
    return _Task(
        data=recipe.data,
        metric=predict.task_metric(prepared.summary.scorer, "", held_out[: predict.SNIFFED_ROWS]),
        zero_shot=held_out,
        few_shot=[shots.with_shots(row, fixed) for row in held_out],
        retrieval=[
            shots.with_shots(row, index.nearest(row, request.retrieved or request.shots)) for row in held_out
        ],
        max_new_tokens=request.max_new_tokens or recipe.sample_max_new_tokens,
        is_text=held_out[0].messages is None,
    )


# --- figures --------------------------------------------------------------------------------------------


def _common_scores(answers: dict[str, list[Prediction]]) -> dict[str, list[float]]:
    """The scores of each method over the rows that all of them answered."""
    scores = {
        name: {row.row: found for row in rows if (found := _score(row)) is not None}
        for name, rows in answers.items()
    }
    common = sorted(set.intersection(*(set(each) for each in scores.values())))
    return {name: [each[row] for row in common] for name, each in scores.items()}


def _score(row: Prediction) -> float | None:
    return row.base.score if row.base is not None else None


def _method(
    name: str, rows: list[Prediction], file: str, scores: dict[str, list[float]], tariff: Prices
) -> Method:
    answered = [row for row in rows if row.base is not None]
    seconds = [row.seconds for row in rows if not isinstance(row.seconds, msgspec.UnsetType)]
    usual = statistics.median(seconds) if seconds else None
    pairs = list(zip(scores[advice.ZERO_SHOT], scores[name], strict=True))
    return Method(
        name=name,
        score=compare([(now,) for _, now in pairs] or [(0.0,)]).base,
        gain=compare(pairs).difference if pairs and name != advice.ZERO_SHOT else None,
        rows=len(pairs),
        skipped=len(rows) - len(answered),
        prompt_tokens=_mean([row.prompt_tokens for row in answered]),
        answer_tokens=_mean([row.base.tokens for row in answered if row.base is not None]),
        seconds=usual,
        cost=None if usual is None or tariff.per_hour is None else usual / SECONDS_PER_HOUR * tariff.per_hour,
        file=file,
    )


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def handle(request: AdviseRequest, on_progress: job_protocol.OnProgress) -> TuningAdvice:
    """The job."""
    from tui_lab.hardware import memory_budget

    memory_budget.take_gpu()
    return advise(request, on_progress)


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle, AdviseRequest))
