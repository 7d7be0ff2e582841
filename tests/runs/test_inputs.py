"""What a run read is compared with what is there now: weights, tokenizer, data, rows."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from tui_lab.core import changed_inputs
from tui_lab.core.errors import LabError
from tui_lab.models import digests
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder, inputs
from tui_lab.runs.schema import InputsEvent

WEIGHTS = "model.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL_DIR, tmp_path / "base"))


def change_one_value(path: Path) -> None:
    """Another value in one tensor, with the same size and time of the file."""
    stat, tensors = path.stat(), load_file(path)
    name = sorted(tensors)[len(tensors) // 2]
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[-1] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("whole_bytes", [digests.WHOLE_BYTES, 0])
def test_other_weights_of_the_same_size_and_time_have_another_digest(
    model: Path, whole_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "WHOLE_BYTES", whole_bytes)
    monkeypatch.setattr(digests, "_BLOCK_BYTES", 64)
    digests._files_digest.cache_clear()
    before = digests.weights_digest(model)
    assert before and digests.weights_digest(shutil.copytree(model, model.parent / "moved")) == before
    change_one_value(model / WEIGHTS)
    assert digests.weights_digest(model) != before


def test_incidental_keys_of_a_config_do_not_count(model: Path) -> None:
    before = digests.weights_digest(model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"transformers_version": "9.9"}, indent=7))
    assert digests.weights_digest(model) == before
    (model / "config.json").write_text(json.dumps(config | {"rope_theta": 1234.0}))
    assert digests.weights_digest(model) != before


def test_tokenizer_and_template_have_a_digest(model: Path, tmp_path: Path) -> None:
    before = digests.tokenizer_digest(model)
    own = tmp_path / "own.jinja"
    own.write_text("{{ messages }}")
    with_own = digests.tokenizer_digest(model, template=str(own))
    assert before and with_own not in ("", before)
    own.write_text("{{ messages[0] }}")
    assert digests.tokenizer_digest(model, template=str(own)) != with_own
    (model / "chat_template.jinja").write_text("{{ today }}")
    assert digests.tokenizer_digest(model) != before


def test_what_is_not_on_this_machine_has_none(tmp_path: Path) -> None:
    assert digests.weights_digest("nobody/nothing") == digests.tokenizer_digest("nobody/nothing") == ""
    assert digests.weights_digest("nobody/nothing", "some/../branch") == ""
    assert digests.data_digest("a-hub/data-set") == ""
    (tmp_path / WEIGHTS).write_bytes(b"no safetensors")
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert digests.weights_digest(tmp_path) == ""


BEFORE = InputsEvent(
    base="b", tokenizer="t", data="d", rows="r", train_rows=30, validation_rows=6, settings="s"
)


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        ({}, ""),
        ({"base": ""}, ""),
        ({"base": "x"}, "the weights of the base model mine have changed since"),
        ({"tokenizer": "x"}, "the tokenizer or the chat template of mine has changed since"),
        ({"rows": "x", "train_rows": 15, "validation_rows": 3}, "the data has changed since (36 → 18 rows)"),
        ({"rows": "x", "data": "y"}, "the data has changed since (36 rows, with other tokens)"),
        ({"rows": "x"}, "the rows are encoded into other tokens than before, from the same data file"),
        ({"rows": "x", "settings": "y"}, ""),
        ({"rows": "x", "data": "y", "settings": "y"}, "the data file rows.jsonl has changed since"),
    ],
)
def test_each_change_is_a_sentence(now: dict[str, object], sentence: str) -> None:
    recipe = Recipe(model="/models/mine", data="/data/rows.jsonl")
    found = inputs.changed_since(BEFORE, msgspec.structs.replace(BEFORE, **now), recipe)
    assert "; ".join(found) == sentence


def test_a_mixture_has_the_digest_of_all_its_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    recipe = Recipe(data=f"{tmp_path / 'a'}:3 + {tmp_path / 'b'}:1")
    before = inputs.current_inputs(recipe).data
    assert before and inputs.current_inputs(recipe.changed(data=f"{tmp_path / 'a'}:1 + pirate")).data == ""
    (tmp_path / "b").write_text("changed")
    assert inputs.current_inputs(recipe).data != before
    # the keys of a mixture are no settings of a single set, so that rows of earlier runs are still compared
    one = recipe.changed(data=str(tmp_path / "a"))
    for each, same in ((one, True), (recipe, False)):
        other = each.changed(mixture_sampling="up")
        assert (inputs.row_settings(each, 64) == inputs.row_settings(other, 64)) is same


def test_settings_of_rows_are_told_from_others() -> None:
    recipe = Recipe()
    before = inputs.row_settings(recipe, 256)
    assert inputs.row_settings(recipe.changed(max_steps=7, learning_rate=1e-5), 256) == before
    assert inputs.row_settings(recipe, 128) != before
    assert inputs.row_settings(recipe.changed(deduplicate=not recipe.deduplicate), 256) != before


@pytest.fixture
def saved(model: Path, runs_dir: Path, tmp_path: Path) -> folder.Run:
    """A run with an adapter on the copied base and its card."""
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n')
    run = folder.create(Recipe(model=str(model), data=str(data)), runs_dir)
    run.adapter_path.mkdir()
    save_file({"lora_A": torch.ones(2, 2)}, run.adapter_path / "adapter_model.safetensors")
    (run.adapter_path / "adapter_config.json").write_text("{}")
    inputs.write_card(run.adapter_path, run.id, run.recipe(), inputs.current_inputs(run.recipe()))
    return run


def test_a_card_notices_other_weights_template_data_and_adapter(saved: folder.Run, model: Path) -> None:
    def changes() -> list[str]:
        return inputs.changed_of_run(saved, saved.recipe(), str(model))

    assert changes() == []
    change_one_value(model / WEIGHTS)
    assert changes() == ["the base base has other weights than those that the adapter was trained on"]
    (model / "chat_template.jinja").write_text("{{ today }}")
    assert "the tokenizer or the chat template of base has changed since" in changes()
    Path(saved.recipe().data).write_text("{}")
    assert changes()[-1] == "the data file rows.jsonl has changed since"
    save_file({"lora_A": torch.zeros(2, 2)}, saved.adapter_path / "adapter_model.safetensors")
    assert changes()[0] == "the weights in adapter have changed since they were saved"


def test_an_adapter_on_another_base_of_the_same_shape_is_noticed(saved: folder.Run, model: Path) -> None:
    other = Path(shutil.copytree(model, model.parent / "other"))
    assert inputs.changed_beside(saved.adapter_path, str(other)) == []  # the same weights elsewhere
    change_one_value(other / WEIGHTS)
    assert len(inputs.changed_beside(saved.adapter_path, str(other))) == 1


def test_cards_that_cannot_be_read_say_nothing(saved: folder.Run, model: Path) -> None:
    for text in ("", "[", '{"base": 3}', "[" * 100_000):
        (saved.adapter_path / inputs.CARD_FILE).write_text(text)
        assert inputs.changed_of_run(saved, saved.recipe(), str(model)) == []


def test_changes_are_refused_until_they_are_accepted() -> None:
    assert inputs.require_unchanged([], "run x") == []
    with pytest.raises(LabError, match=r"run x: a changed; b changed; --accept-changes"):
        inputs.require_unchanged(["a changed", "b changed"], "run x")
    changed_inputs.accept()
    assert inputs.require_unchanged(["a changed"], "run x") == ["a changed"]
