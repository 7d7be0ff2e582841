"""The head of a report: what the run came to in plain sentences, and the figures that decide."""

from __future__ import annotations

from collections.abc import Iterator

from tui_lab.core.format import decimal, duration, finite, metric_name, plural, significant, size
from tui_lab.report.blocks import Headline, Tile, integer
from tui_lab.report.content import ReportContent
from tui_lab.report.forest import tone_of
from tui_lab.retention.statistics import Interval
from tui_lab.runs.verdicts import verdict_label

#: What a verdict says of the base's knowledge.
_RETAINED = {
    "green": "It kept what the base knew",
    "amber": "Whether it kept what the base knew is undecided",
    "red": "It forgot part of what the base knew",
    "cannot_tell": "What it kept cannot be told: the base is hardly better than chance",
}
_STATES = {"failed": "It failed.", "crashed": "It crashed.", "stopped": "It was stopped early."}


def headline(report: ReportContent) -> Headline:
    """The result in one to three sentences, with its figures."""
    name, verdict, found = _retention(report)
    sentences = [_STATES[report.status]] if report.status in _STATES else []
    sentences += [text for text in (_learned(report), _kept(report, name, verdict, found)) if text]
    text = " ".join(sentences)
    if report.status in ("failed", "crashed"):
        return Headline("bad", f"✗ {report.status}", text, tuple(_tiles(report)))
    word = verdict_label(verdict) if verdict else report.status
    return Headline(tone_of(verdict), word, text, tuple(_tiles(report)))


def _retention(report: ReportContent) -> tuple[str, str, Interval]:
    """What was measured last: its name, its verdict and the retention that decides. A suite goes before the
    probes of the run."""
    for suite, result in report.measured.suites.items():
        if (compared := result.comparison) is not None:
            return f"{integer(compared.n)} items of {suite}", compared.verdict, compared.headline
    if report.log.item_probes:
        probe = report.log.item_probes[-1]
        if probe.outcome in _RETAINED:  # not the base against itself
            return f"{integer(probe.n)} items of {probe.suite}", probe.outcome, probe.headline
    return "", "", Interval(float("nan"), float("nan"), float("nan"))


def _kept(report: ReportContent, name: str, verdict: str, found: Interval) -> str:
    if not verdict:
        return "What it forgot was not measured."
    if verdict not in _RETAINED:
        return ""
    if finite(found.value) is None or verdict == "cannot_tell":
        return f"{_RETAINED[verdict]} ({name})."
    threshold = "" if report.threshold is None else f", threshold {decimal(report.threshold, 2)}"
    figures = f"{decimal(found.value, 2)} ({decimal(found.low, 2)} – {decimal(found.high, 2)})"
    return f"{_RETAINED[verdict]}: retention {figures} on {name}{threshold}."


def _learned(report: ReportContent) -> str:
    log = report.log
    start, end = finite(log.score("start")), finite(log.score("end"))
    if start is not None and end is not None:
        metric = metric_name(log.score_name)
        if start == end:
            return f"Acquisition ({metric}) stayed at {decimal(end, 2)}."
        word = "rose" if end > start else "fell"
        return f"Acquisition ({metric}) {word} from {decimal(start, 2)} to {decimal(end, 2)}."
    known = [value for value in log.validation.values if finite(value) is not None]
    if len(known) > 1 and known[0] != known[-1]:
        word = "fell" if known[-1] < known[0] else "rose"
        return f"Its validation loss {word} from {significant(known[0], 3)} to {significant(known[-1], 3)}."
    return ""


def _tiles(report: ReportContent) -> Iterator[Tile]:
    log, memory = report.log, report.memory
    start, end = finite(log.score("start")), finite(log.score("end"))
    if start is not None and end is not None:
        rows = log.scores[-1].rows if log.scores else None
        note = metric_name(log.score_name) + ("" if rows is None else f", {plural(rows, 'held-out row')}")
        yield Tile("acquisition", f"{decimal(start, 2)} → {decimal(end, 2)}", note)
    known = [value for value in log.validation.values if finite(value) is not None]
    if known:
        best = report.best_validation
        note = f"best {significant(best[1], 3)} at step {best[0]:,}" if best else ""
        first = f"{significant(known[0], 3)} → " if len(known) > 1 else ""
        yield Tile("validation loss", first + significant(known[-1], 3), note)
    _, verdict, found = _retention(report)
    if finite(found.value) is not None:
        bounds = f"{decimal(found.low, 2)} – {decimal(found.high, 2)}"
        yield Tile(
            "retention", decimal(found.value, 2), f"{bounds}, {verdict_label(verdict)}", tone_of(verdict)
        )
    device = log.started.device if log.started else None
    where = "" if device is None else "on the CPU" if device.type == "cpu" else device.name
    yield Tile("time", duration(report.spent.seconds), where)
    if memory.measured is not None:
        forecast = f"forecast {size(memory.total)}" if memory.total is not None else ""
        yield Tile("peak memory", size(memory.measured), forecast)
    steps = f"{log.step:,}" + (f" of {log.total_steps:,}" if log.total_steps else "")
    yield Tile(
        "steps", steps, f"{report.spent.tok_per_s:,.0f} tokens per second" if report.spent.tok_per_s else ""
    )
