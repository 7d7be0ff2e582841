"""The forecast of memory, time and money as text: a stacked bar against the free memory, its legend, the
verdict, and the keys that help. Each component has a letter, so that no meaning depends on colour alone.
Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from textual.content import Content

from tui_lab.core.format import size
from tui_lab.core.sanitize import sanitize
from tui_lab.forecast import estimate as wording
from tui_lab.forecast.estimate import RunEstimate
from tui_lab.forecast.memory import MemoryForecast, MemoryPart
from tui_lab.forecast.remedies import OVER, TIGHT, UNKNOWN, LargestFit, Remedy

#: Letter and colour of each component; capitals for those that are large in most recipes.
MARKS: dict[str, tuple[str, str]] = {
    "weights": ("W", "$primary"),
    "adapter": ("a", "$accent"),
    "gradients": ("g", "$warning"),
    "optimizer": ("o", "$secondary"),
    "protections": ("p", "$error"),
    "activations": ("A", "$success"),
    "logits": ("L", "$accent"),
    "kv_cache": ("K", "$warning"),
    "context": ("c", "$foreground"),
    "fragmentation": ("f", "$secondary"),
}
#: Cells between the sum and its upper bound, free cells, and the edge of the free memory.
UNSURE, FREE, EDGE = "~", "·", "┃"

#: Amount of detail: two lines; with a legend; one line per component.
Mode = Literal["brief", "legend", "full"]


@dataclass(frozen=True)
class ForecastView:
    """Everything that the bar shows. ``remedies`` and ``largest`` are None until they are computed;
    ``probing``: progress of the memory probe; ``places``: number of GPUs to choose from; ``has_headline``:
    what stops a run stands above the bar."""

    estimate: RunEstimate
    remedies: tuple[Remedy, ...] | None = None
    largest: LargestFit | None = None
    probing: str = ""
    places: int = 1
    applied: bool = False
    has_headline: bool = False
    keys: dict[str, str] = field(default_factory=dict)


def cells(parts: tuple[MemoryPart, ...], scale_bytes: float, width: int) -> list[tuple[MemoryPart, int]]:
    """Cells of each component in a bar of ``width`` cells for ``scale_bytes``. The ends are rounded, so that
    the sum is off by at most half a cell."""
    found, sum_bytes, end = [], 0, 0
    for part in parts:
        sum_bytes += part.bytes
        here = round(sum_bytes / scale_bytes * width) if scale_bytes else 0
        found.append((part, here - end))
        end = here
    return found


def bar(memory: MemoryForecast, free_bytes: int | None, width: int) -> Content:
    """``[WWWWAAAALLc~~·····]``. The full width is the free memory; when the sum is larger, an edge marks
    it."""
    inside = max(4, width - 2)
    over = free_bytes is not None and memory.total_bytes > free_bytes
    inside -= over
    scale = max(free_bytes or memory.high_bytes, memory.total_bytes)
    pieces: list[tuple[str, str]] = []
    for part, count in cells(memory.parts, scale, inside):
        letter, colour = MARKS.get(part.name, ("?", "$foreground"))
        pieces.append((letter * count, f"{colour} reverse"))
    used = sum(len(text) for text, _ in pieces)
    unsure = min(inside, round(memory.high_bytes / scale * inside)) - used
    pieces.append((UNSURE * max(0, unsure), "$text-muted"))
    pieces.append((FREE * (inside - used - max(0, unsure)), "$text-muted"))
    if over and free_bytes is not None:
        pieces = _with_edge(pieces, round(free_bytes / scale * inside))
    return Content.assemble("[", *((text, style) for text, style in pieces if text), "]")


def _with_edge(pieces: list[tuple[str, str]], at: int) -> list[tuple[str, str]]:
    made, place = [], 0
    for text, style in pieces:
        if place <= at < place + len(text):
            made += [(text[: at - place], style), (EDGE, "bold $error"), (text[at - place :], style)]
        else:
            made.append((text, style))
        place += len(text)
    return made if place > at else [*made, (EDGE, "bold $error")]


def lines(shown: ForecastView, width: int, mode: Mode) -> list[Content]:
    """The forecast as lines of text. The widget wraps long lines."""
    found = shown.estimate
    memory = found.memory
    made: list[Content] = []
    if found.budget.problem and not shown.has_headline:
        made.append(Content.assemble((f"No run can start here: {sanitize(found.budget.problem)}", "$error")))
    if memory is None:
        made.append(
            Content.assemble(("memory: ", "$text-muted"), sanitize(found.problem), *_probe_hint(shown))
        )
        made += _probe_lines(shown)
        if found.probe is not None:
            made.append(verdict(shown))
    else:
        free = found.budget.free_bytes
        says = [] if shown.has_headline and found.verdict == OVER else [verdict(shown)]
        if mode == "brief":
            of = _of(found, short=True)
            made.append(
                Content.assemble(bar(memory, free, max(8, min(width // 3, width - len(of) - 1))), " ", of)
            )
            made += [*says, *_probe_lines(shown)]
            return [*made, _cost(shown)]
        made += [bar(memory, free, width), _of(found), *says, *_probe_lines(shown)]
        made += [_row(part, memory) for part in memory.parts] if mode == "full" else [_legend(memory)]
        if shown.largest is not None and shown.largest.batch != 0:
            made.append(_largest(shown.largest))
        if shown.places > 1 and (key := shown.keys.get("gpu")):
            made.append(Content.styled(f"{key} takes another GPU of {shown.places}", "$text-muted"))
    made.append(_cost(shown))
    if mode != "brief":
        made += _hints(shown)
    return made


def _hints(shown: ForecastView) -> list[Content]:
    """The keys that measure instead of estimating."""
    if shown.probing:
        return []
    found, hints = shown.estimate, []
    if found.probe is None and found.memory is not None and (key := shown.keys.get("probe")):
        hints.append(f"{key} counts the memory exactly, in seconds")
    cost = found.cost
    if cost is not None and cost.assumed and cost.hours is not None and (key := shown.keys.get("calibrate")):
        hints.append(f"{key} measures the speed in ten steps")
    return [Content.styled("; ".join(hints), "$text-muted")] if hints else []


def _cost(shown: ForecastView) -> Content:
    """Time, energy and money; where the speed is not known, the key that measures it."""
    cost, key = shown.estimate.cost, shown.keys.get("calibrate")
    if cost is not None and cost.hours is None and key and not shown.probing:
        return Content.assemble(
            ("time ", "$text-muted"), "not measured here yet", (f" · {key} measures ten steps", "bold")
        )
    label, _, text = sanitize(wording.cost_line(shown.estimate)).partition(": ")
    return Content.assemble((f"{label} ", "$text-muted"), text)


def _of(found: RunEstimate, short: bool = False) -> Content:
    assert found.memory is not None
    total, _, interval = wording.total_text(found.memory).partition(" (")
    of = sanitize(wording.short_free_text(found.budget) if short else wording.free_text(found.budget))
    return Content.assemble((total, "bold"), (f" ({interval}", "$text-muted"), f" of {of}")


def verdict(shown: ForecastView) -> Content:
    """Whether it fits, and if not, the key that makes it fit."""
    found = shown.estimate
    text = wording.verdict_text(found)
    if found.verdict == UNKNOWN:
        return Content.styled(text, "$text-muted")
    undo = f"; {shown.keys['fit']} undoes it" if shown.applied and "fit" in shown.keys else ""
    if found.verdict not in (OVER, TIGHT):
        return Content.assemble((f"✓ {text}", "$text-success"), (undo, "$text-muted"))
    mark, colour = ("✗", "bold $text-error") if found.verdict == OVER else ("≈", "$text-warning")
    parts: list[Any] = [(f"{mark} {text}", colour)]
    if shown.applied:
        parts.append((undo, "$text-muted"))
    elif shown.remedies:
        parts += [
            (f" · {shown.keys.get('fit', '')} makes it fit", "bold"),
            (f": {shown.remedies[0].text}", "$text-muted"),
        ]
        if len(shown.remedies) > 1:
            parts.append((f" ({shown.keys.get('ways', '')}: {len(shown.remedies)} ways)", "$text-muted"))
    elif shown.remedies is not None and wording.nothing_helps(found, shown.remedies):
        parts.append(". Nothing here makes it fit: take a smaller model or a larger card")
    return Content.assemble(*parts)


def _probe_hint(shown: ForecastView) -> list[Any]:
    key = shown.keys.get("probe")
    return [] if shown.probing or shown.estimate.probe or not key else [(f" ({key})", "bold")]


def _probe_lines(shown: ForecastView) -> list[Content]:
    if shown.probing:
        return [Content.styled(f"… {sanitize(shown.probing)}", "$text-muted")]
    probe = shown.estimate.probe
    if probe is None:
        return []
    exact = f"= {size(probe.total_bytes)} counted exactly"
    return [Content.assemble((exact, "bold"), (f", in {probe.seconds:.1f} s", "$text-muted"))]


def _legend(memory: MemoryForecast) -> Content:
    parts: list[Any] = []
    for part in memory.parts:
        letter, colour = MARKS.get(part.name, ("?", "$foreground"))
        parts += [(letter, f"{colour} reverse"), f" {part.label} {size(part.bytes)}  "]
    return Content.assemble(*parts)


def _row(part: MemoryPart, memory: MemoryForecast) -> Content:
    letter, colour = MARKS.get(part.name, ("?", "$foreground"))
    share = f"{part.bytes / memory.total_bytes:.0%}" if memory.total_bytes else ""
    return Content.assemble(
        (letter, f"{colour} reverse"), f" {part.label:<20} {size(part.bytes):>9} {share:>5}"
    )


def _largest(largest: LargestFit) -> Content:
    length = f"; or max length {largest.length:,}" if largest.length else ""
    return Content.assemble(("Largest safe batch ", "$text-muted"), f"{largest.batch:,}{length}")
