"""The content of a report as a document: sections of paragraphs, tables, charts, quotes and commands, without
markup. Texts of models, data and logs are passed on unchanged; the templates escape them. Unknown figures
are a dash."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from tui_lab import __version__
from tui_lab.core.format import (
    UNKNOWN,
    carbon,
    count,
    decimal,
    duration,
    energy,
    finite,
    memory_name,
    metric_name,
    money,
    significant,
    size,
)
from tui_lab.data.label_records import LabelScores
from tui_lab.data.source_counts import SourceCounts
from tui_lab.recipes.mixture import short_name
from tui_lab.report import retention, search
from tui_lab.report.blocks import (
    AnswerPair,
    AnswersBlock,
    Block,
    Bullets,
    CommandsBlock,
    DetailsBlock,
    Document,
    FigureBlock,
    Paragraph,
    Quote,
    Section,
    integer,
)
from tui_lab.report.charts import Table, charts
from tui_lab.report.content import ReportContent, unknown
from tui_lab.report.headline import headline
from tui_lab.retention.scoring.metrics import Metric
from tui_lab.runs.event_parts import JsonValue, ScoredExample
from tui_lab.runs.schema import ScoreEvent

Pairs: TypeAlias = list[tuple[str, str]]
#: Each state in a sentence for later readers.
STATES = {
    "created": "It has not been started.",
    "starting": "It was starting when this was written: the report shows what was known then.",
    "running": "It was running when this was written: the report shows what was known then.",
    "paused": "It was paused when this was written: the report shows what was known then.",
    "finished": "It ran to its end.",
    "stopped": "It was stopped before its planned end; what was learned until then was saved.",
    "failed": "It failed: the report shows what was measured until then.",
    "crashed": "It crashed: its process ended without writing an end. The report shows what was measured "
    "until then.",
}
#: Fields of the data event with their names, in this order; all others follow under their own names.
DATA_NAMES = {
    "name": "data", "format": "format", "reason": "read as", "train_rows": "training rows",
    "validation_rows": "held-out rows", "train_tokens": "training tokens",
    "train_trained_tokens": "of them trained (not masked)", "mean_tokens": "tokens per row, mean",
    "longest_tokens": "tokens of the longest row", "duplicates": "duplicates left out",
    "near_duplicates": "near-duplicates left out", "leaks_removed": "rows left out of validation as leaks",
    "truncated": "rows cut to the length", "rows_bad": "rows left out as damaged",
    "template_source": "chat template", "replay_rows": "general rows mixed in (replay)",
    "replay_source": "general rows from",
}  # fmt: skip


def document(report: ReportContent) -> Document:
    """The whole report."""
    recipe = report.recipe
    subtitle = "a recipe that cannot be read"
    if recipe:
        subtitle = f"{recipe.model} on {recipe.data} · preset {recipe.preset or 'none'} · {report.status}"
    sections: tuple[tuple[str, str, Callable[[ReportContent], Iterator[Block]]], ...] = (
        ("curves", "Curves", _curves),
        ("retention", "Retention: what the model still knows", retention.retention),
        ("search", "Search under a promise: why this recipe", search.search),
        ("stages", "Stages: what each run scores on the task of each", _stages),
        ("acquisition", "Acquisition: what it learned", _acquisition),
        ("samples", "Before and after", _samples),
        ("strength", "Strength sweep", retention.strength),
        ("flags", "Problems during the run", _flags),
        ("result", "The run in figures", _result),
        ("memory", "Memory: forecast and measured", _memory),
        ("costs", "Time, energy, money, CO₂", _costs),
        ("recipe", "Recipe", _recipe),
        ("data", "Data", _data),
        ("machine", "Versions and device", _machine),
        ("repeat", "How to repeat it", _repeat),
        ("unknown", "What is not known", _unknown),
    )
    made = [Section(id, title, blocks) for id, title, make in sections if (blocks := tuple(make(report)))]
    if report.status in ("failed", "crashed"):  # why comes first
        made.sort(key=lambda section: section.id != "result")
    return Document(f"Run {report.run}", subtitle, tuple(made), headline(report))


def _time(seconds: float | None) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds)) if seconds else UNKNOWN
    except (OverflowError, ValueError, OSError):
        return UNKNOWN


def _pair_table(caption: str, pairs: Iterable[tuple[str, str]]) -> Table:
    return Table(caption, ("", "value"), tuple(pairs))


def _change(values: Sequence[float]) -> str:
    """The first and the last of some values."""
    first, last = (values[0], values[-1]) if values else (math.nan, math.nan)
    if not math.isfinite(first) or first == last:
        return significant(last)
    return f"{significant(first)} → {significant(last)}"


def _text(value: JsonValue) -> str:
    """A value of the recipe or of an event as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return "" if value is None else str(value)


