"""Remedies checked against the formula itself: each is a valid recipe, fits, and cannot do with less."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.forecast import remedies as fit
from tui_lab.forecast.flops import operations
from tui_lab.forecast.memory import MemoryForecast, forecast
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.recipe import Recipe, RecipeError, build
from tui_lab.recipes.resolve import resolve

GPU = DeviceFacts("cuda", "A GPU", 24 << 30, True, 8)
CPU = DeviceFacts("cpu", "the CPU", 16 << 30, True, 2)
MODELS = ("pocket", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B", "EleutherAI/pythia-160m", "google/gemma-3-270m")
ENTRIES = {name: catalog.find(name) for name in MODELS}
GIB = 1 << 30


def taken(recipe: Recipe, device: DeviceFacts) -> MemoryForecast:
    entry = ENTRIES[recipe.model]
    assert entry.shape is not None
    kind = "cuda" if device.type == "cuda" else "cpu"
    return forecast(entry.shape, recipe, resolve(recipe, device, entry).values, kind)


def remedies(recipe: Recipe, free_bytes: int, device: DeviceFacts = GPU) -> list[fit.Remedy]:
    entry = ENTRIES[recipe.model]
    assert entry.shape is not None
    return fit.remedies(entry.shape, recipe, device, free_bytes, entry)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Valid recipes of every method that the search knows something about."""
    values = {
        "model": draw(st.sampled_from(MODELS)),
        "method": draw(st.sampled_from(["lora", "lora", "full", "full", "prompt_tuning"])),
        "quantization": draw(st.sampled_from(["none", "nf4"])),
        "per_device_train_batch_size": draw(st.sampled_from([1, 2, 3, 4, 6, 8, 32])),
        "gradient_accumulation_steps": draw(st.sampled_from([1, 2, 5])),
        "max_length": draw(st.sampled_from([64, 200, 512, 1024, 4096])),
        "packing": draw(st.booleans()),
        "gradient_checkpointing": draw(st.booleans()),
        "optim": draw(st.sampled_from(["adamw_torch", "paged_adamw_8bit", "paged_adamw_32bit", "sgd"])),
        "lora_r": draw(st.sampled_from([8, 64])),
        "learning_rate": draw(st.sampled_from([1e-5, 2e-4])),
    }
    try:
        return build(values)
    except RecipeError:
        return build({**values, "quantization": "none", "packing": False})


@settings(max_examples=60)
@given(recipe=recipes(), share=st.floats(0.02, 1.5), device=st.sampled_from([GPU, CPU]))
def test_every_remedy_is_valid_fits_and_can_do_with_nothing_less(
    recipe: Recipe, share: float, device: DeviceFacts
) -> None:
    now = taken(recipe, device)
    free = int(now.total_bytes * share)
    found = remedies(recipe, free, device)
    if now.high_bytes <= free:
        assert found == []
    for remedy in found:
        # a recipe of its own: build() goes through the schema and every rule
        changed = build({**recipe.model_dump(), **remedy.changes})
        then = taken(changed, device)
        assert then == remedy.forecast and then.total_bytes <= free
        assert remedy.sure == (then.high_bytes <= free) and remedy.spare_bytes == free - then.total_bytes
        if "per_device_train_batch_size" in remedy.changes:
            assert changed.effective_batch_size == recipe.effective_batch_size
        for size in range(len(remedy.steps)):
            for some in itertools.combinations(remedy.steps, size):
                changes = {key: value for step in some for key, value in step.changes.items()}
                try:
                    less = taken(build({**recipe.model_dump(), **changes}), device)
                except RecipeError:  # 4 bits do without LoRA no more than full tuning does with them
                    continue
                assert (less.high_bytes if remedy.sure else less.total_bytes) > free, (some, remedy)
        assert all(step.text and step.cost for step in remedy.steps)
    for sure in (True, False):
        sets = [frozenset(step.name for step in remedy.steps) for remedy in found if remedy.sure is sure]
        assert not any(one < other for one in sets for other in sets)
    assert [remedy.sure for remedy in found] == sorted(remedy.sure for remedy in found)


@settings(max_examples=25)
@given(recipe=recipes(), share=st.floats(0.3, 6.0))
def test_the_largest_batch_and_length_fit_and_the_next_do_not(recipe: Recipe, share: float) -> None:
    entry = ENTRIES[recipe.model]
    assert entry.shape is not None
    free = int(taken(recipe, GPU).high_bytes * share)
    largest = fit.largest(entry.shape, recipe, GPU, free, entry)
    assert largest is not None

    def high(**changes: int) -> int:
        return taken(recipe.changed(**changes), GPU).high_bytes

    if largest.batch:
        assert high(per_device_train_batch_size=largest.batch) <= free
    if largest.batch < fit.MOST_BATCH:
        assert high(per_device_train_batch_size=largest.batch + 1) > free
    if largest.length:
        assert high(max_length=largest.length) <= free
    if largest.length < largest.length_limit:
        assert high(max_length=min(largest.length + 64, largest.length_limit)) > free


