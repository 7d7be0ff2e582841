"""Two measured steps of each division: the fastest that fits is used, and nothing of them stays."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.training.conftest import losses, recipe_for
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.schema import ChoiceEvent
from tui_lab.training import fill_card
from tui_lab.training.fill_card import Meter, Trial, choose
from tui_lab.training.trainer import LabTrainer

OWN = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_steps": 3}


def divided(recipe: Recipe, rows: int, checkpointing: bool = False) -> Recipe:
    times = recipe.effective_batch_size // rows
    return recipe.model_copy(
        update={
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": times,
            "gradient_checkpointing": checkpointing,
        }
    )


def meter(seconds: list[float]) -> Meter:
    """A clock by which the timed steps take so many seconds, one after the other."""
    readings = iter([reading for each in seconds for reading in (0.0, each)])
    return Meter(lambda: None, lambda: None, lambda: 3 << 30, lambda: next(readings))


def test_the_fastest_is_used_and_nothing_else_changes(make_trainer: Callable[..., LabTrainer]) -> None:
    recipe = recipe_for(**OWN, lora_dropout=0.1)
    plain = make_trainer(recipe, folder="plain")
    trainer = make_trainer(recipe)
    events: list[ChoiceEvent] = []
    state, drawn = torch.get_rng_state(), random.getstate()
    trials = [divided(recipe, 8), divided(recipe, 4, True), recipe]
    # by tokens a second: 8 rows in 9 s, 4 rows in 1 s, 2 rows in 1 s
    chosen = fill_card.fill(trainer, trials, meter([9.0, 1.0, 1.0]), 1e6, events.append)
    assert chosen == trials[1]
    assert torch.equal(torch.get_rng_state(), state) and random.getstate() == drawn
    assert not trainer.train_metrics and trainer.total_train_tokens == 0
    assert all(weight.grad is None for weight in trainer.model.parameters())
    [event] = events
    assert event.field == "fill_card" and event.value == fill_card.division(chosen)
    assert event.reason.count("tok/s") == 3 and "4 × 2 with checkpointing" in event.reason
    assert trainer.ladder.record(trainer.ladder.state).micro_batch == 4
    trainer.train()
    plain.train()
    # the same rows a step in the same order; dropout draws for other micro-batches
    assert losses(trainer) == pytest.approx(losses(plain), rel=0.05)
    assert trainer.state.max_steps == 3 and trainer.args.train_batch_size == 4


def test_what_does_not_fit_is_not_used(
    make_trainer: Callable[..., LabTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(**OWN)
    trainer = make_trainer(recipe)
    step = trainer.training_step

    def limited(model: Any, inputs: Any, tokens: Any = None) -> Any:
        if len(inputs["input_ids"]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(model, inputs, tokens)

    monkeypatch.setattr(trainer, "training_step", limited)
    events: list[ChoiceEvent] = []
    trials = [divided(recipe, 8), divided(recipe, 4), recipe]
    assert fill_card.fill(trainer, trials, meter([1.0, 1.0]), 0, events.append) == trials[1]
    assert "8 × 1: out of memory" in events[0].reason
    monkeypatch.setattr(trainer, "training_step", lambda *_: limited(None, {"input_ids": [0] * 9}))
    assert fill_card.fill(trainer, trials, meter([]), 0, events.append) == recipe


def test_the_forecasts_choice_stays_where_others_are_as_fast() -> None:
    recipe = recipe_for(**OWN)
    first, second = Trial(recipe, 100.0, 1), Trial(divided(recipe, 8), 102.0, 1)
    assert choose([first, second]) is first
    assert choose([first, Trial(recipe, 110.0, 1)]) is not first
    assert choose([Trial(recipe, math.nan, 1), second]) is second
    assert choose([Trial(recipe, math.nan, 1)]) is None


def test_packed_rows_are_measured(make_trainer: Callable[..., LabTrainer]) -> None:
    recipe = recipe_for(**OWN, packing=True)
    trainer = make_trainer(recipe, packed_attention="varlen")
    [trial] = fill_card.measure(trainer, [divided(recipe, 4)], meter([1.0]), 0)
    longest = sorted((len(row) for row in trainer.train_dataset["input_ids"]), reverse=True)
    assert trial.fits and 4 < trial.tok_per_s <= sum(longest[:4])


def test_a_resume_is_divided_as_before() -> None:
    recipe = recipe_for(**OWN)
    wanted = divided(recipe, 8, True)
    event = ChoiceEvent(field="fill_card", value=fill_card.division(wanted), reason="")
    assert fill_card.earlier_division([event], recipe) == wanted
    assert fill_card.earlier_division([], recipe) is None
    other = recipe.model_copy(update={"gradient_accumulation_steps": 5})
    assert fill_card.earlier_division([event], other) is None
    damaged = ChoiceEvent(field="fill_card", value={"per_device_train_batch_size": "8"}, reason="")
    assert fill_card.earlier_division([damaged], recipe) is None
