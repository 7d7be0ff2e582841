"""Predictions: the answers of a base and of what was made of it to every row of a data set, scored where the
row has a reference, in a file (see :mod:`~tui_lab.evaluation.prediction_file`). Rows are asked as the tuned
model was trained, and those with prompts of one length are decoded together. An interrupted prediction goes
on, and gives the same file."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import free_memory, is_out_of_memory
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.data import code_tests, scoring
from tui_lab.data.examples import Example
from tui_lab.decoding import strategies
from tui_lab.decoding.strategies import MAX_SEED, Lane
from tui_lab.evaluation import prompts
from tui_lab.evaluation.prediction_file import (
    PredictedAnswer,
    Prediction,
    PredictionFile,
    PredictionSettings,
)
from tui_lab.evaluation.prediction_rows import (
    RowsOf,
    count_rows,
    last_turn,
    open_rows,
    reference,
    rows_of,
    windows,
)
from tui_lab.evaluation.prediction_summary import PredictionSummary, summarise
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.evaluation.request import EvaluationTarget, accepted_changes, resolve_target
from tui_lab.evaluation.weights import load_weights
from tui_lab.hardware import memory_budget

if TYPE_CHECKING:
    from tui_lab.decoding.records import LaneResult
    from tui_lab.decoding.session import DecodingSession

BATCH_ROWS = 32
#: Rows that tell how answers are scored.
SNIFFED_ROWS = 20
DEFAULT_NEW_TOKENS = 128
#: The name of the tuned model among the lanes.
TUNED = "tuned"
MAX_SAMPLES = 256
#: What the seeds of two samples of a row differ by.
_SEED_STEP = 1_000_003
#: Seconds between two progress reports.
PROGRESS_INTERVAL_S = 0.2


class Interrupted(Exception):
    """The prediction was interrupted; what was answered is in the file."""


class PredictionRequest(msgspec.Struct, frozen=True):
    """What to predict. ``target``: the models; ``out``: the file; ``force``: a file there with other settings
    is replaced."""

    data: str
    target: EvaluationRequest
    out: str
    data_format: str = "auto"
    columns: str = ""
    split: RowsOf = "all"
    limit: int = 0  # rows; 0 for all
    lane: str = "greedy"
    max_new_tokens: int = 0  # 0: as the run answers its held-out rows, else 128
    batch_rows: int = BATCH_ROWS
    force: bool = False
    samples: int = 1  # answers a row and model

    def parsed_lane(self) -> Lane:
        """The lane, with a seed. Raises LabError."""
        lane = strategies.parse(self.lane)
        if lane.on:
            raise LabError(
                f"--lane {sanitize(self.lane)!r}: base and tuned model both answer, so without on="
            )
        if not 1 <= self.samples <= MAX_SAMPLES:
            raise LabError(f"--samples is 1 to {MAX_SAMPLES}, not {self.samples}")
        if self.samples > 1 and not lane.strategy.random:
            raise LabError(
                f"--samples {self.samples}: {sanitize(self.lane)} gives the same answer each time; "
                'use a lane that samples, such as --lane "top-p p=0.95"'
            )
        return strategies.with_seeds((lane,), 0)[0]


@dataclass(frozen=True)
class _Row:
    """A row with the tokens that ask for its answer, by tokenizer; ``skipped``: why it cannot be asked, ""
    where it can."""

    number: int
    example: Example
    ids: tuple[tuple[int, ...], ...] = ()
    skipped: str = ""


def predict(
    request: PredictionRequest,
    on_progress: job_protocol.OnProgress,
    cancelled: Callable[[], bool] = lambda: False,
) -> PredictionSummary:
    """Answers the rows that are not in the file yet. Raises Interrupted, and LabError."""
    lane = request.parsed_lane()
    target = resolve_target(request.target, on_progress)
    notes = accepted_changes(target, data=False)
    on_progress(f"reading {sanitize(request.data)}")
    opened = open_rows(request.data, request.data_format, request.columns)
    count, digest = count_rows(opened, request.split)
    notes = [*opened.warnings(), *notes]
    if opened.scorer == code_tests.PASS and (note := code_tests.note()):
        notes.append(note)
    total = min(count, request.limit or count)
    tuned = target.tuned
    tokenizers = prompts.Tokenizers.of(target.base, tuned)
    settings = PredictionSettings(
        model=target.label,
        tuned=target.name if tuned else "",
        data=request.data,
        lane=lane.text,
        max_new_tokens=request.max_new_tokens or _new_tokens(target),
        metric=task_metric(opened.scorer, opened.plan.format, rows_of(opened, request.split, SNIFFED_ROWS)),
        loaded=str(target.how),
        base_sha256=prompts.with_prompts(target.base_identity, tokenizers.base),
        tuned_sha256=_tuned_key(target.tuned_identity, tokenizers) if tuned else "",
        data_sha256=digest,
        samples=request.samples,
    )
    with PredictionFile(expanded(Path(request.out)), settings, request.force) as file:
        done_before = len(file)
        if any(number not in file for number in range(1, total + 1)):
            session = load_session(target, request.target.allow_large, tokenizers, on_progress)
            sides = ("", TUNED) if tuned is not None else ("",)
            predictor = Predictor(session, sides, lane, settings, on_progress, cancelled)
            predictor.answer(rows_of(opened, request.split, total), total, file, request.batch_rows)
        file.finish()
        return summarise(file.path, file.predictions(), settings, done_before, notes)


def handle(request: PredictionRequest, on_progress: job_protocol.OnProgress) -> PredictionSummary:
    """The job. Raises LabError."""
    memory_budget.take_gpu()
    return predict(request, on_progress)


def task_metric(scorer: str | None, data_format: str, rows: Iterable[Example]) -> str:
    """The metric that stands for the task, as in the scores of a run; worked answers are scored by their
    result."""
    if data_format == "text":
        return scorer or "rouge_l"
    if scorer not in (None, "exact"):
        return scorer
    expected = [found for row in rows if (found := reference(row)) is not None]
    is_worked = bool(expected) and all(scoring.worked_result(text) for text in expected)
    return "result" if is_worked else "exact"


def _tuned_key(weights: str, tokenizers: prompts.Tokenizers) -> str:
    """The key of tuned weights; how they are asked is in that of the base, unless they have added tokens."""
    own = tokenizers.tuned is not tokenizers.base
    return prompts.with_prompts(weights, tokenizers.tuned) if own else weights


def _new_tokens(target: EvaluationTarget) -> int:
    return target.run.recipe().sample_max_new_tokens if target.run is not None else DEFAULT_NEW_TOKENS


# --- answers --------------------------------------------------------------------------------------------


class Predictor:
    """Answers rows with the models ``sides`` of a session; the first one's answers are those of the base."""

    def __init__(
        self,
        session: DecodingSession,
        sides: tuple[str, ...],
        lane: Lane,
        settings: PredictionSettings,
        on_progress: job_protocol.OnProgress,
        cancelled: Callable[[], bool] = lambda: False,
        stop_strings: tuple[str, ...] = (),
    ) -> None:
        from tui_lab.data import row_tokens

        self._stop_strings = stop_strings
        self._session, self._sides, self._lane, self._settings = session, sides, lane, settings
        self._on_progress, self._cancelled = on_progress, cancelled
        by_tokenizer: dict[int, list[str]] = {}
        for side in sides:
            by_tokenizer.setdefault(id(session.tokenizer_of(side)), []).append(side)
        self._asked = [(sides, session.tokenizer_of(sides[0])) for sides in by_tokenizer.values()]
        self._stop_ids = [
            frozenset(row_tokens.stop_ids(tokenizer, session.model_of(sides[0])))
            for sides, tokenizer in self._asked
        ]
        self._batch_rows = 1
        self._done = self._total = self._timed = 0
        self._reported_at = 0.0

    def answer(
        self,
        rows: Iterable[Example],
        total: int,
        file: PredictionFile,
        batch_rows: int = BATCH_ROWS,
        timed: int = 0,
    ) -> None:
        """Answers the rows that are not in the file; the first ``timed`` rows one at a time, with their
        seconds. Raises Interrupted and LabError."""
        self._batch_rows = max(1, batch_rows // (self._lane.strategy.rows * self._settings.samples))
        self._done, self._total = sum(number in file for number in range(1, total + 1)), total
        self._timed = timed
        self._report(now=True)
        for window in windows(rows):
            if all(number in file for number, _ in window):
                continue
            by_length: dict[tuple[tuple[int, ...], int], list[_Row]] = {}
            for number, example in window:
                row = self._encoded(number, example)
                if not row.skipped:
                    alone = number if number <= timed else 0
                    by_length.setdefault((tuple(map(len, row.ids)), alone), []).append(row)
                elif number not in file:
                    file.add(self._skipped(row))
                    self._count()
            for _, same in sorted(by_length.items()):
                self._answer_batches(same, file)

    def _encoded(self, number: int, example: Example) -> _Row:
        from tui_lab.data import row_tokens

        try:
            # a row is asked as it is trained, thinking or not; one without an answer as a run's prompts are
            bare = reference(example) is None and not example.tools
            asked = example.generation_prompt if bare else example
            ids = tuple(tuple(row_tokens.prompt_ids(tokenizer, asked)) for _, tokenizer in self._asked)
        except LabError as error:
            return _Row(number, example, skipped=str(error))
        if not all(ids):
            return _Row(number, example, skipped="the prompt has no tokens")
        context, longest = self._session.context_of(self._sides), max(map(len, ids))
        if context is not None and longest >= context:
            reason = f"the prompt has {longest} tokens and the model's context is {context}"
            return _Row(number, example, ids, reason)
        return _Row(number, example, ids)

    def _answer_batches(self, rows: list[_Row], file: PredictionFile) -> None:
        """Answers rows of one length, in batches that are the same whichever rows are in the file."""
        at = 0
        while at < len(rows):
            batch = rows[at : at + self._batch_rows]
            if all(row.number in file for row in batch):
                at += len(batch)
                continue
            started = time.perf_counter()
            results = self._decode(batch)
            seconds = time.perf_counter() - started
            if results is None:
                self._batch_rows = max(1, min(self._batch_rows, len(batch)) // 2)
                continue
            for position, row in enumerate(batch):
                if row.number not in file:
                    found = self._prediction(row, [results[side][position] for side in self._sides])
                    if row.number <= self._timed:
                        found = msgspec.structs.replace(found, seconds=seconds)
                    file.add(found)
                    self._count()
            at += len(batch)

    def _decode(self, batch: list[_Row]) -> dict[str, list[list[LaneResult]]] | None:
        """The answers of each side to each row; None where the batch does not fit into memory. Raises
        LabError for a single row that does not."""
        from tui_lab.decoding.records import DecodingRequest
        from tui_lab.decoding.session import NotEnoughMemoryError

        samples = self._settings.samples
        found: dict[str, list[list[LaneResult]]] = {}
        for at, (sides, _) in enumerate(self._asked):
            asked = [(row, side, sample) for side in sides for row in batch for sample in range(samples)]
            request = DecodingRequest(
                batch[0].ids[at],
                tuple(self._lane_of(row, side, sample) for row, side, sample in asked),
                self._settings.max_new_tokens,
                self._stop_ids[at],
                self._stop_strings,
                lane_prompts=tuple(row.ids[at] for row, *_ in asked),
            )
            try:
                results = self._session.decode(request, lambda _: self._report(), self._cancelled)
            except Exception as error:
                if not (isinstance(error, NotEnoughMemoryError) or is_out_of_memory(error)):
                    raise
                if len(batch) == 1:
                    raise LabError(
                        f"{batch[0].example.place} does not fit into memory, even alone: take fewer "
                        "--max-new-tokens or --samples, or --quantization nf4; the file has all earlier "
                        "answers"
                    ) from None
                error.__traceback__ = None  # it holds the tensors of the batch
                break
            if any(result.finish_reason == "cancelled" for result in results.values()):
                raise Interrupted
            ordered = iter(results.values())
            found |= {side: [list(itertools.islice(ordered, samples)) for _ in batch] for side in sides}
        else:
            return found
        free_memory()
        return None

    def _lane_of(self, row: _Row, side: str, sample: int) -> Lane:
        """The lane of a row: each row and sample has a seed of its own, the same for both models."""
        seed = self._lane.seed
        if seed is not None:
            seed = (seed + row.number - 1 + sample * _SEED_STEP) % (MAX_SEED + 1)
        return replace(self._lane, on=side, seed=seed)

    # ---------------------------------------------------------------- records

    def _prediction(self, row: _Row, results: list[list[LaneResult]]) -> Prediction:
        base, *tuned = (self._scored(row.example, result) for result in results)
        return msgspec.structs.replace(
            self._skipped(row), base=base, tuned=tuned[0] if tuned else None, skipped=""
        )

    def _skipped(self, row: _Row) -> Prediction:
        return Prediction(
            row=row.number,
            place=row.example.place,
            prompt=last_turn(row.example),
            prompt_tokens=len(row.ids[0]) if row.ids else 0,
            expected=reference(row.example),
            turns=max(0, len(row.example.generation_messages) - 1) if row.example.messages is not None else 0,
            raw=row.example.messages is None,
            skipped=row.skipped,
        )

    def _scored(self, example: Example, results: list[LaneResult]) -> PredictedAnswer:
        first, texts = results[0], [result.text.strip() for result in results]
        answer = PredictedAnswer(
            text=first.text,
            tokens=len(first.token_ids),
            finish_reason=first.finish_reason,
            others=[result.text for result in results[1:]],
        )
        compared = reference(example) is not None
        if not compared and example.tests is None:
            return answer
        metric, rows = self._settings.metric, [example.as_chat()] * len(texts)
        each = {} if metric in scoring.SIMILARITY else {metric: scoring.scores(metric, texts, rows)}
        each |= scoring.similarity_scores(texts, rows) if compared else {}
        scores = {name: sum(found) / len(found) for name, found in each.items()}
        if metric == code_tests.PASS:
            scores |= code_tests.pass_at_each_k(len(texts), round(sum(each[metric])))
        return msgspec.structs.replace(answer, score=scores[metric], scores=scores)

    # ---------------------------------------------------------------- progress

    def _count(self) -> None:
        self._done += 1
        self._report()

    def _report(self, now: bool = False) -> None:
        clock = time.monotonic()
        if now or self._done == self._total or clock - self._reported_at >= PROGRESS_INTERVAL_S:
            self._reported_at = clock
            self._on_progress("answering rows", self._done, self._total)


def load_session(
    target: EvaluationTarget,
    allow_large: bool,
    tokenizers: prompts.Tokenizers,
    on_progress: job_protocol.OnProgress,
) -> DecodingSession:
    """The base, and under the name :data:`TUNED` what was made of it. Raises LabError."""
    from tui_lab.decoding.session import DecodingSession

    base, tuned = target.base, target.tuned
    session = DecodingSession(
        load_weights(base, target.label, target.how, allow_large, on_progress), tokenizers.base
    )
    if tuned is None:
        return session
    if tuned.adapter is None:
        session.add_model(TUNED, load_weights(tuned, target.name, target.how, allow_large, on_progress))
        return session
    session.add_adapter_or_copy(
        TUNED,
        tuned.adapter,
        lambda: load_weights(base, target.label, target.how, allow_large, on_progress),
    )
    if tokenizers.tuned is not tokenizers.base:
        session.use_tokenizer(TUNED, tokenizers.tuned)
    return session


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle, PredictionRequest))
