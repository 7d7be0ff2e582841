"""The sections of a report on retention: results of suites with intervals, verdicts and chance levels, the
probes during the run, and the strength sweep. Figures are those of the results; nothing is computed again."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tui_lab.core.format import UNKNOWN, decimal, finite, metric_name, significant
from tui_lab.report.blocks import Block, FigureBlock, Paragraph, integer
from tui_lab.report.charts import Table, some, strength_chart
from tui_lab.report.content import ReportContent, flips
from tui_lab.report.forest import ForestLine, forest
from tui_lab.retention.results import SuiteComparison, SuiteResult
from tui_lab.retention.statistics import Interval
from tui_lab.runs.verdicts import BASELINE, NOT_MEASURABLE, VERDICTS

#: Each verdict as a sign and a word, so that colour is not needed to tell them apart.
VERDICT_NAMES = {name: f"{glyph} {word}" for name, (glyph, word) in VERDICTS.items()}
MEANING = (
    "Retention is the share of the base's knowledge that the tuned model still has: right answers after, of "
    "right answers before, each minus the chance level where a suite has choices to guess from. The interval "
    "is at 95%. The verdict is kept if the whole interval is above the threshold, forgotten if all of it is "
    f"below, undecided if it includes the threshold, and {NOT_MEASURABLE} if the base itself was hardly "
    "better than chance."
)
HEADERS = (
    "suite / category", "items", "chance", "before", "after", "retention", "95% interval", "lost", "gained",
    "McNemar p", "verdict",
)  # fmt: skip
PROBE_HEADERS = (
    "step", "items", "before", "after", "retention", "95% interval", "log-probability", "verdict",
)  # fmt: skip
STRENGTH_HEADERS = ("strength", "score", "95%", "retention", "95%", "lost", "gained", "verdict")
PROBES_SHOWN = 24


def verdict(name: str) -> str:
    """A verdict in words; an unknown one under its own name."""
    return VERDICT_NAMES.get(name, (name or UNKNOWN).replace("_", " "))


def bounds(found: Interval) -> str:
    """The bounds of an estimate."""
    return UNKNOWN if math.isnan(found.value) else f"{decimal(found.low)} – {decimal(found.high)}"


def summary(report: ReportContent) -> Iterator[tuple[str, str]]:
    """A line for each suite, or for the newest probe if no suite was measured."""
    for suite, result in report.measured.suites.items():
        if (compared := result.comparison) is not None:
            found = compared.headline
            yield f"retention on {suite}", headline(found, compared.verdict)
    if report.measured.judge.pairs:
        yield f"judged on {report.measured.judge.prompts}", report.measured.judge.sentence
    if not report.measured.suites and report.log.item_probes:
        probe = report.log.item_probes[-1]
        newest = probe.headline
        where = f"{integer(probe.n)} items of {probe.suite} at step {integer(probe.step)}"
        yield "retention by the last probe", f"{headline(newest, probe.outcome)}; {where}"


def headline(found: Interval, name: str) -> str:
    """A retention with its interval and verdict; the verdict alone where there is no retention."""
    if name == BASELINE or math.isnan(found.value):
        return verdict(name)
    return f"{decimal(found.value)} ({bounds(found)}), {verdict(name)}"


def retention(report: ReportContent) -> Iterator[Block]:
    """The section on suites and probes."""
    if not (report.measured.suites or report.log.item_probes or report.log.kl_probes):
        yield Paragraph("Nothing was measured: it is not known what the model forgot.")
        return
    title = "Retention with its 95% interval"
    if (plot := forest(title, list(_forest_rows(report)), report.threshold)) is not None:
        yield plot
    yield Paragraph(MEANING)
    yield Paragraph(f"The threshold is {decimal(report.threshold, 2)}; the recipe set it before the run.")
    for result in report.measured.suites.values():
        yield from _suite(result)
    yield from _probes(report)


def _forest_rows(report: ReportContent) -> Iterator[ForestLine]:
    """A row for each suite and its categories, and one for the newest probe of the run."""
    for suite, result in report.measured.suites.items():
        if (compared := result.comparison) is None:
            continue
        yield _forest_row(suite, compared, part=False)
        if (held_back := result.held_back) is not None and held_back.comparison is not None:
            yield _forest_row("never rehearsed", held_back.comparison, part=True)
        for name, each in result.categories.items():
            yield _forest_row(name, each, part=True)
    for probe in report.log.item_probes[-1:]:
        name = f"last probe of the run, step {integer(probe.step)}"
        yield ForestLine(name, f"{integer(probe.n)} items", probe.headline, probe.outcome)


def _forest_row(name: str, compared: SuiteComparison, part: bool) -> ForestLine:
    return ForestLine(name, f"{integer(compared.n)} items", compared.headline, compared.verdict, part)


def _suite(result: SuiteResult) -> Iterator[Block]:
    suite, chance = result.suite, finite(result.chance)
    guessing = "it has no chance level" if chance is None else f"guessing gets {chance:.0%} of it right"
    weights = "unquantised" if result.quantization == "none" else result.quantization
    yield Paragraph(
        f"{result.title or suite} ({suite}, version {result.version}, {integer(result.n)} items; "
        f"{guessing}); "
        f"measured with {weights} weights, computed in {result.dtype}, scored by {result.metric}."
    )
    if result.comparison is None:
        yield Paragraph("Only the base was measured, so there is no comparison.")
        return
    yield Paragraph(result.comparison.sentence)
    rows = [_row(suite, result.comparison, chance)]
    if (held_back := result.held_back) is not None and held_back.comparison is not None:
        name = f"never rehearsed by replay ({', '.join(held_back.categories)})"
        rows.append(_row(name, held_back.comparison, None))
    rows += [_row(name, compared, None) for name, compared in result.categories.items()]
    yield Table(f"Retention on {suite}", HEADERS, tuple(rows), right=tuple(range(1, 10)))
    lost, gained = flips(result)
    if lost or gained:
        yield Paragraph(
            f"Of {len(result.items):,} items {lost:,} were right before and wrong after, {gained:,} the "
            "other way round."
        )
    for warning in result.warnings:
        yield Paragraph(f"Warning: {warning}")


def _row(name: str, compared: SuiteComparison, chance: float | None) -> tuple[str, ...]:
    found = compared.headline
    return (
        name,
        integer(compared.n),
        decimal(chance, 2) if chance is not None else "",
        decimal(compared.pre),
        decimal(compared.post),
        decimal(found.value),
        bounds(found),
        integer(compared.b),
        integer(compared.c),
        significant(compared.mcnemar_p),
        verdict(compared.verdict),
    )


def _probes(report: ReportContent) -> Iterator[Block]:
    if report.log.item_probes:
        newest = report.log.item_probes[-1]
        chance = finite(newest.chance)
        guessing = f" Guessing gets {chance:.0%} of them right." if chance is not None else ""
        yield Paragraph(f"During the run the model was probed on items of {newest.suite}.{guessing}")
        rows = [
            (
                integer(probe.step),
                integer(probe.n),
                decimal(probe.pre),
                decimal(probe.post),
                decimal(probe.headline.value),
                bounds(probe.headline),
                decimal(probe.logprob_change.value if probe.logprob_change else None),
                verdict(probe.outcome),
            )
            for probe in some(report.log.item_probes, PROBES_SHOWN)
        ]
        yield Table("Probes of items during the run", PROBE_HEADERS, tuple(rows), right=tuple(range(1, 7)))
    if report.log.kl_probes:
        distances = [
            (integer(probe.step), _nats(probe.general), _nats(probe.task))
            for probe in some(report.log.kl_probes, PROBES_SHOWN)
        ]
        headers = ("step", "general text (95%)", "the task's own text (95%)")
        yield Table("Distance from the base, KL in nats per token", headers, tuple(distances), right=(1, 2))
    if report.log.probe_plan and report.log.probe_plan.reason:
        yield Paragraph(f"How the probes were planned: {report.log.probe_plan.reason}.")


def _nats(found: Interval) -> str:
    return f"{significant(found.value)} ({significant(found.low)} – {significant(found.high)})"


def strength(report: ReportContent) -> Iterator[Block]:
    """The section on acquisition and retention by the adapter's strength."""
    sweep = report.measured.strength
    if not sweep.points:
        yield Paragraph("No strength curve was measured.")
        return
    yield Paragraph(
        "The adapter's change multiplied by a strength: 0 is the base, 1 the run as it is. Acquisition on "
        f"{integer(sweep.acquisition_rows)} held-out rows ({metric_name(sweep.acquisition_metric)}), "
        f"retention on {integer(sweep.n)} items of {sweep.suite}."
    )
    if sweep.recommended.reason:
        at = finite(sweep.recommended.strength)
        advice = "No strength is recommended" if at is None else f"Recommended: {at:g}"
        yield Paragraph(f"{advice}: {sweep.recommended.reason}.")
    if (chart := strength_chart(sweep)) is not None:
        yield FigureBlock(chart, with_table=False)
    rows = [
        (
            significant(point.strength),
            decimal(point.acquisition),
            bounds(point.acquisition_interval),
            decimal(point.headline.value),
            bounds(point.headline),
            integer(point.b),
            integer(point.c),
            verdict(point.verdict),
        )
        for point in sweep.points
    ]
    yield Table("The sweep", STRENGTH_HEADERS, tuple(rows), right=tuple(range(1, 7)))