# --------------------------------------------------------------------------------------------------
# sections


def _result(report: ReportContent) -> Iterator[Block]:
    yield Paragraph(f"State: {report.status}. {STATES.get(report.status, '')}")
    if report.message:
        yield Quote("message of the run", report.message)
    if report.log_tail:
        yield Quote("end of its log", "\n".join(report.log_tail))
    yield _pair_table("Figures", _figures(report))
    if report.course:
        rows = tuple((_time(entry.t), entry.text) for entry in report.course)
        yield Table("Course of the run", ("when", "what"), rows)
    if report.problems:
        yield Paragraph("What could not be read of this run:")
        yield Bullets(tuple(report.problems))


def _figures(report: ReportContent) -> Iterator[tuple[str, str]]:
    log, memory, spent, best = report.log, report.memory, report.spent, report.best_validation
    yield "steps", f"{log.step:,}" + (f" of {log.total_steps:,}" if log.total_steps else "")
    yield "training loss", _change(log.loss.values)
    yield "validation loss", _change(log.validation.values)
    if best and best[1] != log.validation.last:
        yield "best validation loss", f"{significant(best[1])} at step {best[0]:,}"
    if log.scores:
        yield (
            f"acquisition ({metric_name(log.score_name)})",
            f"{decimal(log.score('start'))} → {decimal(log.score('end'))}",
        )
    yield from retention.summary(report)
    if memory.measured is not None:
        against = f", forecast {size(memory.total)}" if memory.total is not None else ""
        yield "peak memory", f"{size(memory.measured)}{against}"
    yield "time", duration(spent.seconds)
    if spent.energy_j is not None:
        yield "energy", energy(spent.energy_j)
    if log.saved:
        yield "saved", f"{log.saved.what} ({size(log.saved.bytes)})"
    yield "attempts", str(log.attempt)
    yield "started", _time(log.started_at)
    yield "last event", _time(log.updated_at)
    yield "this report", f"{_time(report.written_at)}, by tui-lab {__version__}"


def _curves(report: ReportContent) -> Iterator[Block]:
    found = charts(report.log, report.threshold)
    yield from map(FigureBlock, found)
    if not found:
        yield Paragraph("No step was recorded, so there is nothing to draw.")


def _score_values(score: ScoreEvent) -> dict[str, float]:
    """All values of a score by name, the task's own first."""
    others = {name: getattr(score, name) for name in ("exact", "token_f1", "rouge_l", "bleu", "chrf")}
    tasks = {f"{metric_name(score.name)}, task {task}": value for task, value in score.by_task.items()}
    known = {name: value for name, value in others.items() if value is not None}
    return {score.name: score.value, **tasks, **known}


def _acquisition(report: ReportContent) -> Iterator[Block]:
    scores: dict[str, dict[str, float]] = {}
    for score in report.log.scores:
        for name, value in _score_values(score).items():
            scores.setdefault(name, {})[score.when] = value
    if scores:
        newest = report.log.scores[-1]
        yield Paragraph(
            f"The run answered {integer(newest.rows)} held-out rows greedily. Acquisition is their mean "
            f"{metric_name(newest.name)}, from 0 to 1."
        )
        rows = [
            (metric_name(name), decimal(of.get("start")), decimal(of.get("end")))
            for name, of in scores.items()
        ]
        yield Table("Acquisition", ("measured by", "before", "after"), tuple(rows), right=(1, 2))
    if report.log.scores and (labels := report.log.scores[-1].labels):
        yield _labels(labels)
    measured = report.measured.acquisition
    if measured.metrics:
        yield Paragraph(
            f"Measured after the run on {integer(measured.rows)} held-out rows, base and tuned model side by "
            "side; ± is the standard error."
        )
        again = [
            (metric_name(name), _mean(of.base), _mean(of.tuned)) for name, of in measured.metrics.items()
        ]
        yield Table(
            "Acquisition, measured after the run",
            ("measured by", "base", "tuned"),
            tuple(again),
            right=(1, 2),
        )
    if (gap := finite(measured.overfitting_gap)) is not None:
        side = "above" if gap >= 0 else "below"
        yield Paragraph(f"Validation loss is {significant(abs(gap))} nats per token {side} training loss.")
    if (gap := finite(report.log.overfitting_gap)) is not None:
        yield Paragraph(
            f"Overfitting gap of the token accuracy, (training − held-out) / training: {gap:+.1%}."
        )
    if not scores and not measured.metrics:
        yield Paragraph("Acquisition was not measured.")


