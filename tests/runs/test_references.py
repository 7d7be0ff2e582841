"""What people's names mean: the bundled model, folders, runs and what they left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tui_lab.core.errors import LabError
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes import recipe
from tui_lab.runs import folder
from tui_lab.runs.folder import Run
from tui_lab.runs.references import ModelReference, adapter_target, model_target, run_target


@pytest.fixture
def run(runs_dir: Path) -> Run:
    """A run that has left nothing yet."""
    return folder.create(recipe.Recipe(model="pocket"), runs_dir, "mine")


def leave_adapter(run: Run, base: str = "pocket") -> None:
    run.adapter_path.mkdir()
    config = {"base_model_name_or_path": base, "peft_type": "LORA"}
    (run.adapter_path / "adapter_config.json").write_text(json.dumps(config))


def test_a_run_resolves_to_its_base_and_adapter(run: Run) -> None:
    leave_adapter(run)
    pocket = model_target("pocket").location
    assert Path(pocket) == MODEL_DIR
    for name in (run.id, str(run.path)):
        assert run_target(name) == ModelReference(pocket, run.adapter_path)
        assert model_target(name) == ModelReference(pocket, run.adapter_path)
        assert adapter_target(name).adapter == run.adapter_path


def test_a_run_with_full_weights_resolves_to_a_model(run: Run) -> None:
    run.model_path.mkdir()
    (run.model_path / "config.json").write_text("{}")
    assert run_target(run.id) == adapter_target(run.id) == ModelReference(str(run.model_path))


def test_a_run_without_saved_weights_is_refused_with_its_checkpoint(run: Run) -> None:
    for call in (run_target, adapter_target, model_target):
        with pytest.raises(LabError, match="has saved no adapter and no model yet"):
            call(run.id)
    (run.checkpoints_path / "checkpoint-20").mkdir(parents=True)
    with pytest.raises(LabError, match=r"newest checkpoint is .*checkpoint-20"):
        adapter_target(run.id)


def test_folders_of_adapters_and_models_resolve(tmp_path: Path, run: Run) -> None:
    leave_adapter(run, base="some/model")
    assert adapter_target(str(run.adapter_path)) == ModelReference("some/model", run.adapter_path)
    assert adapter_target(str(MODEL_DIR)) == ModelReference(str(MODEL_DIR))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_text("{")
    assert adapter_target(str(broken)) == ModelReference("", broken)  # whoever loads it says what is wrong


def test_without_a_name_the_adapter_determines_the_model(run: Run) -> None:
    assert Path(model_target("").location) == MODEL_DIR
    assert model_target(
        "", adapters=[ModelReference("some/model", run.adapter_path, "abc")]
    ) == ModelReference("some/model", None, "abc")
    assert model_target("", adapters=[ModelReference(str(MODEL_DIR), run.adapter_path)]) == ModelReference(
        str(MODEL_DIR)
    )
    assert Path(model_target("", adapters=[ModelReference("", run.adapter_path)]).location) == MODEL_DIR


@pytest.mark.parametrize(
    "name", ["no-such-thing", "../none", "~nobody-here/x", "\x1b[2J", "a b", ".", "a\0b"]
)
def test_unknown_names_are_one_sentence(runs_dir: Path, name: str) -> None:
    for call in (run_target, adapter_target, model_target):
        with pytest.raises(LabError) as error:
            call(name)
        assert "\n" not in str(error.value) and "\x1b" not in str(error.value)


def test_a_hub_adapter_without_a_network_is_one_sentence(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LabError, match="is neither a run nor a local folder, and cannot be downloaded"):
        adapter_target("nobody/no-such-adapter-here")


@pytest.mark.parametrize("base", ["meta-llama/Llama-3.1-8B-Instruct", "no/such/folder", "/nowhere/at/all"])
def test_the_base_that_an_adapter_names_is_checked(tmp_path: Path, run: Run, base: str) -> None:
    leave_adapter(run, base=base)
    adapter = adapter_target(str(run.adapter_path))
    with pytest.raises(LabError, match=rf"the adapter was made for {base}: .*--model names another base"):
        model_target("", adapters=[adapter])


def test_an_export_with_its_base_is_found_from_anywhere(tmp_path: Path) -> None:
    export = tmp_path / "export"
    (export / "base").mkdir(parents=True)
    (export / "base" / "config.json").write_text("{}")
    (export / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "./base"}))
    assert adapter_target(str(export)).location == str(export / "base")
