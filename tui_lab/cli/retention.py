"""``tui-lab retention``: measures what a model knows and what fine-tuning changed. Progress goes to stderr,
the result to stdout as tables or as one JSON object."""

from __future__ import annotations

import argparse
import math

from msgspec.structs import asdict

from tui_lab.cli.interrupt import interruptible
from tui_lab.cli.output import Answer, Progress, cut, json_line, print_text, table, table_lines, width
from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.records import EvaluationAnswer
from tui_lab.models import catalog, download
from tui_lab.retention.results import ItemResult, SuiteComparison, SuiteResult
from tui_lab.retention.scoring.metrics import Metric
from tui_lab.retention.stored import AcquisitionResult
from tui_lab.retention.suites import registry
from tui_lab.runs import verdicts

#: Forgotten items that are printed; -o json has all.
_MAX_FLIPS = 5


class RetentionAnswer(EvaluationAnswer, tag_field="kind", tag="retention", kw_only=True, frozen=True):
    """The result of every suite, and of the run's own held-out rows."""

    v: int = 1


class SuitesAnswer(Answer, tag="suites", kw_only=True, frozen=True):
    """The suites (under ``suites`` too, as in earlier versions)."""

    items: list[registry.SuiteInfo]
    suites: list[registry.SuiteInfo]


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError for invalid input."""
    if args.list:
        return _list(args)

    if args.threshold and not 0 < args.threshold < 2:
        raise LabError(f"--threshold must be a share such as 0.9, not {args.threshold:g}")
    if args.model and catalog.is_hub_id(args.model):
        download.check_reachable(catalog.find(args.model, args.allow_large).loadable, args.revision)
    from tui_lab.evaluation.evaluate import evaluate
    from tui_lab.evaluation.records import read_request
    from tui_lab.models.loading import quiet_libraries

    request = read_request(
        {
            "suites": args.suite or ["everyday"],
            "model": args.model,
            "adapter": args.adapter,
            "revision": args.revision,
            "limit": args.limit,
            "dtype": args.dtype,
            "quantization": args.quantization,
            "threshold": args.threshold,
            "acquisition": not args.no_acquisition,
            "allow_large": args.allow_large,
            "runs_dir": str(args.runs_dir or ""),
            "judge": args.judge,
            "classifier": args.classifier,
            "classifier_label": args.classifier_label,
        }
    )
    from tui_lab.retention.scoring.score import Cancelled

    progress = Progress()
    with interruptible() as cancelled:
        try:
            with quiet_libraries():
                found = evaluate(request, progress.on_progress, cancelled)
        except Cancelled:
            raise KeyboardInterrupt("interrupted; repeat the command to continue") from None
        finally:
            progress.close()
    if args.json:
        json_line(RetentionAnswer(**asdict(found)))
    else:
        print_text("\n\n".join("\n".join(suite_lines(result)) for result in found.suites))
        if found.acquisition:
            print_text("\n" + "\n".join(acquisition_lines(found.acquisition)))
    return 0


# --- text --------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    infos = registry.names()
    if args.json:
        json_line(SuitesAnswer(items=infos, suites=infos))
        return 0
    rows = [
        (
            info.name,
            f"{info.items:,}" if info.items else "–",
            info.metric,
            "bundled" if info.bundled else "hub or files",
            info.title,
        )
        for info in infos
    ]
    table(("suite", "items", "metric", "from", "title"), rows, right=(1,))
    return 0


def suite_lines(result: SuiteResult) -> list[str]:
    """A result as text."""
    models = sanitize(result.model) + (f" → {sanitize(result.adapter)}" if result.adapter else "")
    found = [
        f"{sanitize(result.title)} ({sanitize(result.suite)} {sanitize(result.version)}, "
        f"{result.n:,} items) · {models} · {result.quantization}, {result.dtype}"
    ]
    for name, metric in result.base.items():
        line = f"  {name:<20} {_score(metric)}"
        if result.tuned:
            line += f"  →  {_score(result.tuned[name])}"
        found.append(line)
    if result.comparison:
        found += ["", *_table(result, result.comparison), "", f"  {sanitize(result.comparison.sentence)}"]
        found += _flips(result)
    found += [f"  note: {sanitize(text)}" for text in result.warnings]
    return found


def acquisition_lines(acquisition: AcquisitionResult) -> list[str]:
    """The acquisition of a run as text."""
    found = [f"Its own task, {format.plural(acquisition.rows, 'held-out row')}"]
    for name, change in acquisition.metrics.items():
        before, after = (_score(Metric(mean.value, mean.se)) for mean in (change.base, change.tuned))
        found.append(f"  {name:<20} {before}  →  {after}")
    loss, gap = acquisition.validation_loss, acquisition.overfitting_gap
    if math.isfinite(loss.tuned):
        found.append(f"  {'held-out loss':<20} {loss.base:>8.3f}          →  {loss.tuned:>8.3f}")
    if math.isfinite(gap):
        found.append(f"  {'overfitting gap':<20} {gap:>+8.3f} nats per token (held-out minus training loss)")
    if math.isfinite(acquisition.accuracy_gap):
        found.append(
            f"  {'accuracy gap':<20} {acquisition.accuracy_gap:>+8.1%} of the training accuracy of tokens is "
            "missing on held-out rows"
        )
    return found


def _score(metric: Metric) -> str:
    error = f" ± {_metric_text(metric.se)}" if math.isfinite(metric.se) else " " * 8
    return f"{_metric_text(metric.value):>8}{error}"


def _metric_text(value: float) -> str:
    """Three decimals; large perplexities without."""
    return f"{value:.3f}" if not abs(value) >= 1000 else f"{value:,.0f}" if value < 1e7 else f"{value:.3g}"


def _table(result: SuiteResult, compared: SuiteComparison) -> list[str]:
    found = [("all", compared)]
    if result.held_back and result.held_back.comparison:
        name = f"not rehearsed ({', '.join(result.held_back.categories)})"
        found.append((name, result.held_back.comparison))
    found += result.categories.items()
    title = "retention above chance" if compared.above_chance is not None else "retention"
    rows: list[tuple[str, ...]] = [("", "n", "before", "after", title, "lost", "gained", "verdict")]
    rows += [_row(name, each) for name, each in found]
    return [f"  {line}" for line in table_lines(rows, _inside(2), right=(1, 2, 3, 5, 6))]


def _inside(indent: int) -> int | None:
    """The width beside an indent; None in a pipe."""
    most = width()
    return None if most is None else most - indent


def _row(name: str, each: SuiteComparison) -> tuple[str, ...]:
    found = each.headline
    interval = "" if math.isnan(found.value) else format.interval(found.value, found.low, found.high, 3)
    figures = (f"{each.n:,}", f"{each.pre:.3f}", f"{each.post:.3f}", interval, f"{each.b:,}", f"{each.c:,}")
    return (sanitize(name), *figures, verdicts.verdict_label(each.verdict))


def _flips(result: SuiteResult) -> list[str]:
    lost = [item for item in result.items if item.is_lost]
    if not lost:
        return []
    found = [f"  forgotten ({len(lost):,}; all of them with -o json):"]
    for item in lost[:_MAX_FLIPS]:
        text = sanitize(" ".join((item.question or item.id).split()))
        answers = _answers(item)
        space = None if (most := _inside(4)) is None else max(20, most - len(answers))
        found.append(f"    {cut(text, space)}{answers}")
    return found


def _answers(item: ItemResult) -> str:
    """The choices before and after; "" for items without choices."""
    chosen = [item.base.predicted, item.tuned.predicted if item.tuned else -1]
    if not all(0 <= at < len(item.choices) for at in chosen):
        return ""
    before, after = (sanitize(" ".join(item.choices[at].split()))[:32] for at in chosen)
    return f"  {before} → {after}" if before != after else ""
