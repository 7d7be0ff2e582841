"""Rules on the texts that the model writes: one answer to all prompts, repetition."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from tui_lab.runs.flag_rules.flag import Flag
from tui_lab.runs.state import RunState

#: distinct-2 (Li et al. 2016) below this share of the expected value is a loop; needs this many word pairs.
LESS_DISTINCT, FEWEST_PAIRS = 0.5, 16
MOST_CHARACTERS = 4_000  # of a text, to bound the time


def collapse(state: RunState) -> Iterator[Flag]:
    scores = [score for score in state.scores if score.when != "start" and score.examples]
    if not scores:
        return
    shown = scores[-1].examples
    prompts = {example.prompt for example in shown}
    expected = {example.expected for example in shown}
    answers = {" ".join(example.answer.split()).casefold() for example in shown}
    if len(prompts) >= 3 and len(expected) >= 3 and len(answers) == 1:
        answer = shown[0].answer[:60]
        yield Flag(
            "mode_collapse",
            "red",
            scores[-1].step,
            f"{len(prompts)} different prompts get the same answer ({answer!r}).",
            "Lower the learning rate, train for fewer epochs, and look for one answer that fills the data.",
        )


def repetition(state: RunState) -> Iterator[Flag]:
    remedy = (
        "Lower the learning rate, train for fewer epochs; look for rows that say the same again and again."
    )
    scores = [score for score in state.scores if score.when != "start" and score.examples]
    if scores:
        shown = scores[-1].examples
        now = _distinct([example.answer for example in shown])
        usual = _distinct([example.expected for example in shown])
        if now < LESS_DISTINCT * usual:
            yield Flag(
                "mode_collapse",
                "amber",
                scores[-1].step,
                f"The answers repeat themselves: {now:.0%} of their word pairs are distinct, {usual:.0%} "
                "in the expected ones.",
                remedy,
            )
    if len(state.samples) > 1:
        first, last = state.samples[0], state.samples[-1]
        now, usual = _distinct([last.text]), _distinct([first.text])
        if first.prompt == last.prompt and now < LESS_DISTINCT * usual:
            yield Flag(
                "mode_collapse",
                "amber",
                last.step,
                f"The sample repeats itself: {now:.0%} of its word pairs are distinct; it was {usual:.0%} at "
                f"step {first.step}.",
                remedy,
            )


def _distinct(texts: list[str]) -> float:
    """distinct-2: the share of distinct pairs of neighbouring words; NaN for too few pairs."""
    pairs: list[tuple[str, str]] = []
    for text in texts:
        pairs += pairwise(text[:MOST_CHARACTERS].casefold().split())
    return len(set(pairs)) / len(pairs) if len(pairs) >= FEWEST_PAIRS else math.nan
