"""What a run takes over from the one it goes on from, and what is refused with one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.errors import LabError
from tui_lab.recipes.presets import make_recipe
from tui_lab.runs import folder, stages
from tui_lab.runs.folder import Run

ADAPTER = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": False, "use_dora": False}


def finished(directory: Path, config: dict[str, Any] | None = None, **values: Any) -> Run:
    """A run of the bundled model that has saved an adapter."""
    run = folder.create(make_recipe("minute", lora_r=4, lora_alpha=8, **values), directory)
    run.adapter_path.mkdir()
    (run.adapter_path / "adapter_config.json").write_text(json.dumps(ADAPTER | (config or {})))
    return run


def test_model_method_and_shape_are_taken_over(tmp_path: Path) -> None:
    run = finished(tmp_path, target_modules="qv")
    values = stages.values_from(run.id, tmp_path, {"data": "json", "learning_rate": 1e-5})
    recipe = make_recipe("starter", **values)
    assert (recipe.model, recipe.lora_r, recipe.lora_alpha, recipe.target_modules) == ("pocket", 4, 8, "qv")
    assert (recipe.data, recipe.learning_rate, recipe.from_run) == ("json", 1e-5, str(run.path))
    assert stages.check(recipe) == run


def test_a_converted_adapter_counts_as_it_was_saved(tmp_path: Path) -> None:
    run = finished(tmp_path, {"r": 8, "lora_alpha": 16.0}, init_lora_weights="pissa", quantization="none")
    values = stages.values_from(run.id, tmp_path, {})
    assert (values["lora_r"], values["lora_alpha"], values["init_lora_weights"]) == (8, 16, "default")


def test_what_contradicts_the_earlier_run_is_refused(tmp_path: Path) -> None:
    run = finished(tmp_path)
    with pytest.raises(LabError, match="lora_r = 4 comes from that run and cannot be 16; leave it out"):
        stages.values_from(run.id, tmp_path, {"lora_r": 16})
    with pytest.raises(LabError, match="model = 'pocket' comes from that run"):
        stages.values_from(run.id, tmp_path, {"model": "gpt2"})
    assert stages.values_from(run.id, tmp_path, {"model": "pocket", "lora_r": 4})["lora_r"] == 4
    changed = make_recipe("minute", **stages.values_from(run.id, tmp_path, {})).changed(lora_r=2)
    with pytest.raises(LabError, match=r"from_run: run .* has lora_r = 4, this recipe 2"):
        stages.check(changed)


def test_runs_without_weights_are_refused(tmp_path: Path) -> None:
    unfinished = folder.create(make_recipe("minute"), tmp_path / "a")
    with pytest.raises(LabError, match="has saved no weights; `tui-lab resume"):
        stages.values_from(unfinished.id, tmp_path / "a", {})
    ranks = finished(tmp_path / "b", {"rank_pattern": {"q_proj": 2}})
    with pytest.raises(LabError, match="has ranks by layer"):
        stages.values_from(ranks.id, tmp_path / "b", {})
    other = finished(tmp_path / "c", method="adalora", quantization="none")
    with pytest.raises(LabError, match="trained with adalora, whose saved weights cannot be trained further"):
        stages.values_from(other.id, tmp_path / "c", {})
    lock = folder.RunLock.take(finished(tmp_path / "d"))
    with pytest.raises(LabError, match="still in progress"):
        stages.values_from("latest", tmp_path / "d", {})
    lock.release()
    gone = make_recipe("minute", from_run=str(tmp_path / "nowhere"))
    with pytest.raises(LabError, match="does not exist"):
        stages.check(gone)
    damaged = finished(tmp_path / "e")
    (damaged.adapter_path / "adapter_config.json").write_text("[" * 100_000)
    with pytest.raises(LabError, match=r"adapter_config.json cannot be read"):
        stages.values_from(damaged.id, tmp_path / "e", {})


def test_a_line_of_runs_is_followed_to_its_start(tmp_path: Path) -> None:
    first = finished(tmp_path)
    second = finished(tmp_path, from_run=str(first.path))
    third = finished(tmp_path, from_run=str(second.path))
    assert [run.path for run in stages.ancestors(third)] == [second.path, first.path]
    circle = finished(tmp_path)
    circle.recipe_path.write_text(circle.recipe().changed(from_run=str(circle.path)).to_toml())
    assert list(stages.ancestors(circle)) == []


def test_a_new_adapter_beside_the_earlier_one_has_a_shape_of_its_own(tmp_path: Path) -> None:
    run = finished(tmp_path, {"r": 4, "lora_alpha": 8}, target_modules="qv")
    values = stages.values_from(run.id, tmp_path, {"lora_r": 16, "lora_alpha": 4.0}, new_adapter=True)
    recipe = make_recipe("starter", **values)
    assert (recipe.frozen_rank, recipe.lora_r, recipe.adapter_rank) == (4, 16, 20)
    assert (recipe.target_modules, recipe.lora_dropout) == ("qv", 0.0)
    assert stages.check(recipe) == run
    with pytest.raises(LabError, match=r"lora_dropout = 0\.0 comes from that run and cannot be 0\.1"):
        stages.values_from(run.id, tmp_path, {"lora_dropout": 0.1}, new_adapter=True)
    with pytest.raises(LabError, match="has frozen_rank = 4, this recipe 3"):
        stages.check(recipe.changed(frozen_rank=3))
    earlier = stages.earlier_run(run.id, tmp_path)
    assert "frozen_rank = 4 comes from that run and cannot be 3" in earlier.contradiction(
        {**values, "frozen_rank": 3}
    )
    assert not earlier.contradiction({**recipe.model_dump()})


def test_a_new_adapter_stands_beside_plain_lora_only(tmp_path: Path) -> None:
    dora = finished(tmp_path / "a", {"use_dora": True}, use_dora=True)
    with pytest.raises(LabError, match="was trained with DoRA: a new adapter can be trained only beside"):
        stages.values_from(dora.id, tmp_path / "a", {}, new_adapter=True)
    scales = finished(tmp_path / "b", method="ia3", quantization="none")
    with pytest.raises(LabError, match="was trained with ia3"):
        stages.values_from(scales.id, tmp_path / "b", {}, new_adapter=True)
    assert "trained with ia3" in stages.earlier_run(scales.id, tmp_path / "b").contradiction(
        {"frozen_rank": 4}
    )