def test_splitting_the_batch_comes_first_and_shorter_rows_last() -> None:
    recipe = make_recipe("premium", model="Qwen/Qwen2.5-1.5B")
    found = remedies(recipe, 10 * GIB)
    assert len(found) >= 2
    first = found[0]
    assert [step.name for step in first.steps] == ["batch"] and first.cost.startswith("exact")
    assert first.changes["per_device_train_batch_size"] * first.changes["gradient_accumulation_steps"] == 8
    order = ["batch", "checkpointing", "states", "nf4", "lora", "length"]
    worst = [max(order.index(step.name) for step in remedy.steps) for remedy in found]
    assert worst == sorted(worst) and found[-1].steps[-1].name == "length"


def test_batch_is_not_cut_more_than_is_needed() -> None:
    recipe = build({"model": "Qwen/Qwen2.5-0.5B", "per_device_train_batch_size": 32, "max_length": 512})
    for remedy in remedies(recipe, 8 * GIB):
        size = remedy.changes.get("per_device_train_batch_size")
        if [step.name for step in remedy.steps] == ["batch"]:
            larger = min(n for n in (2, 4, 8, 16, 32) if n > size)
            changed = recipe.changed(
                per_device_train_batch_size=larger, gradient_accumulation_steps=4 * 32 // larger
            )
            assert taken(changed, GPU).high_bytes > 8 * GIB
            return
    pytest.fail("a smaller batch alone should be enough")


def test_checkpointing_says_what_it_costs_by_operations() -> None:
    recipe = build({"model": "Qwen/Qwen2.5-0.5B", "max_length": 4096, "optim": "sgd"})
    entry = ENTRIES[recipe.model]
    assert entry.shape is not None
    [step] = next(r.steps for r in remedies(recipe, 6 * GIB) if r.steps[0].name == "checkpointing")
    before = operations(entry.shape, recipe, 4096).hardware
    after = operations(entry.shape, recipe.changed(gradient_checkpointing=True), 4096).hardware
    assert f"{after / before - 1:.0%} more operations" in step.cost and step.cost.startswith("exact")


def test_lora_in_place_of_all_weights_gets_a_rate_of_its_own() -> None:
    recipe = make_recipe("full", model="Qwen/Qwen2.5-1.5B")
    found = remedies(recipe, 8 * GIB)
    lora = next(remedy for remedy in found if remedy.changes.get("method") == "lora")
    assert lora.changes["learning_rate"] == 2e-4 and recipe.learning_rate < 5e-5
    assert "of 1.54 B parameters" in lora.cost


def test_full_tuning_gets_lora_in_4_bits_where_nothing_less_fits() -> None:
    found = remedies(make_recipe("full", model="Qwen/Qwen2.5-1.5B"), 3 * GIB)
    assert found and all(
        {"method": "lora", "quantization": "nf4"}.items() <= each.changes.items() for each in found
    )


def test_what_changes_little_and_may_fit_is_offered_before_what_changes_much() -> None:
    """A hair's breadth too much: all that is sure is another method, and less may do."""
    recipe = make_recipe("full", model="Qwen/Qwen2.5-1.5B")
    found = remedies(recipe, taken(recipe, GPU).total_bytes - (20 << 20))
    assert not found[0].sure and found[0].changes.get("method") is None
    assert found[-1].sure and found[-1].changes["method"] == "lora"


def test_where_nothing_helps_nothing_is_promised() -> None:
    assert remedies(make_recipe("premium", model="Qwen/Qwen2.5-1.5B"), 300 << 20) == []


def test_unknown_free_memory_promises_nothing() -> None:
    entry = ENTRIES["pocket"]
    assert entry.shape is not None
    recipe = make_recipe("minute")
    assert fit.remedies(entry.shape, recipe, CPU, None, entry) == []
    assert fit.largest(entry.shape, recipe, CPU, None, entry) is None
    assert fit.verdict(taken(recipe, CPU), None) == fit.UNKNOWN


def test_what_a_shorter_length_cuts_is_counted() -> None:
    lengths = [100, 200, 300, 400]
    assert fit.cut_text(250, lengths) == "50% of the 4 sampled rows lose their end, 20% of all tokens"
    assert "none of the 4 sampled rows" in fit.cut_text(400, lengths)
    assert fit.cut_text(1000, []) == "rows over 1,000 tokens lose their end"


def test_what_cannot_run_is_refused() -> None:
    entry = ENTRIES["pocket"]
    assert entry.shape is not None
    with pytest.raises(LabError, match="float16"):
        fit.remedies(entry.shape, make_recipe("minute", compute_dtype="float16"), CPU, GIB, entry)