def _labels(found: LabelScores) -> Table:
    rows = [
        (each.label, f"{each.rows:,}", *map(decimal, (each.precision, each.recall, each.f1, each.auc)))
        for each in found.labels
    ]
    rows.append(("mean over labels", "", *map(decimal, (found.precision, found.recall, found.f1, found.auc))))
    heads = ("label", "held-out rows", "precision", "recall", "F1", "AUC")
    return Table("Labels, at the newest score", heads, tuple(rows), right=(1, 2, 3, 4, 5))


def _mean(found: Metric) -> str:
    error = finite(found.se)
    return decimal(found.value) + (f" ± {decimal(error)}" if error is not None else "")


def _stages(report: ReportContent) -> Iterator[Block]:
    if (found := report.stages) is None:
        return
    yield Paragraph(
        "This run goes on from earlier ones. A row has the scores after a stage, a column those on the "
        "held-out rows of a stage's data, from 0 to 1."
    )
    head = ("after", "run", *(f"task {name}" for name in found.task_names))
    right = tuple(range(2, len(head)))
    yield Table("Scores by stage and task", head, tuple(map(tuple, found.rows)), right=right)
    yield Bullets(tuple(found.sentences))


def _samples(report: ReportContent) -> Iterator[Block]:
    if not (report.samples or report.examples or report.answers):
        yield Paragraph("No answer of the model was recorded.")
        return
    yield Paragraph("Texts are shown as recorded; invisible characters are replaced by visible signs.")
    for sample in report.samples:
        yield Quote("prompt", sample.prompt)
        for side in (sample.before, sample.after):
            if side is not None:
                yield Quote(f"answer at step {integer(side.step)}", side.text)
    if report.examples:
        scored = [
            AnswerPair(
                example.prompt,
                _expected(example.before, example.after),
                example.before.answer if example.before else UNKNOWN,
                example.after.answer if example.after else UNKNOWN,
                example.before.ok if example.before else None,
                example.after.ok if example.after else None,
            )
            for example in report.examples
        ]
        yield AnswersBlock("Held-out rows, as the run scored them", ("before", "after"), tuple(scored))
    if report.answers:
        answers = [AnswerPair(one.prompt, one.expected, *one.texts) for one in report.answers]
        yield AnswersBlock("Held-out rows, measured after the run", ("base", "tuned"), tuple(answers))


def _expected(before: ScoredExample | None, after: ScoredExample | None) -> str:
    return before.expected if before else after.expected if after else ""


def _flags(report: ReportContent) -> Iterator[Block]:
    if report.flags:
        rows = [
            (flag.severity, flag.name.replace("_", " "), integer(flag.step), flag.sentence, flag.remedy)
            for flag in report.flags
        ]
        head = ("", "flag", "step", "finding", "remedy")
        yield Table("Red flags, by fixed rules over the figures", head, tuple(rows), right=(2,))
    else:
        yield Paragraph("No red flag: no rule found a problem in the figures.")
    if report.log.ladder:
        steps = [(integer(event.step), event.text, event.cost) for event in report.log.ladder]
        yield Table("Out of memory: the measures taken", ("step", "measure", "cost"), tuple(steps))
        if report.log.ladder_cost:
            yield Paragraph(report.log.ladder_cost.text)
    if report.log.warnings:
        yield Paragraph("Warnings of the run:")
        yield Bullets(tuple(report.log.warnings))


