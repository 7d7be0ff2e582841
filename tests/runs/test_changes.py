"""What a change of the recipe means to a run that goes on, for every field."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import FIELDS, Recipe, build
from tui_lab.runs import changes, folder


def test_every_recipe_field_has_one_effect() -> None:
    named = [*changes.HARMLESS, *changes.COURSE, *changes._DATA]
    assert len(named) == len(set(named)) and set(named) <= set(FIELDS)
    # what is left would not fit the checkpoint: shapes, states of the optimiser, which weights are trained
    assert set(FIELDS) - set(named) == {
        "model", "revision", "quantization", "double_quantization", "unquantized_budget",
        "method", "lora_r", "lora_alpha",
        "target_modules", "use_rslora", "use_dora", "init_lora_weights", "target_r", "init_r",
        "num_virtual_tokens", "optim", "uncertainty_weighting", "frozen_layers", "gradual_unfreezing",
        "layer_lr_decay", "from_run", "frozen_rank", "effective_rank",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "weight"),
    [
        ({"logging_steps": 5}, "harmless"),
        ({"report_to": "tensorboard"}, "harmless"),
        ({"learning_rate": 1e-3}, "course"),
        ({"max_steps": 50}, "course"),
        ({"per_device_train_batch_size": 2}, "course"),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}, "harmless"),
        ({"num_processes": 4, "gradient_accumulation_steps": 1}, "harmless"),
        ({"max_length": 64}, "course"),
        ({"lora_r": 32}, "refused"),
        ({"method": "full"}, "refused"),
        ({"model": "other"}, "refused"),
        ({"seed": 1}, "refused"),
        ({"validation_fraction": 0.2}, "refused"),
    ],
)
def test_the_effect_of_a_changed_field(values: dict[str, object], weight: str) -> None:
    before = Recipe()
    found = changes.compare(before, before.changed(**values))
    assert [change.field for change in found] == [key for key in FIELDS if key in values]
    assert {change.weight for change in found} == {weight}
    for change in found:
        assert (
            change.before != change.after
            and change.text
            and changes.describe(change).startswith(change.field)
        )
    if weight == "refused":
        with pytest.raises(LabError, match="new run"):
            changes.refuse(found)
    else:
        changes.refuse(found)


def test_packed_rows_cannot_change_their_length() -> None:
    before = build({"packing": True})
    [change] = changes.compare(before, before.changed(max_length=64))
    assert change.weight == "refused"


def test_equal_recipes_have_no_changes() -> None:
    assert changes.compare(Recipe(), Recipe()) == []


def test_each_attempt_saves_its_recipe_and_missing_ones_are_skipped(tmp_path: Path) -> None:
    run = folder.create(Recipe(), tmp_path)
    assert changes.last_used(run, 1) is None
    changes.save_used(run, Recipe(seed=1), 1)
    changes.save_used(run, Recipe(seed=3), 3)
    assert changes.last_used(run, 2) == Recipe(seed=1)
    assert changes.last_used(run, 9) == Recipe(seed=3)
    (run.path / "recipes" / "attempt-0003.toml").write_text("not toml")
    assert changes.last_used(run, 9) == Recipe(seed=1)
