"""The panels of the token inspector: probabilities before and after warping, candidates of contrastive
search, hypotheses of beam search, models side by side. Each is a pure function of the inspector's state
and a size in cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from rich.cells import cell_len

from tui_lab.core.format import UNKNOWN, bar, decimal, percent
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.records import Alternative, Candidate, Hypothesis, TokenRecord
from tui_lab.decoding.strategies import Greedy, Sample, Strategy
from tui_lab.ui.views.inspector_aligned import aligned_rows
from tui_lab.ui.views.inspector_state import (
    InspectorRow,
    InspectorState,
    PanelName,
    bits,
    padded,
    scale_for,
    surprise_bits,
    token_text,
)
from tui_lab.ui.views.spans import InspectorSpan, fit

#: Relative changes of a probability below this are shown as none.
_CHANGE = 0.02


@dataclass(frozen=True)
class BarColumn:
    """A column of bars in a table of tokens. ``figure`` formats the value next to the bar."""

    title: str
    values: tuple[float | None, ...]  # None where unknown
    role: str
    figure: Callable[[float], str] = percent


def table(
    names: Sequence[str],
    chosen: Sequence[bool],
    columns: Sequence[BarColumn],
    notes: Sequence[tuple[str, str]],
    width: int,
    marks: str,
    limit: float | None = None,
) -> list[InspectorRow]:
    """One row per token: its name, a bar with a number for each column, and a note given as (text, role). A
    full bar is ``limit``, by default the smallest scale that holds all values."""
    name_width = min(18, max(8, width // 5))
    figure = 7
    note_width = min(
        max((cell_len(text) for text, _ in notes), default=0), max(0, width - name_width - 3) // 3
    )
    room = width - 2 - name_width - 1 - (note_width + 1 if note_width else 0)
    bar_width = max(2, room // max(1, len(columns)) - figure - 1)
    known = [value for column in columns for value in column.values if value is not None]
    scale = limit or scale_for(known)
    head = [InspectorSpan(fit(f"  bar {scale:.0%}", 3 + name_width), "axis")]  # the scale
    for column in columns:
        head.append(InspectorSpan(fit(column.title, bar_width + figure) + " ", "axis"))
    rows = [padded(head, width)]
    for at, name in enumerate(names):
        row = [InspectorSpan(_mark(chosen[at], marks), "title"), InspectorSpan(fit(name, name_width) + " ")]
        if chosen[at]:
            row[1] = row[1]._replace(role="title", highlighted=True)
        for column in columns:
            value = column.values[at]
            share, shown = (0.0, UNKNOWN) if value is None else (value / scale, column.figure(value))
            row.append(InspectorSpan(bar(share, bar_width, ascii_only=marks == "ascii"), column.role))
            row.append(InspectorSpan(shown.rjust(figure) + " "))
        if note_width:
            text, role = notes[at]
            row.append(InspectorSpan(fit(text, note_width), role))
        rows.append(padded(row, width))
    return rows


def _mark(chosen: bool, marks: str) -> str:
    return ("> " if marks == "ascii" else "▶ ") if chosen else "  "


def warping_rows(scene: InspectorState, width: int, height: int) -> list[InspectorRow]:
    """The most probable tokens, with their probabilities before and after warping and the cause of the
    change."""
    token = scene.tokens[scene.position]
    if not token.alternatives:
        return _sentence("The lane was decoded without details, so there are no alternatives.", width)
    shown = _most_probable(token, height - 2)
    strategy = scene.strategy
    before_ids = {*scene.done.prompt_token_ids, *scene.done.token_ids[: scene.position]}
    notes = [what_happened(a, strategy, a.token_id in before_ids) for a in shown]
    columns = (
        BarColumn("model", tuple(math.exp(a.logprob) for a in shown), "base-model"),
        BarColumn("after warping", tuple(a.warped_probability for a in shown), "tuned-model"),
    )
    names = [token_text(a.text, a.token_id) for a in shown]
    chosen = [a.token_id == token.token_id for a in shown]
    rows = table(names, chosen, columns, notes, width, scene.marks)
    return [_line(warping_sentence(token.alternatives, strategy), width), *rows]


def _most_probable(token: TokenRecord, count: int) -> list[Alternative]:
    """The ``count`` most probable alternatives; the decoded token is always among them."""
    ordered = sorted(token.alternatives, key=lambda a: (-a.logprob, a.token_id))
    shown = ordered[: max(1, count)]
    own = next((a for a in ordered if a.token_id == token.token_id), None)
    if own is not None and own not in shown:
        shown[-1] = own
    return shown


def what_happened(a: Alternative, strategy: Strategy | None, stood_before: bool) -> tuple[str, str]:
    """(text, role): what the strategy did to the probability of one alternative. ``stood_before``: the token
    occurs earlier in prompt or answer, so that a repetition penalty applies."""
    before, after = math.exp(a.logprob), a.warped_probability
    if a.cut_by:
        return f"✂ {a.cut_by.replace('_', '-')}", "forgotten"
    is_argmax = isinstance(strategy, Greedy) or (isinstance(strategy, Sample) and strategy.temperature == 0)
    if is_argmax:
        how = "greedy" if isinstance(strategy, Greedy) else "temperature 0"
        return (f"✓ {how}", "retained") if after > 0 else (f"✂ {how}", "forgotten")
    penalty = getattr(strategy, "repetition_penalty", 1.0) != 1.0 and stood_before
    causes = []
    if isinstance(strategy, Sample):
        if penalty:
            causes.append("repetition")
        if strategy.temperature != 1:
            causes.append("temperature")
        if not causes and (strategy.top_k or strategy.top_p < 1 or strategy.min_p):
            causes.append("from cuts")
    if before <= 0 or abs(after - before) <= _CHANGE * before:
        return "=", "axis"
    factor = after / before
    shown = f"{factor:.0f}" if factor >= 10 else f"{factor:.2f}" if factor >= 0.01 else "<.01"
    return f"{'↑' if after > before else '↓'} ×{shown} {causes[0] if causes else ''}".rstrip(), "undecided"


def warping_sentence(alternatives: Sequence[Alternative], strategy: Strategy | None) -> str:
    """What the strategy did at this position, in one line."""
    if isinstance(strategy, Greedy):
        penalty = f" after repetition penalty {strategy.repetition_penalty:g}"
        return f"greedy takes the most probable token{penalty if strategy.repetition_penalty != 1 else ''}"
    parts = []
    if isinstance(strategy, Sample):
        if strategy.repetition_penalty != 1:
            parts.append(f"repetition penalty {strategy.repetition_penalty:g}")
        if strategy.temperature != 1:
            verb = "sharpens" if strategy.temperature < 1 else "flattens"
            verb = verb if strategy.temperature else "leaves one"
            parts.append(f"temperature {strategy.temperature:g} {verb}")
        settings = (
            ("top_k", strategy.top_k, strategy.top_k > 0),
            ("top_p", strategy.top_p, strategy.top_p < 1),
            ("min_p", strategy.min_p, strategy.min_p > 0),
        )
        for name, value, on in settings:
            if on:
                cut = sum(a.cut_by == name for a in alternatives)
                parts.append(
                    f"{name.replace('_', '-')} {value:g} cuts {cut or 'none'} of these {len(alternatives)}"
                )
    return "; ".join(parts) or "nothing is warped: the model's own probabilities"


def candidate_rows(scene: InspectorState, width: int, height: int) -> list[InspectorRow]:
    """The candidates of contrastive search: model confidence, degeneration penalty, score (Su et al.
    2022)."""
    token = scene.tokens[scene.position]
    if not token.candidates:
        return _sentence("There are no candidates at this position.", width)
    found: Sequence[Candidate] = token.candidates[: max(1, height - 2)]
    alpha = getattr(scene.strategy, "penalty_alpha", None)
    factors = ("(1 − α)", "α") if alpha is None else (f"{1 - alpha:.2g}", f"{alpha:.2g}")
    formula = f"score = {factors[0]} · confidence − {factors[1]} · penalty; the highest is taken"
    best = max(c.score for c in found)
    notes = [
        (f"{c.score:+.3f}" + (" best" if c.score == best else ""), "retained" if c.score == best else "axis")
        for c in found
    ]
    penalties = tuple(c.degeneration_penalty for c in found)
    columns = (
        BarColumn("confidence", tuple(c.confidence for c in found), "base-model"),
        BarColumn("degeneration", penalties, "forgotten", decimal),
    )
    names = [token_text(c.text, c.token_id) for c in found]
    chosen = [c.token_id == token.token_id for c in found]
    rows = table(names, chosen, columns, notes, width, scene.marks, limit=1.0)
    return [_line(formula, width), *rows]


def beam_rows(scene: InspectorState, width: int, height: int) -> list[InspectorRow]:
    """The hypotheses after the step of the current token. A score is the sum of natural log-probabilities."""
    step = scene.beams.get(scene.position + 1)
    if step is None or not step.hypotheses:
        return _sentence("There are no hypotheses at this step.", width)
    found: Sequence[Hypothesis] = step.hypotheses[: max(1, height - 1)]
    live = [h.score for h in step.hypotheses if not h.finished]
    best = max(live, default=0.0)
    figure, bar_width = 9, max(4, min(14, width // 6))
    text_width = max(4, width - 2 - figure - 1 - bar_width - 1 - 9)
    total = sum(not h.finished for h in step.hypotheses)
    sentence = f"step {step.step}: {total} live, {len(step.hypotheses) - total} finished; score: sum of ln p"
    rows = [_line(sentence, width)]
    for h in found:
        on_path = tuple(scene.done.token_ids[: len(h.token_ids)]) == tuple(h.token_ids)
        share = math.exp(max(-700.0, h.score - best)) if not h.finished else 0.0
        kind = "finished " if h.finished else "live     "
        row = (
            InspectorSpan(_mark(on_path, scene.marks), "title"),
            InspectorSpan(f"{h.score:{figure}.3f} "),
            InspectorSpan(bar(share, bar_width, ascii_only=scene.marks == "ascii") + " ", "strategy-beam"),
            InspectorSpan(kind, "retained" if h.finished else "axis"),
            InspectorSpan(_tail(token_text(h.text), text_width), "title" if on_path else "", on_path),
        )
        rows.append(padded(row, width))
    return rows


def _tail(text: str, width: int) -> str:
    """The end of a text in at most ``width`` cells: hypotheses differ there."""
    if cell_len(text) <= width:
        return text
    out = ""
    used = 1
    for char in reversed(text[-width:]):
        size = cell_len(char)
        if used + size > width:
            break
        out, used = char + out, used + size
    return "…" + out


def model_rows(scene: InspectorState, width: int, height: int) -> list[InspectorRow]:
    """The current token and the most probable ones, with their probability under each model."""
    if scene.note or not scene.scores_by_model:
        return _sentence(scene.note or "No model has scored these tokens yet.", width)
    at = scene.position
    token = scene.tokens[at]
    models = {name: scores[at] for name, scores in scene.scores_by_model.items() if at < len(scores)}
    if not models:
        return _sentence("No model has scored this token.", width)
    tops = {
        name: {token_id: (text, logprob) for token_id, text, logprob in j.top} for name, j in models.items()
    }
    ids = {token.token_id: None, **{each: None for top in tops.values() for each in top}}
    texts = {each: text for top in tops.values() for each, (text, _) in top.items()}
    texts.setdefault(token.token_id, token.text)

    def value(name: str, each: int) -> float | None:
        if each == token.token_id:
            return math.exp(models[name].logprob)
        return math.exp(tops[name][each][1]) if each in tops[name] else None

    ordered = sorted(ids, key=lambda each: -max(value(name, each) or 0.0 for name in models))
    summary = "   ".join(
        f"{sanitize(name)}: rank {j.rank:,}, {surprise_bits(j.logprob):.2f} bits, "
        f"entropy {bits(j.entropy):.2f}"
        for name, j in models.items()
    )
    count = max(1, height - 2)
    shown = ordered[:count]
    if token.token_id not in shown:
        shown[-1] = token.token_id
    roles = ("base-model", "tuned-model", "smoothed", "validation")
    columns = [
        BarColumn(sanitize(name), tuple(value(name, each) for each in shown), roles[n % len(roles)])
        for n, name in enumerate(models)
    ]
    notes = [("", "")] * len(shown)
    if len(models) == 2:
        first, second = models
        notes = [_change(value(first, each), value(second, each)) for each in shown]
    labels = [token_text(texts.get(each, ""), each) for each in shown]
    rows = table(labels, [each == token.token_id for each in shown], columns, notes, width, scene.marks)
    return [_line(summary, width), *rows]


def _change(first: float | None, second: float | None) -> tuple[str, str]:
    if first is None or second is None:
        return "", ""
    points = (second - first) * 100
    if abs(points) < 0.05:
        return "=", "axis"
    return f"{points:+.1f} pt", "retained" if points > 0 else "forgotten"


def _line(text: str, width: int) -> InspectorRow:
    return padded((InspectorSpan(text, "axis"),), width)


def _sentence(text: str, width: int) -> list[InspectorRow]:
    return [_line(line, width) for line in wrap(sanitize(text), max(8, width))] or [()]


PANELS: dict[PanelName, Callable[[InspectorState, int, int], list[InspectorRow]]] = {
    "warping": warping_rows,
    "candidates": candidate_rows,
    "beams": beam_rows,
    "models": model_rows,
    "aligned": aligned_rows,
}
