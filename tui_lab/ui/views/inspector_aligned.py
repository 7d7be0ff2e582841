"""Two answers side by side, token by token: what the base wrote and what a tuned model wrote, aligned where
they agree, each token with its log-probability under both models. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache

from tui_lab.core.format import UNKNOWN, decimal
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.records import ScoredToken
from tui_lab.playground.messages import LaneDone
from tui_lab.ui.views.inspector_state import InspectorRow, InspectorState, bits, padded, token_text
from tui_lab.ui.views.spans import InspectorSpan, fit

Pair = tuple[int | None, int | None]
#: Answers with more tokens than this are aligned by position behind their common beginning: the time of the
#: search grows with the square.
MOST_TOKENS = 2_000
_FIGURE = 8


@lru_cache(maxsize=8)
def aligned(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[Pair, ...]:
    """The tokens of two texts in pairs; None where the other text has none. Every token is in one pair, in
    order; equal tokens that the longest common blocks hold are in one pair."""
    if max(len(left), len(right)) > MOST_TOKENS:
        return _by_position(range(len(left)), range(len(right)))
    pairs: list[Pair] = []
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    for _, first, last, other, end in matcher.get_opcodes():
        pairs += _by_position(range(first, last), range(other, end))
    return tuple(pairs)


def _by_position(left: range, right: range) -> tuple[Pair, ...]:
    longest = max(len(left), len(right))
    return tuple(
        (left[at] if at < len(left) else None, right[at] if at < len(right) else None)
        for at in range(longest)
    )


def aligned_rows(scene: InspectorState, width: int, height: int) -> list[InspectorRow]:
    """The two answers around the current token. A log-probability is in bits: −1 is p = 50 %."""
    theirs = scene.theirs
    if theirs is None:
        return [
            padded((InspectorSpan("No other lane has the same strategy on the other model.", "axis"),), width)
        ]
    swapped = scene.done.on not in ("", "base")
    left, right = (theirs, scene.done) if swapped else (scene.done, theirs)
    scores = (scene.their_scores, scene.scores_by_model)
    left_scores, right_scores = scores if swapped else scores[::-1]
    pairs = aligned(left.token_ids, right.token_ids)
    own = 1 if swapped else 0
    current = next((n for n, pair in enumerate(pairs) if pair[own] == max(0, scene.position)), 0)
    models = ((left.on or "base"), (right.on or "base"))
    rows = max(1, height - 2)
    first = max(0, min(current - rows // 2, len(pairs) - rows))
    name = max(4, (width - 5 - 4 * _FIGURE) // 2)
    out = [_titles(models, name, width), _heads(models, name, width)]
    for number in range(first, min(len(pairs), first + rows)):
        at, other = pairs[number]
        same = at is not None and other is not None and left.token_ids[at] == right.token_ids[other]
        mark = (">" if scene.marks == "ascii" else "▶") if number == current else " "
        row = [InspectorSpan(f"{mark} ", "title")]
        row += _cells(left, at, left_scores, models, name, "" if same else "base-model", number == current)
        row.append(InspectorSpan("   " if same else " × "))
        row += _cells(
            right, other, right_scores, models, name, "" if same else "tuned-model", number == current
        )
        out.append(padded(row, width))
    return out


def _titles(models: tuple[str, str], name: int, width: int) -> InspectorRow:
    block = name + 2 * _FIGURE
    left, right = (f"{sanitize(model)} wrote; log2 p under" for model in models)
    return padded(
        (InspectorSpan("  "), InspectorSpan(fit(left, block), "base-model"), InspectorSpan("   "),
         InspectorSpan(fit(right, block), "tuned-model")),
        width,
    )  # fmt: skip


def _heads(models: tuple[str, str], name: int, width: int) -> InspectorRow:
    figures = "".join(fit(sanitize(model), _FIGURE - 1).rjust(_FIGURE) for model in models)
    return padded((InspectorSpan(f"  {' ' * name}{figures}   {' ' * name}{figures}", "axis"),), width)


def _cells(
    done: LaneDone,
    at: int | None,
    scores: Mapping[str, Sequence[ScoredToken]],
    models: tuple[str, str],
    name: int,
    role: str,
    current: bool,
) -> list[InspectorSpan]:
    """A token with its log-probability under both models; blanks where the other text goes on alone."""
    if at is None:
        return [InspectorSpan(" " * (name + 2 * _FIGURE))]
    text = token_text(done.tokens[at].text, done.token_ids[at]) if at < len(done.tokens) else ""
    figures = "".join(_bits(scores.get(model, ()), at).rjust(_FIGURE) for model in models)
    return [InspectorSpan(fit(text, name), role, current), InspectorSpan(figures)]


def _bits(scores: Sequence[ScoredToken], at: int) -> str:
    if at >= len(scores):
        return UNKNOWN
    return decimal(bits(scores[at].logprob), 2)