def _memory(report: ReportContent) -> Iterator[Block]:
    memory = report.memory
    if memory.total is None:
        yield Paragraph("Against the forecast: not known, the log of this run has none.")
    else:
        bounds = f" ({size(memory.low)} to {size(memory.high)})" if memory.inside is not None else ""
        forecast = f"The forecast was {size(memory.total)}{bounds} on {memory.device or 'the device'}"
        if memory.measured is None or memory.difference is None:
            yield Paragraph(f"{forecast}; the memory used was not measured.")
        else:
            more = "more" if memory.difference >= 0 else "less"
            by = f"{size(abs(memory.measured - memory.total))} ({abs(memory.difference):.1%}) {more}"
            within = "" if memory.inside is None else "; that is within its bounds" if memory.inside else (
                "; that is outside its bounds"
            )  # fmt: skip
            measured = f"{size(memory.measured)} ({memory_name(memory.label)})"
            yield Paragraph(f"{forecast}. Measured: {measured}, {by}{within}.")
    if memory.parts:
        rows = [*((name, size(value)) for name, value in memory.parts.items()), ("total", size(memory.total))]
        yield Table("Parts of the forecast", ("part", "memory"), tuple(rows), right=(1,))
    peaks = [(memory_name(label), size(peak)) for label, peak in memory.peaks.items()]
    peaks += [(f"{name}, by all processes", size(peak)) for name, peak in memory.device_peaks.items()]
    if peaks:
        yield Table("Highest values measured", ("", "memory"), tuple(peaks), right=(1,))


def _costs(report: ReportContent) -> Iterator[Block]:
    spent, prices = report.spent, report.prices
    hour = UNKNOWN if prices.per_hour is None else money(prices.per_hour, prices.currency)
    grid = f"energy × {prices.g_co2_per_kwh:g} g per kWh ({prices.grid_source})"
    peak = f" ({spent.peak_of})" if spent.peak_of else ""
    pairs: Pairs = [
        ("time of all attempts", duration(spent.seconds)),
        ("speed at the end", f"{spent.tok_per_s:,.0f} tokens per second" if spent.tok_per_s else UNKNOWN),
        ("energy", "not known: it was not metered" if spent.energy_j is None else energy(spent.energy_j)),
        ("CO₂", UNKNOWN if spent.co2_kg is None else f"{carbon(spent.co2_kg)} = {grid}"),
        (
            "money",
            "not known: no price per hour is set"
            if spent.money is None
            else f"{money(spent.money, prices.currency)} = hours × {hour} per hour",
        ),
        ("operations per token", _flops(spent.flops_per_token, "FLOP")),
        ("operations per second", _flops(spent.flops_s, "FLOP/s")),
        ("rate of the device", _flops(spent.peak_flops, "FLOP/s") + peak),
        ("MFU", f"{spent.mfu:.1%}" if spent.mfu is not None else UNKNOWN),
    ]
    yield _pair_table("Cost of the run", pairs)
    if spent.formula:
        yield Paragraph(f"Operations per token: {spent.formula}")
    yield Paragraph(
        "MFU = tokens per second × operations per token / rate of the device. Energy is that of the GPU only."
    )


def _flops(value: float | None, unit: str) -> str:
    found, _, scale = count(value / 1e3 if value else None).partition(" ")
    return f"{found} {({'B': 'T', 'M': 'G', 'k': 'M'}).get(scale, 'k')}{unit}" if value else UNKNOWN


def _recipe(report: ReportContent) -> Iterator[Block]:
    recipe = report.recipe.model_dump() if report.recipe else {}
    if recipe:
        pairs = [(key, _text(recipe[key])) for key in ("model", "preset", "data", "method", "seed")]
        yield _pair_table("Summary of the recipe", pairs)
    else:
        yield Paragraph("The recipe cannot be read.")
    if report.log.choices:
        choices = [(choice.field, _text(choice.value), choice.reason) for choice in report.log.choices]
        yield Table("What the run chose itself, and why", ("field", "value", "reason"), tuple(choices))
    if recipe:
        changed = report.changed
        if changed:
            yield Paragraph(f"It differs from the preset {report.base_preset} in: {', '.join(changed)}.")
        elif report.base_preset:
            yield Paragraph(f"All fields are as in the preset {report.base_preset}.")
        rows = [(name, _text(value), "set" if name in changed else "") for name, value in recipe.items()]
        all_fields = Table("Every field", ("field", "value", "on top of the preset"), tuple(rows))
        yield DetailsBlock("The whole recipe", (all_fields,))


