"""The parts of a report that tell what was kept: results of suites with their intervals, verdicts and what
chance is, the probes during the run, and the strength sweep. Figures are those of the results; nothing is
reckoned anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tui_lab.core.format import UNKNOWN, finite
from tui_lab.report.blocks import Block, Figure, Paragraph, number, whole
from tui_lab.report.charts import Table, some, strength_chart
from tui_lab.report.facts import Report
from tui_lab.runs.state import headline
from tui_lab.runs.verdicts import VERDICTS

#: Each verdict with a mark and a word: colour is not needed to tell them apart.
WORDS = {name: f"{glyph} {word}" for name, (glyph, word) in VERDICTS.items()}
MEANING = (
    "Retention is the share of what the base knew that is still known: right answers after, of right "
    "answers before, each less what guessing gets where a suite has choices to guess from. The interval is "
    "at 95%. The verdict is kept where the whole interval lies over the threshold, forgotten where all of "
    "it lies under it, undecided where it holds the threshold, and cannot tell where the base itself was "
    "hardly better than chance."
)
HEADERS = (
    "suite / category", "items", "chance", "before", "after", "retention", "95% interval", "lost", "gained",
    "McNemar p", "verdict",
)  # fmt: skip
PROBES_SHOWN = 24


def verdict(name: Any) -> str:
    """A verdict in words; of one that a newer version brings, its own name."""
    return WORDS.get(str(name), str(name or UNKNOWN).replace("_", " "))


def interval(found: Mapping[str, Any]) -> str:
    """The bounds of a figure."""
    return f"{number(found.get('low'), 3)} – {number(found.get('high'), 3)}"


def summary(report: Report) -> Iterator[tuple[str, str]]:
    """A line for each suite; the newest probe where none was measured."""
    for suite, result in report.results.items():
        compared = result.get("comparison")
        if not isinstance(compared, dict):
            continue
        try:
            found = headline(compared)
            figures = f"{number(found['value'], 3)} ({interval(found)})"
        except (TypeError, KeyError, AttributeError):
            figures = "cannot be read"
        yield f"retention on {suite}", f"{figures}, {verdict(compared.get('verdict'))}"
    if not report.results and report.item_probes:
        probe = report.item_probes[-1]
        found = headline(probe)
        figures = f"{number(found['value'], 3)} ({interval(found)})"
        where = f"{whole(probe.get('n'))} items of {probe.get('suite')} at step {whole(probe['step'])}"
        yield "retention by the last probe", f"{figures}, {verdict(probe.get('verdict'))}; {where}"


def retention(report: Report) -> Iterator[Block]:
    """Everything that was measured of it."""
    if not report.results and not report.item_probes and not report.kl_probes:
        yield Paragraph("Nothing was measured: it is not known what the model forgot.")
        return
    yield Paragraph(MEANING)
    yield Paragraph(f"The threshold is {number(report.threshold, 2)}, set with the recipe, before the run.")
    for suite, result in report.results.items():
        yield from _suite(suite, result, report.flips[suite])
    yield from _probes(report)


def _suite(suite: str, result: Mapping[str, Any], flips: Mapping[str, int]) -> Iterator[Block]:
    chance = finite(result.get("chance"))
    guessing = (
        f"guessing gets {chance:.0%} of it right" if chance is not None else "it has no level of chance"
    )
    how = f"{result.get('quantization')} weights, computed in {result.get('dtype')}"
    title = str(result.get("title") or suite)
    yield Paragraph(
        f"{title} ({suite}, version {result.get('version')}, {whole(result.get('n'))} items; {guessing}); "
        f"measured with {how}, judged by {result.get('metric')}."
    )
    compared = result.get("comparison")
    if not isinstance(compared, dict):
        yield Paragraph("Only the base was measured: there is nothing to compare.")
        return
    yield Paragraph(str(compared.get("sentence") or ""))
    rows = [_row(suite, compared, chance)]
    held = result.get("held_back")
    if isinstance(held, dict) and isinstance(held.get("comparison"), dict):
        name = f"never rehearsed by replay ({', '.join(map(str, held.get('categories') or ()))})"
        rows.append(_row(name, held["comparison"], None))
    categories = result.get("categories")
    for name, each in categories.items() if isinstance(categories, dict) else ():
        if isinstance(each, dict):
            rows.append(_row(str(name), each, None))
    yield Table(f"Retention on {suite}", HEADERS, tuple(rows), right=(1, 2, 3, 4, 5, 6, 7, 8, 9))
    if flips["lost"] or flips["gained"]:
        yield Paragraph(
            f"Of {flips['items']:,} items {flips['lost']:,} were right before and wrong after, "
            f"{flips['gained']:,} the other way round."
        )
    for warning in result.get("warnings") or ():
        yield Paragraph(f"Warning: {warning}")


def _row(name: str, compared: Mapping[str, Any], chance: float | None) -> tuple[str, ...]:
    found = headline(dict(compared))
    return (
        name,
        whole(compared.get("n")),
        number(chance, 2) if chance is not None else "",
        number(compared.get("pre"), 3),
        number(compared.get("post"), 3),
        number(found["value"], 3),
        interval(found),
        whole(compared.get("b")),
        whole(compared.get("c")),
        number(compared.get("mcnemar_p")),
        verdict(compared.get("verdict")),
    )


def _probes(report: Report) -> Iterator[Block]:
    if report.item_probes:
        chance = finite(report.item_probes[-1].get("chance"))
        guessing = f" Guessing gets {chance:.0%} of them right." if chance is not None else ""
        yield Paragraph(
            f"During the run, items of {report.item_probes[-1].get('suite')} were asked.{guessing}"
        )
        rows = []
        for probe in some(report.item_probes, PROBES_SHOWN):
            found, change = headline(probe), probe.get("logprob_change") or {}
            rows.append(
                (
                    whole(probe["step"]),
                    whole(probe.get("n")),
                    number(probe.get("pre"), 3),
                    number(probe.get("post"), 3),
                    number(found["value"], 3),
                    interval(found),
                    number(change.get("value"), 3),
                    verdict(probe.get("verdict")),
                )
            )
        headers = (
            "step", "items", "before", "after", "retention", "95% interval", "log-probability", "verdict",
        )  # fmt: skip
        yield Table("Probes of items during the run", headers, tuple(rows), right=(1, 2, 3, 4, 5, 6))
    if report.kl_probes:
        distances = [
            (whole(probe["step"]), _nats(probe["general"]), _nats(probe["task"]))
            for probe in some(report.kl_probes, PROBES_SHOWN)
        ]
        sides = ("step", "general text (95%)", "the task's own text (95%)")
        yield Table("Distance from the base, KL in nats a token", sides, tuple(distances), right=(1, 2))
    if report.probe_reason:
        yield Paragraph(f"How the probes were planned: {report.probe_reason}.")


def _nats(found: Mapping[str, Any]) -> str:
    return f"{number(found.get('value'))} ({number(found.get('low'))} – {number(found.get('high'))})"


def strength(report: Report) -> Iterator[Block]:
    """Gain and retention by the strength of the adapter."""
    sweep = report.strength
    points = [point for point in sweep.get("points") or () if isinstance(point, dict)]
    if not points:
        yield Paragraph("No sweep was made: it is not known how strength trades gain against retention.")
        return
    yield Paragraph(
        "The adapter's change multiplied by a strength: 0 is the base, 1 the run as it is. Score on "
        f"{whole(sweep.get('acquisition_rows'))} held-out rows of the task "
        f"({sweep.get('acquisition_metric')}), retention on {whole(sweep.get('n'))} items of "
        f"{sweep.get('suite')}."
    )
    recommended = sweep.get("recommended")
    if isinstance(recommended, dict):
        at = finite(recommended.get("strength"))
        said = f"Recommended: {at:g}" if at is not None else "No strength is recommended"
        yield Paragraph(f"{said}: {recommended.get('reason')}.")
    if (chart := strength_chart(sweep)) is not None:
        yield Figure(chart, with_table=False)
    rows = []
    for point in points:
        gain, kept = point.get("acquisition_interval") or {}, point.get("retention") or {}
        rows.append(
            (
                number(point.get("strength")),
                number(point.get("acquisition"), 3),
                interval(gain),
                number(kept.get("value"), 3),
                interval(kept),
                whole(point.get("b")),
                whole(point.get("c")),
                verdict(point.get("verdict")),
            )
        )
    headers = ("strength", "score", "95%", "retention", "95%", "lost", "gained", "verdict")
    yield Table("The sweep", headers, tuple(rows), right=(1, 2, 3, 4, 5, 6))
