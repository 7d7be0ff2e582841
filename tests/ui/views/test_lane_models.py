"""Base, tuned or both for all lanes; the lane beside a lane; where two answers differ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ui.helpers import lane_done
from tui_lab.decoding.records import TokenRecord
from tui_lab.decoding.strategies import PRESETS, parse
from tui_lab.playground.messages import LaneDone
from tui_lab.ui.views.lane_models import (
    are_paired,
    characters,
    first_difference,
    models_of,
    next_models,
    on_models,
    partner,
)

SIX = PRESETS["six classics"]


def test_one_key_goes_through_base_both_and_tuned() -> None:
    lanes, seen = list(SIX), []
    for _ in range(3):
        lanes = list(on_models(lanes, next_models(lanes), "shop"))
        seen.append((models_of(lanes), len(lanes)))
    assert seen == [("both", 12), ("tuned", 6), ("base", 6)]
    assert [lane.strategy for lane in lanes] == [lane.strategy for lane in SIX]
    both = on_models(SIX, "both", "shop")
    assert [lane.on for lane in both[:4]] == ["base", "shop", "base", "shop"], "side by side"
    assert are_paired(both)
    assert not any(map(are_paired, (SIX, both[1:], both[1:-1], ())))


def test_the_lane_beside_has_the_same_strategy_and_seed() -> None:
    texts = ("greedy", "top-p seed=1 on=base", "greedy on=shop", "top-p seed=2 on=shop", "greedy on=other")
    lanes = [parse(text) for text in texts]
    assert [partner(lanes, n) for n in range(5)] == [2, None, 0, None, 0]


def answer(*texts: str) -> LaneDone:
    tokens = tuple(TokenRecord(0, n, hash(text) % 999, text, -1.0, 1, 1.0) for n, text in enumerate(texts))
    ids = tuple(token.token_id for token in tokens)
    return lane_done(0, "greedy", "".join(texts), token_ids=ids, tokens=tokens)


@pytest.mark.parametrize(
    ("ours", "theirs", "at", "place"),
    [
        (("a", "bc", "d"), ("a", "bc", "d"), None, None),
        (("a", "bc", "d"), ("a", "x"), 1, (1, 3)),
        (("a", "bc"), ("a",), 1, (1, 3)),
        (("a",), ("a", "bc"), 1, (1, 1)),
        ((), ("a",), 0, (0, 0)),
    ],
)
def test_the_first_token_that_differs(
    ours: tuple[str, ...], theirs: tuple[str, ...], at: int | None, place: tuple[int, int] | None
) -> None:
    found = first_difference(answer(*ours), answer(*theirs))
    assert found == at
    if found is not None:
        assert characters(answer(*ours), found) == place


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
def test_before_the_difference_answers_are_equal(ours: list[str], theirs: list[str]) -> None:
    at = first_difference(answer(*ours), answer(*theirs))
    assert (at is None) == (ours == theirs)
    if at is not None:
        assert ours[:at] == theirs[:at]
        assert ours[at : at + 1] != theirs[at : at + 1]
