"""How a recipe is divided on a GPU: the same rows a step, what fits, what is faster, what is pinned."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.forecast import cost
from tui_lab.forecast.cost import DataFacts
from tui_lab.forecast.fill_card import EQUAL_SHARE, Filled, fill
from tui_lab.forecast.memory import forecast
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.recipe import RecipeError, with_pins
from tui_lab.recipes.resolve import resolve

CARD = DeviceFacts("cuda", "NVIDIA A100-SXM4-80GB", 80 << 30, True, 8)
CPU = DeviceFacts("cpu", "cpu", 0, True, 1)
MODEL = "Qwen/Qwen2.5-0.5B"
ENTRY = catalog.find(MODEL)
SHORT = DataFacts(rows=1000, mean_tokens=300, lengths=(300,))


def filled(free_gib: float | None = 75, device: DeviceFacts = CARD, **changes: Any) -> Filled:
    recipe = make_recipe(str(changes.pop("preset", "starter")), model=MODEL, **changes)
    if not changes.get("pinned"):
        recipe = recipe.model_copy(update={"pinned": ""})  # what a preset has is no pin
    values = resolve(recipe, device, ENTRY).values
    free = None if free_gib is None else int(free_gib * 2**30)
    return fill(recipe, values, ENTRY.shape, device, free, SHORT)


def test_a_small_model_on_a_large_card() -> None:
    found = filled(gradient_accumulation_steps=16)
    assert found.recipe.effective_batch_size == 16
    assert found.recipe.per_device_train_batch_size > 1 and not found.recipe.gradient_checkpointing
    reasons = {choice.field: choice.reason for choice in found.choices}
    assert "the same 16 rows" in reasons["per_device_train_batch_size"]
    assert "75 GiB free" in reasons["gradient_checkpointing"]
    assert found.trials[0] == found.recipe and found.trials[-1].per_device_train_batch_size == 1
    assert len(found.trials) == 3


def test_without_a_gpu_nothing_changes() -> None:
    found = filled(device=CPU)
    assert not found.choices and found.trials == (found.recipe,)
    assert found.recipe.gradient_checkpointing and found.recipe.per_device_train_batch_size == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fill_card": False}, "fill_card = false"),
        ({"num_processes": 2}, "several processes"),
        ({"free_gib": None}, "free memory"),
        ({"free_gib": 0.1}, "certain to fit"),
    ],
)
def test_the_recipes_own_settings_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    found = filled(**changes)
    assert len(found.trials) == 1 and found.recipe.gradient_checkpointing
    [note] = [choice for choice in found.choices if choice.field == "fill_card"]
    assert note.value is False and reason in note.reason


@pytest.mark.parametrize("key", ["gradient_checkpointing", "per_device_train_batch_size"])
def test_pinned_keys_stay(key: str) -> None:
    before = make_recipe("starter", model=MODEL, gradient_accumulation_steps=16)
    found = filled(gradient_accumulation_steps=16, pinned=key)
    assert all(getattr(each, key) == getattr(before, key) for each in found.trials)


def test_what_is_set_by_hand_is_pinned() -> None:
    recipe = make_recipe("starter", model=MODEL, gradient_checkpointing=True, optim="sgd")
    assert recipe.pins == ("gradient_checkpointing", "optim")
    assert not make_recipe("starter", model=MODEL, learning_rate=1e-4).pins
    assert with_pins({"pinned": "optim"}, {"optim": "sgd"})["pinned"] == "optim"
    with pytest.raises(RecipeError, match="pinned names a key"):
        make_recipe("starter", pinned="learning_rate")


def test_plain_adamw_becomes_one_kernel() -> None:
    found = filled(preset="naive")
    if found.values.optim != "adamw_torch_fused":
        assert resolve(make_recipe("naive", model=MODEL), CARD, ENTRY).values.optim != "adamw_torch"
    found = filled(optim="adamw_torch")
    assert found.values.optim == found.recipe.optim == "adamw_torch_fused"
    assert filled(optim="adamw_torch", pinned="optim").values.optim == "adamw_torch"


def test_means_over_a_micro_batch_keep_its_size() -> None:
    found = filled(gradient_accumulation_steps=16, kl_weight=0.1)
    assert {each.per_device_train_batch_size for each in found.trials} == {1}


@given(
    st.sampled_from([1, 2, 3, 4, 6, 8]),
    st.sampled_from([1, 2, 4, 5, 16]),
    st.booleans(),
    st.sampled_from([1.5, 3, 6, 12, 24, 80]),
)
def test_every_choice_fits_and_none_is_faster(
    rows: int, times: int, checkpointing: bool, free: float
) -> None:
    found = filled(
        free,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=times,
        gradient_checkpointing=checkpointing,
    )
    assert all(each.effective_batch_size == rows * times for each in found.trials)
    assert ENTRY.shape is not None
    if len(found.trials) == 1:
        return

    def seconds(recipe: Any) -> float:
        assert ENTRY.shape is not None
        return cost.step_seconds(ENTRY.shape, recipe, found.values, CARD, SHORT)

    for each in found.trials:
        assert forecast(ENTRY.shape, each, found.values).high_bytes <= free * 2**30
        assert seconds(found.recipe) <= seconds(each) * (1 + EQUAL_SHARE)