def _data(report: ReportContent) -> Iterator[Block]:
    if report.log.data is None:
        yield Paragraph("The run ended before it prepared its data.")
        return
    found = msgspec.to_builtins(report.log.data)
    known = {
        k: v for k, v in found.items() if k not in ("v", "t", "kind", "sources") and v not in (None, "", {})
    }
    pairs = [(name, _text(known[key])) for key, name in DATA_NAMES.items() if key in known]
    yield _pair_table("Training data", pairs)
    if report.log.data.sources:
        yield _sources(report.log.data.sources)
    if rewritten := report.log.self_distillation:
        shares = [("answers rewritten by the base", f"{rewritten.rewritten:,} of {rewritten.rows:,}")]
        shares += [(f"kept: {_text(why)}", f"{count:,}") for why, count in rewritten.kept.items()]
        yield _pair_table("Self-distillation", shares)
        texts = tuple((_text(each.reference), _text(each.text)) for each in rewritten.examples)
        if texts:
            yield Table("Rewritten answers", ("reference", "trained answer"), texts)
    rest = [(key.replace("_", " "), _text(v)) for key, v in known.items() if key not in DATA_NAMES]
    if rest:
        yield DetailsBlock("More about the data", (_pair_table("Other fields", rest),))


def _sources(sources: Sequence[SourceCounts]) -> Table:
    heads = ("data set", "weight", "rows trained", "of usable rows", "trained tokens", "held-out rows")
    rows = [
        (
            short_name(each.name),
            f"{each.weight:.0%}",
            integer(each.train_rows),
            integer(each.rows_usable),
            integer(each.train_trained_tokens),
            integer(each.validation_rows),
        )
        for each in sources
    ]
    return Table("Data sets of the mixture", heads, tuple(rows))


def _machine(report: ReportContent) -> Iterator[Block]:
    started, model = report.log.started, report.log.model
    device = started.device if started else None
    if started is None:
        yield Paragraph("The run ended before it recorded them.")
    pairs: Pairs = list(started.versions.items()) if started else []
    if started and device:
        pairs.append(("device", f"{device.name} ({device.type})"))
        pairs.append(("its memory", size(device.memory_bytes)))
        pairs.append(("threads", integer(started.threads)))
    if model is not None:
        pairs.append(("trained", f"{count(model.trainable)} of {count(model.parameters)} parameters"))
    if pairs:
        yield _pair_table("Versions and device", pairs)


def _repeat(report: ReportContent) -> Iterator[Block]:
    recipe = report.recipe
    if not report.command or recipe is None:
        yield Paragraph("The recipe cannot be read, so no command can be given.")
        return
    yield Paragraph("The same recipe as a command, with everything that differs from the preset:")
    yield CommandsBlock(report.command)
    if any(entry.kind == "recipe_changed" for entry in report.course):
        yield Paragraph(
            "This is the recipe of the last attempt. It was changed during the run, so no single command "
            "repeats the run exactly; the course of the run above lists the changes with their times."
        )
    yield Paragraph("Or from the recipe in the run's folder (RUN), even if the preset changes:")
    yield CommandsBlock("tui-lab train --preset RUN/recipe.toml")
    pinned = recipe.revision or "none pinned"
    if recipe.model == "pocket":
        version = report.log.started.versions.get("tui_lab") if report.log.started else None
        pinned = f"the model that ships with tui-lab {version or UNKNOWN}"
    yield _pair_table(
        "What decides whether the result is the same",
        [("seed", str(recipe.seed)), ("revision of the model", pinned)],
    )
    yield Paragraph(
        "The seed determines split, order of rows and initialisation. On a CPU with the same versions and "
        "the same number of threads the losses are the same; a GPU may round in another order."
    )
    yield Paragraph("The measurements after the run, and this report:")
    suites = " ".join(f"--suite {shlex.quote(suite)}" for suite in report.measured.suites)
    name = shlex.quote(report.run)
    yield CommandsBlock(f"tui-lab retention --adapter {name} {suites}".rstrip() + f"\ntui-lab report {name}")


def _unknown(report: ReportContent) -> Iterator[Block]:
    yield Bullets(tuple(unknown(report)))
