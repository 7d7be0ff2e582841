"""A report as a document: sections of paragraphs, tables, charts, quotes and commands, in plain words and
without any markup, so that Markdown and HTML say the same and each escapes in one place. Texts of models,
data and logs stand here as they came; a figure that is not known is a dash."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tui_lab.core.format import UNKNOWN, carbon, count, duration, energy, finite, memory_name, money, size
from tui_lab.report import retention
from tui_lab.report.blocks import (
    Block,
    Bullets,
    Commands,
    Details,
    Document,
    Figure,
    Paragraph,
    Quote,
    Section,
    number,
    whole,
)
from tui_lab.report.charts import Table, charts
from tui_lab.report.facts import Report

#: What each state means, for whoever reads the report later.
STATES = {
    "created": "It has not been started.",
    "starting": "It was starting when this was written: what follows is what was known then.",
    "running": "It was running when this was written: what follows is what was known then.",
    "paused": "It was paused when this was written: what follows is what was known then.",
    "finished": "It ran to its end.",
    "stopped": "It was stopped before its planned end; what was learned until then was saved.",
    "failed": "It failed: what follows is what was measured until then.",
    "crashed": "It crashed: its process ended without writing an end. What follows is what was measured "
    "until then.",
}
#: Facts of the data that are told, in this order and these words; the rest follows under its own name.
DATA_NAMES = {
    "name": "data", "format": "format", "reason": "read as", "train_rows": "rows to train on",
    "validation_rows": "rows held out", "train_tokens": "tokens to train on",
    "train_trained_tokens": "of them trained (not masked)", "mean_tokens": "tokens a row, mean",
    "longest_tokens": "tokens of the longest row", "duplicates": "duplicates left out",
    "near_duplicates": "near-duplicates left out", "leaks_removed": "rows left out of validation as leaks",
    "truncated": "rows cut to the length", "rows_bad": "rows left out as damaged",
    "template_source": "chat template", "replay_rows": "general rows mixed in (replay)",
    "replay_source": "general rows from",
}  # fmt: skip


@dataclass(frozen=True)
class _Pair:
    name: str
    value: str


def document(report: Report) -> Document:
    """The whole report."""
    recipe = report.recipe
    what = f"{recipe['model']} on {recipe['data']}" if recipe else "a recipe that cannot be read"
    makers = (
        ("result", "Result", _result),
        ("curves", "Curves", _curves),
        ("retention", "Retention: what the model still knows", retention.retention),
        ("acquisition", "Acquisition: what it learned", _acquisition),
        ("samples", "Before and after", _samples),
        ("strength", "Strength sweep", retention.strength),
        ("flags", "What went wrong on the way", _flags),
        ("memory", "Memory: forecast and measured", _memory),
        ("costs", "Time, energy, money, CO₂", _costs),
        ("recipe", "Recipe", _recipe),
        ("data", "Data", _data),
        ("machine", "Versions and device", _machine),
        ("repeat", "How to repeat it", _repeat),
        ("unknown", "What is not known", _unknown),
    )
    sections = []
    for id, title, make in makers:
        blocks: list[Block] = []
        try:
            blocks.extend(make(report))  # keeps what came before an error
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            # records of another version, or damaged ones: the rest of the report still counts
            blocks.append(Paragraph("The rest of these records cannot be read by this version of the lab."))
        sections.append(Section(id, title, tuple(blocks)))
    return Document(f"Run {report.run}", what, tuple(sections))


def _when(seconds: float | None) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds)) if seconds else UNKNOWN
    except (OverflowError, ValueError, OSError):
        return UNKNOWN


def _pairs(caption: str, pairs: Sequence[_Pair]) -> Table:
    return Table(caption, ("", "value"), tuple((pair.name, pair.value) for pair in pairs))


def _change(first: Any, last: Any, digits: int = 4) -> str:
    if finite(first) is None or first == last:
        return number(last, digits)
    return f"{number(first, digits)} → {number(last, digits)}"


# --------------------------------------------------------------------------------------------------
# sections


def _result(report: Report) -> Iterator[Block]:
    yield Paragraph(f"State: {report.state}. {STATES.get(report.state, '')}")
    if report.message:
        yield Quote("what the run said", report.message)
    if report.last_words:
        yield Quote("the end of its log", "\n".join(report.last_words))
    losses, memory, spent = report.losses, report.memory, report.spent
    total = f" of {report.total_steps:,}" if report.total_steps else ""
    pairs = [
        _Pair("steps", f"{report.step:,}{total}"),
        _Pair("training loss", _change(losses["train_first"], losses["train_last"])),
        _Pair("validation loss", _change(losses["validation_first"], losses["validation_last"])),
    ]
    if losses["validation_best"] is not None and losses["validation_best"] != losses["validation_last"]:
        best = f"{number(losses['validation_best'])} at step {whole(losses['validation_best_step'])}"
        pairs.append(_Pair("best validation loss", best))
    if report.scores:
        first, last = _score(report, "start"), _score(report, "end")
        name = f"task's score ({report.scores[-1].get('name')})"
        pairs.append(_Pair(name, f"{number(first, 3)} → {number(last, 3)}"))
    pairs += [_Pair(name, value) for name, value in retention.summary(report)]
    if memory.measured is not None:
        against = f", forecast {size(memory.total)}" if memory.total is not None else ""
        pairs.append(_Pair("peak of memory", f"{size(memory.measured)}{against}"))
    pairs.append(_Pair("time", duration(spent["seconds"])))
    if spent["energy_j"] is not None:
        pairs.append(_Pair("energy", energy(spent["energy_j"])))
    if report.saved:
        pairs.append(_Pair("saved", f"{report.saved.get('what')} ({size(report.saved.get('bytes'))})"))
    pairs += [
        _Pair("attempts", str(report.attempts)),
        _Pair("began", _when(report.started_at)),
        _Pair("last word", _when(report.updated_at)),
        _Pair("this report", f"{_when(report.written_at)}, by tui-lab {report.written_by}"),
    ]
    yield _pairs("The run in figures", pairs)
    if report.course:
        rows = tuple((_when(note["t"]), note["text"]) for note in report.course)
        yield Table("What was done to the run on its way", ("when", "what"), rows)
    if report.problems:
        yield Paragraph("What could not be read of this run:")
        yield Bullets(tuple(report.problems))


def _score(report: Report, when: str) -> Any:
    found = [score for score in report.scores if score.get("when") == when]
    return found[-1]["value"] if found else math.nan


def _curves(report: Report) -> Iterator[Block]:
    found = charts(report.curves, report.threshold)
    for chart in found:
        yield Figure(chart)
    if not found:
        yield Paragraph("No step was recorded, so there is nothing to draw.")


def _acquisition(report: Report) -> Iterator[Block]:
    by_name: dict[str, dict[str, Any]] = {}
    for score in report.scores:
        for name, value in {str(score.get("name")): score.get("value"), **score}.items():
            number_of = finite(value)
            if number_of is not None and name not in ("step", "rows", "seconds", "value"):
                by_name.setdefault(name, {})[str(score.get("when"))] = number_of
    if by_name:
        rows = report.scores[-1].get("rows")
        yield Paragraph(
            f"The run itself had {whole(rows)} held-out rows answered, greedily, and judged; the score it is "
            f"known by is {report.scores[-1].get('name')}. Scores lie between 0 and 1."
        )
        table = [(name, number(of.get("start"), 3), number(of.get("end"), 3)) for name, of in by_name.items()]
        yield Table("Scores of the run", ("score", "before", "after"), tuple(table), right=(1, 2))
    metrics = report.acquisition.get("metrics")
    if isinstance(metrics, dict) and metrics:
        yield Paragraph(
            f"Measured again after the run on {whole(report.acquisition.get('rows'))} held-out rows, base "
            "and tuned model side by side; ± is the standard error."
        )
        again = [
            (str(name), *(_with_error(sides.get(side)) for side in ("base", "tuned")))
            for name, sides in metrics.items()
            if isinstance(sides, dict)
        ]
        yield Table("Scores measured after the run", ("score", "base", "tuned"), tuple(again), right=(1, 2))
    gap = finite(report.acquisition.get("overfitting_gap"))
    if gap is not None:
        way = "above" if gap >= 0 else "below"
        yield Paragraph(f"Validation loss lies {number(abs(gap))} nats a token {way} training loss.")
    if not by_name and not metrics:
        yield Paragraph("What it learned was not scored: it is not known.")


def _with_error(found: Any) -> str:
    if not isinstance(found, dict):
        return UNKNOWN
    error = finite(found.get("se"))
    return number(found.get("value"), 3) + (f" ± {number(error, 3)}" if error is not None else "")


def _samples(report: Report) -> Iterator[Block]:
    if not (report.samples or report.examples or report.answers):
        yield Paragraph("No answer of the model was recorded.")
        return
    yield Paragraph("Texts are shown as they came; what cannot be seen stands there as a sign of its own.")
    for sample in report.samples:
        yield Quote("asked", sample["prompt"])
        for side in ("before", "after"):
            if (found := sample[side]) is not None:
                yield Quote(f"answered at step {whole(found.get('step'))}", str(found.get("text", "")))
    if report.examples:
        rows = []
        for example in report.examples:
            before, after = example["before"] or {}, example["after"] or {}
            expected = before.get("expected", after.get("expected", ""))
            rows.append((example["prompt"], expected, *(_judged(side) for side in (before, after))))
        head = ("asked", "expected", "before", "after")
        yield Table("Held-out rows, as the run scored them", head, tuple(rows))
    if report.answers:
        rows = [(a["prompt"], a["expected"], a["base"], a["tuned"]) for a in report.answers]
        yield Table(
            "Held-out rows, measured after the run", ("asked", "expected", "base", "tuned"), tuple(rows)
        )


def _judged(side: Mapping[str, Any]) -> str:
    mark = {True: "✓ ", False: "✗ "}.get(side.get("ok"), "") if side else ""  # type: ignore[arg-type]
    return mark + str(side.get("answer", UNKNOWN))


def _flags(report: Report) -> Iterator[Block]:
    if report.flags:
        rows = [
            (f["severity"], f["name"].replace("_", " "), whole(f["step"]), f["sentence"], f["remedy"])
            for f in report.flags
        ]
        head = ("", "flag", "step", "what was seen", "what helps")
        yield Table("Red flags: what plain rules see in the figures", head, tuple(rows), right=(2,))
    else:
        yield Paragraph("No red flag: nothing that the figures show looks wrong.")
    if report.ladder:
        steps = [(whole(s.get("step")), s.get("text", ""), s.get("cost", "")) for s in report.ladder]
        yield Table(
            "Out of memory: what was done, step by step", ("step", "what", "what it costs"), tuple(steps)
        )
        if report.ladder_cost:
            yield Paragraph(report.ladder_cost)
    if report.warnings:
        yield Paragraph("The run warned of:")
        yield Bullets(tuple(report.warnings))


def _memory(report: Report) -> Iterator[Block]:
    memory = report.memory
    if memory.total is None:
        yield Paragraph("Against the forecast: not known, the log of this run has none.")
    else:
        bounds = f" ({size(memory.low)} to {size(memory.high)})" if memory.inside is not None else ""
        said = f"The forecast was {size(memory.total)}{bounds} on {memory.device or 'the device'}"
        if memory.measured is None or memory.difference is None:
            yield Paragraph(f"{said}; what it took was not measured.")
        else:
            way = "more" if memory.difference >= 0 else "less"
            by = f"{size(abs(memory.measured - memory.total))} ({abs(memory.difference):.1%}) {way}"
            inside = {True: "; that is within its bounds", False: "; that is outside its bounds"}
            yield Paragraph(
                f"{said}. Measured: {size(memory.measured)} ({memory_name(memory.label)}), {by}"
                f"{inside.get(memory.inside, '')}."  # type: ignore[arg-type]
            )
    if memory.parts:
        rows = [(name, size(value)) for name, value in memory.parts.items()]
        rows.append(("in all", size(memory.total)))
        yield Table("What the forecast consists of", ("part", "memory"), tuple(rows), right=(1,))
    peaks = [(memory_name(label), size(peak)) for label, peak in memory.peaks.items()]
    peaks += [(f"{name}, by all processes", size(peak)) for name, peak in memory.device_peaks.items()]
    if peaks:
        yield Table("Highest values measured", ("", "memory"), tuple(peaks), right=(1,))


def _costs(report: Report) -> Iterator[Block]:
    spent, prices = report.spent, report.prices
    pairs = [_Pair("time of processes at work", duration(spent["seconds"]))]
    speed = spent["tok_per_s"]
    pairs.append(_Pair("speed at the end", f"{speed:,.0f} tokens a second" if speed else UNKNOWN))
    joules, co2_kg, paid = spent["energy_j"], spent["co2_kg"], spent["money"]
    pairs.append(_Pair("energy", energy(joules) if joules is not None else "not known: nothing metered it"))
    grid = f"energy × {prices['g_co2_per_kwh']:g} g a kWh ({prices['grid_source']})"
    pairs.append(_Pair("CO₂", f"{carbon(co2_kg)} = {grid}" if co2_kg is not None else UNKNOWN))
    price = prices["per_hour"]
    if paid is not None and price is not None:
        hour = money(price, prices["currency"])
        pairs.append(_Pair("money", f"{money(paid, prices['currency'])} = hours × {hour} an hour"))
    else:
        pairs.append(_Pair("money", "not known: no price an hour is set"))
    pairs.append(_Pair("operations a token", _flops(spent["flops_per_token"], "FLOP")))
    pairs.append(_Pair("operations a second", _flops(spent["flops_s"], "FLOP/s")))
    peak = f" ({spent['peak_of']})" if spent["peak_of"] else ""
    pairs.append(_Pair("rate of the device", _flops(spent["peak_flops"], "FLOP/s") + peak))
    pairs.append(_Pair("MFU", f"{spent['mfu']:.1%}" if spent["mfu"] is not None else UNKNOWN))
    yield _pairs("What it took", pairs)
    if spent["formula"]:
        yield Paragraph(f"Operations a token: {spent['formula']}")
    yield Paragraph(
        "MFU = tokens a second × operations a token / rate of the device. Energy is the GPU's alone."
    )


def _flops(value: float | None, unit: str) -> str:
    found, _, scale = count(value / 1e3 if value else None).partition(" ")
    return f"{found} {({'B': 'T', 'M': 'G', 'k': 'M'}).get(scale, 'k')}{unit}" if value else UNKNOWN


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_plain(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)


def _recipe(report: Report) -> Iterator[Block]:
    recipe = report.recipe
    if not recipe:
        yield Paragraph("The recipe cannot be read.")
    else:
        facts = [_Pair(key, _plain(recipe[key])) for key in ("model", "preset", "data", "method", "seed")]
        yield _pairs("The recipe in short", facts)
    if report.choices:
        rows = [
            (str(c.get("field")), _plain(c.get("value")), str(c.get("reason", ""))) for c in report.choices
        ]
        yield Table("What the run settled by itself, and why", ("field", "value", "reason"), tuple(rows))
    if recipe:
        changed = report.changed
        said = f"Differs from the preset {report.base_preset} in: {', '.join(changed)}." if changed else (
            f"Everything is as the preset {report.base_preset} has it." if report.base_preset else ""
        )  # fmt: skip
        if said:
            yield Paragraph(said)
        rows = [(name, _plain(value), "set" if name in changed else "") for name, value in recipe.items()]
        yield Details(
            "The whole recipe",
            (Table("Every field", ("field", "value", "on top of the preset"), tuple(rows)),),
        )


def _data(report: Report) -> Iterator[Block]:
    data = report.data
    if not data:
        yield Paragraph("The run did not come to preparing its data.")
        return
    pairs = [_Pair(words, _plain(data[key])) for key, words in DATA_NAMES.items() if key in data]
    yield _pairs("What was trained on", pairs)
    rest = [_Pair(str(k).replace("_", " "), _plain(v)) for k, v in data.items() if k not in DATA_NAMES]
    if rest:
        yield Details("More about the data", (_pairs("Other facts", rest),))


def _machine(report: Report) -> Iterator[Block]:
    device, model = report.device, report.model
    if not report.versions and not device:
        yield Paragraph("The run did not come to telling them.")
    pairs = [_Pair(name, version) for name, version in report.versions.items()]
    if device:
        pairs.append(_Pair("device", f"{device.get('name')} ({device.get('type')})"))
        pairs.append(_Pair("its memory", size(device.get("memory_bytes"))))
        pairs.append(_Pair("threads", _plain(report.threads) or UNKNOWN))
    if model:
        share = f"{count(model.get('trainable'))} of {count(model.get('parameters'))} parameters"
        pairs.append(_Pair("trained", share))
    if pairs:
        yield _pairs("Versions and device", pairs)


def _repeat(report: Report) -> Iterator[Block]:
    recipe = report.recipe
    if not report.command:
        yield Paragraph("The recipe cannot be read, so no command can be given.")
        return
    yield Paragraph("The same recipe, as a command with everything that the preset does not say:")
    yield Commands(report.command)
    if report.recipe_changed:
        yield Paragraph(
            "This is the recipe of the last attempt: it was changed on the way, so that no single command "
            "goes the same course. What was changed, and when, stands in the first section."
        )
    yield Paragraph("Or from the recipe in the run's folder (RUN), whatever becomes of the preset:")
    yield Commands("tui-lab train --preset RUN/recipe.toml")
    pinned = recipe["revision"] or "none pinned"
    if recipe["model"] == "pocket":
        pinned = f"the model that ships with tui-lab {report.versions.get('tui_lab', UNKNOWN)}"
    yield _pairs(
        "What decides whether it comes out the same",
        [_Pair("seed", str(recipe["seed"])), _Pair("revision of the model", pinned)],
    )
    yield Paragraph(
        "The seed fixes split, order of rows and initialisation. On a CPU with the same versions and the "
        "same number of threads the losses are the same; on a GPU kernels may round in another order."
    )
    yield Paragraph("What was measured after the run, and this report:")
    suites = " ".join(f"--suite {shlex.quote(suite)}" for suite in report.results)
    name = shlex.quote(report.run)
    yield Commands(f"tui-lab retention --adapter {name} {suites}".rstrip() + f"\ntui-lab report {name}")


def _unknown(report: Report) -> Iterator[Block]:
    yield Bullets(tuple(report.unknown))
