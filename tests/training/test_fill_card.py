"""Two measured steps of each division: the fastest that fits is used, and nothing of them stays."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.training.conftest import ALL, losses, recipe_for, rows
from tui_lab.data.store import TokenRows
from tui_lab.forecast import memory
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.runs.schema import ChoiceEvent, PhaseEvent
from tui_lab.training import attempt_fill, fill_card
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


# --------------------------------------------------------------------------------------------------
# from the recipe to the division that training uses, with the figures of a card

CARD = DeviceFacts("cuda", "Tesla T4", 15 << 30, False, 2)
SHAPE = catalog.find("Qwen/Qwen2.5-0.5B").shape


class Attempt:
    """A run whose forecasts are of a real model on a card with ``free_bytes``, and whose steps are of the
    tiny model. A step takes memory as forecast, plus what another process has taken since the plan."""

    def __init__(self, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
        self.events: list[Any] = []
        self.free_bytes, self.taken_bytes = free_bytes, 0
        self.peak_bytes = 0
        self.values = ResolvedValues(
            compute_dtype="float16", optim=recipe.optim, max_length=recipe.max_length, target_modules=ALL
        )
        self.context: Any = SimpleNamespace(
            recipe=recipe,
            before=SimpleNamespace(choices=[]),
            events=SimpleNamespace(write=self.events.append),
        )
        self.resolved: Any = SimpleNamespace(
            values=self.values, device=CARD, entry=SimpleNamespace(shape=SHAPE)
        )
        train, held_out = TokenRows.of(rows(64)), TokenRows.of(rows(16, seed=1))
        self.prepared: Any = SimpleNamespace(
            train=train, validation=held_out, summary=SimpleNamespace(train_rows=64)
        )
        monkeypatch.setattr(attempt_fill, "free_bytes", lambda _: free_bytes)

    def train_with(self, make: Callable[..., LabTrainer], monkeypatch: pytest.MonkeyPatch) -> LabTrainer:
        filled = attempt_fill.plan(self.context, self.resolved, self.prepared)
        trainer = make(filled.recipe)
        step = trainer.training_step

        def on_card(model: Any, inputs: Any, tokens: Any = None) -> Any:
            shape = inputs["input_ids"].shape
            took = filled.recipe.model_copy(
                update={
                    "per_device_train_batch_size": shape[0],
                    "gradient_checkpointing": model.is_activation_checkpointing,
                }
            )
            real = attempt_fill.with_real_length(self.values, False, self.prepared)
            assert SHAPE is not None
            self.peak_bytes = memory.forecast(SHAPE, took, real, "cuda").total_bytes
            if self.peak_bytes + self.taken_bytes > self.free_bytes:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return step(model, inputs, tokens)

        with monkeypatch.context() as patch:
            patch.setattr(trainer, "training_step", on_card)
            ticks = iter(range(10_000))
            clock = Meter(lambda: None, lambda: None, lambda: self.peak_bytes, lambda: float(next(ticks)))
            attempt_fill.measure(self.context, self.resolved, filled, trainer, clock)
        return trainer

    def reasons(self) -> dict[str, str]:
        return {each.field: each.reason for each in self.events if isinstance(each, ChoiceEvent)}


def used(trainer: LabTrainer) -> tuple[int, int, bool]:
    arguments = trainer.args
    return (
        arguments.train_batch_size, arguments.gradient_accumulation_steps, arguments.activation_checkpointing
    )  # fmt: skip


WIDE = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 16, "gradient_checkpointing": True}


def test_a_run_fills_its_card_and_trains(
    make_trainer: Callable[..., LabTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempt(recipe_for(**WIDE, max_steps=2), monkeypatch, 14 << 30)
    trainer = attempt.train_with(make_trainer, monkeypatch)
    # every second step takes one tick of the clock: the most tokens at once are the fastest
    assert used(trainer) == (16, 1, False)
    reasons = attempt.reasons()
    assert "the same 16 rows" in reasons["per_device_train_batch_size"]
    assert "14.3 GiB free" in reasons["gradient_checkpointing"]  # the context is counted once
    assert reasons["fill_card"].startswith("two measured steps each: 16 × 1: ")
    assert any(isinstance(each, PhaseEvent) for each in attempt.events)
    trainer.train()
    assert trainer.state.global_step == 2
    assert len(trainer.train_dataset) == 64 and trainer.state.num_train_epochs == 1


def test_memory_that_another_process_takes_after_the_plan_is_noticed(
    make_trainer: Callable[..., LabTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempt(recipe_for(**WIDE), monkeypatch, 14 << 30)
    attempt.taken_bytes = (14 << 30) - int(
        1.7 * 2**30
    )  # between the forecasts with and without checkpointing
    trainer = attempt.train_with(make_trainer, monkeypatch)
    reason = attempt.reasons()["fill_card"]
    assert "16 × 1: out of memory; 16 × 1 with checkpointing: " in reason
    assert used(trainer) == (16, 1, True)


def test_pinned_values_stay_and_a_small_card_changes_little(
    make_trainer: Callable[..., LabTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = Attempt(recipe_for(**WIDE, pinned="per_device_train_batch_size"), monkeypatch, 14 << 30)
    assert used(pinned.train_with(make_trainer, monkeypatch))[:2] == (1, 16)
    small = Attempt(recipe_for(**WIDE), monkeypatch, 1 << 28)
    assert used(small.train_with(make_trainer, monkeypatch)) == (1, 16, True)
    assert "certain to fit" in small.reasons()["fill_card"]
