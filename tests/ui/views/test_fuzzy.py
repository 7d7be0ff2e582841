"""What a filter finds, and in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui_lab.ui.views.fuzzy import best, score

NAMES = [
    "Qwen/Qwen2.5-0.5B",
    "HuggingFaceTB/SmolLM2-135M",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "google/gemma-2b",
]


def found(query: str) -> list[str]:
    return best(query, NAMES, lambda name: (name, ""))


def test_the_shortest_name_with_the_word_comes_first() -> None:
    assert found("smol") == NAMES[1:3]
    assert found("135 inst") == [NAMES[2]]
    assert found("GEMMA") == [NAMES[3]]


def test_letters_in_their_order_match_and_spread_ones_do_not() -> None:
    assert found("qw05") == [NAMES[0]]
    assert found("smlm2135") == NAMES[1:3]
    assert found("en2") == [NAMES[0]]  # in no other name as it is
    assert found("zzz") == [] and found("htgn") == []


def test_the_beginning_counts_more_than_the_middle_and_the_name_more_than_the_rest() -> None:
    assert score("gem", "gemma") > score("gem", "xgemma") > score("gem", "x", "gem")


@given(st.text(max_size=20), st.text(max_size=60))
def test_any_text_has_a_score_and_what_is_contained_matches(query: str, name: str) -> None:
    assert score(query, name) >= 0
    assert score(name, name) > 0


def test_no_query_keeps_the_order() -> None:
    assert found("  ") == NAMES
