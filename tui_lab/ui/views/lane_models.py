"""Which models the lanes run on: on the base, on what was tuned, or on both; and which two lanes differ in
nothing else. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from tui_lab.decoding.strategies import Lane
from tui_lab.playground.messages import LaneDone

BASE = "base"
Models = Literal["base", "both", "tuned"]
_NEXT: dict[Models, Models] = {"base": "both", "both": "tuned", "tuned": "base"}


def is_base(lane: Lane) -> bool:
    """Whether a lane runs on the base."""
    return lane.on in ("", BASE)


def models_of(lanes: Sequence[Lane]) -> Models:
    """What the lanes run on."""
    kinds = {is_base(lane) for lane in lanes}
    return "both" if len(kinds) > 1 else "tuned" if kinds == {False} else "base"


def next_models(lanes: Sequence[Lane]) -> Models:
    """What they run on after the next press of the key."""
    return _NEXT[models_of(lanes)]


def on_models(lanes: Sequence[Lane], models: Models, tuned: str) -> tuple[Lane, ...]:
    """The strategies of the lanes, each once, on the base, on ``tuned``, or on both side by side."""
    names = {"base": (BASE,), "tuned": (tuned,), "both": (BASE, tuned)}[models]
    strategies = dict.fromkeys(replace(lane, on="") for lane in lanes)
    return tuple(replace(lane, on=name) for lane in strategies for name in names)


def partner(lanes: Sequence[Lane], number: int) -> int | None:
    """The lane with the same strategy and seed on another model: for a tuned lane that on the base, for a
    base lane the first tuned one; None if there is none."""
    lane = lanes[number]
    same = [
        each
        for each, other in enumerate(lanes)
        if each != number
        and replace(other, on="") == replace(lane, on="")
        and is_base(other) != is_base(lane)
    ]
    return same[0] if same else None


def are_paired(lanes: Sequence[Lane]) -> bool:
    """Whether lanes of one strategy on base and tuned model take turns."""
    if len(lanes) % 2 or not lanes:
        return False
    return all(is_base(lanes[n]) and partner(lanes, n) == n + 1 for n in range(0, len(lanes), 2))


def first_difference(ours: LaneDone, theirs: LaneDone) -> int | None:
    """The first token in which two answers differ, counted from 0; None for equal ones. Where one is the
    beginning of the other, it is the first token that the shorter one lacks."""
    pairs = zip(ours.token_ids, theirs.token_ids, strict=False)
    for position, (mine, other) in enumerate(pairs):
        if mine != other:
            return position
    shorter = min(len(ours.token_ids), len(theirs.token_ids))
    return shorter if len(ours.token_ids) != len(theirs.token_ids) else None


def characters(done: LaneDone, position: int) -> tuple[int, int]:
    """The place of a token in the text of an answer: its first character, and that after its last."""
    start = len("".join(token.text for token in done.tokens[:position]))
    length = len(done.tokens[position].text) if position < len(done.tokens) else 0
    return start, start + length
