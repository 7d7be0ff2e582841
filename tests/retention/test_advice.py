"""What to try next: the order, and that nothing is advised that was done already."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tui_lab.retention.advice import AdviceInput, advise

LEARN_MORE = "Double the rank, train longer, or raise the learning rate (to 5e-4)"
RED = AdviceInput(verdict="red", method="full", learning_rate=2e-3, gained=0.8)


def actions(run: AdviceInput) -> list[str]:
    return [each.action for each in advise(run)]


def test_a_red_run_is_given_the_cheapest_remedy_first() -> None:
    assert actions(RED) == [
        "Measure the strength curve",
        "Train again with replay_fraction 0.1 (or the preset keeper)",
        "Halve the learning rate, to 1.0e-3",
        "Train an adapter instead",
        "Add KL to the base, kl_weight 0.1",
    ]


def test_measures_already_taken_are_not_advised() -> None:
    done = replace(RED, strength_tried=True, strength=0.6, replay_fraction=0.25, kl_weight=0.2, method="lora")
    assert actions(done) == ["Save strength 0.6", "Halve the learning rate, to 1.0e-3"]
    assert "Raise replay_fraction to 0.25" in actions(replace(RED, replay_fraction=0.1))
    assert not any("trength" in each for each in actions(replace(RED, strength_refused="DoRA")))
    none_keeps = replace(RED, strength_tried=True, strength=None)
    assert not any("trength" in each for each in actions(none_keeps))


def test_an_undecided_run_needs_more_items_when_no_cheaper_advice_applies() -> None:
    assert actions(AdviceInput(verdict="amber"))[-1] == "Measure more items, or also another suite"


def test_memorising_and_the_worst_category_appear_in_the_advice() -> None:
    found = advise(replace(RED, losses=(0.5, 0.7), worst_category="animals", worst_lost=12))
    assert any("0.5 on training rows, 0.7 on validation rows" in each.reason for each in found)
    assert "Train for fewer steps" not in actions(replace(RED, losses=(0.5, 0.54)))
    assert found[-1].action == "Replay rows about animals"
    assert "12 items" in found[-1].reason


@pytest.mark.parametrize(
    ("run", "first"),
    [
        (AdviceInput(), "Measure retention"),
        (AdviceInput(verdict="cannot_tell"), "Use a suite that the base model can solve"),
        (AdviceInput(verdict="green", gained=0.7), "Export this run"),
        (AdviceInput(verdict="green"), "Export this run"),
        (AdviceInput(verdict="green", gained=0.01), LEARN_MORE),
        (AdviceInput(verdict="amber"), "Measure the strength curve"),
    ],
)
def test_the_first_advice(run: AdviceInput, first: str) -> None:
    assert actions(run)[0] == first
    assert all(each.reason for each in advise(run))
