"""``tui-lab predict``: the answers of a base and of what was made of it to every row of a data set. They go
to a file, progress to stderr, and the scores to stdout as a table or as one JSON object."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import asdict

from tui_lab.cli.interrupt import interruptible
from tui_lab.cli.output import Progress, json_line, print_text, table
from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.job_protocol import OnProgress
from tui_lab.core.sanitize import sanitize
from tui_lab.data.label_records import LabelScores
from tui_lab.evaluation import prediction_file
from tui_lab.evaluation.prediction_summary import PredictedMetric, PredictionSummary
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.models import catalog, download
from tui_lab.retention.statistics import Interval

AnswerT = TypeVar("AnswerT")


class PredictionsAnswer(PredictionSummary, tag_field="kind", tag="predictions", kw_only=True, frozen=True):
    """The scores of ``predict``; the answers are in the file."""

    v: int = 1


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError for invalid input."""
    target = target_of(args)
    for name, value in (("--batch", args.batch), ("--samples", args.samples)):
        if value < 1:
            raise LabError(f"{name} must be at least 1, not {value}")
    from tui_lab.evaluation.predict import PredictionRequest, predict

    request = PredictionRequest(
        data=args.data,
        target=target,
        out=args.out or prediction_file.default_name(args.data),
        data_format=args.format,
        columns=args.columns,
        split=args.split,
        limit=args.limit or 0,
        lane=args.lane,
        max_new_tokens=args.max_new_tokens or 0,
        batch_rows=args.batch,
        force=args.force,
        samples=args.samples,
    )
    found = answered(lambda on_progress, cancelled: predict(request, on_progress, cancelled))
    if args.json:
        json_line(PredictionsAnswer(**asdict(found)))
    else:
        _print(found)
    return 0


def target_of(args: argparse.Namespace) -> EvaluationRequest:
    """The models that the options of a command name. Raises LabError."""
    if args.adapter and args.run:
        raise LabError("--adapter and --run both name the tuned model: use one of them")
    if args.max_new_tokens is not None and args.max_new_tokens < 1:
        raise LabError(f"--max-new-tokens must be at least 1, not {args.max_new_tokens}")
    if args.model and catalog.is_hub_id(args.model):
        download.check_reachable(catalog.find(args.model, args.allow_large).loadable, args.revision)
    return EvaluationRequest(
        run=args.run,
        model=args.model,
        revision=args.revision,
        adapter=args.adapter,
        dtype=args.dtype,
        quantization=args.quantization,
        allow_large=args.allow_large,
        runs_dir=str(args.runs_dir or ""),
    )


def answered(work: Callable[[OnProgress, Callable[[], bool]], AnswerT]) -> AnswerT:
    """What ``work(on_progress, cancelled)`` returns, with progress on stderr; Ctrl+C ends it after a batch.
    Raises KeyboardInterrupt then, and LabError."""
    from tui_lab.evaluation.predict import Interrupted
    from tui_lab.hardware.memory_budget import take_gpu
    from tui_lab.models.loading import quiet_libraries

    progress = Progress()
    take_gpu()
    with interruptible() as cancelled:
        try:
            with quiet_libraries():
                return work(progress.on_progress, cancelled)
        except Interrupted:
            raise KeyboardInterrupt("interrupted; repeat the command to continue") from None
        finally:
            progress.close()


def _print(found: PredictionSummary) -> None:
    settings = found.settings
    models = sanitize(settings.model) + (f" → {sanitize(settings.tuned)}" if settings.tuned else "")
    resumed = f", {found.resumed:,} of them from before" if found.resumed else ""
    lines = [
        f"{sanitize(settings.data)}: {format.plural(found.rows, 'row')}{resumed} · {models} · {settings.lane}"
    ]
    if settings.tuned:
        lines.append(f"{found.differ:,} of {found.rows - found.skipped:,} answers differ")
    print_text("\n".join(lines))
    if found.metrics:
        headers = ("metric", "of", "mean and 95% interval", "n", "better", "worse")
        rows = [row for name, each in found.metrics.items() for row in _rows(name, each, found.scored)]
        used = 6 if settings.tuned else 4
        table(headers[:used], [row[:used] for row in rows], (3, 4, 5))
    if found.labels:
        heads = ("label", "of", "n", "precision", "recall", "F1")
        table(
            heads, [row for side, each in found.labels.items() for row in _labels(side, each)], (2, 3, 4, 5)
        )
    print_text(f"written to {sanitize(found.path)}")
    if found.skipped:
        more = found.skipped - len(found.skipped_places)
        places = [sanitize(place) for place in found.skipped_places] + ([f"{more:,} more"] if more else [])
        print_text(f"  note: {format.plural(found.skipped, 'row')} without answer: {'; '.join(places)}")
    for note in found.notes:
        print_text(f"  note: {sanitize(note)}")


def _labels(side: str, found: LabelScores) -> list[tuple[str, ...]]:
    """Each label as a line of a table, and their mean."""
    rows = [
        (
            sanitize(each.label),
            side,
            f"{each.rows:,}",
            *map(format.decimal, (each.precision, each.recall, each.f1)),
        )
        for each in found.labels
    ]
    means = map(format.decimal, (found.precision, found.recall, found.f1))
    return [*rows, ("mean over labels", side, "", *means)]


def _rows(name: str, metric: PredictedMetric, scored: int) -> list[tuple[str, ...]]:
    """A metric as lines of a table: base, and what was made of it."""
    name = format.metric_name(name)
    found = [(name, "base", interval_text(metric.base), f"{scored:,}", "", "")]
    if metric.tuned is not None and metric.difference is not None:
        found.append(("", "tuned", interval_text(metric.tuned), f"{scored:,}", "", ""))
        changes = (f"{metric.better:,}", f"{metric.worse:,}")
        found.append(("", "difference", interval_text(metric.difference), f"{scored:,}", *changes))
    return list(found)


def interval_text(found: Interval) -> str:
    """A score with its interval."""
    return format.interval(found.value, found.low, found.high, 3)
