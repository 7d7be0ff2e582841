"""Training that goes on from a run: the new model computes what the earlier one did, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaForCausalLM

from tests.records import read_log
from tests.training.conftest import recipe_for
from tests.training.warm_start import Opener
from tui_lab.core.errors import LabError
from tui_lab.recipes.presets import make_recipe
from tui_lab.runs import folder, launch, stages
from tui_lab.runs.folder import Run
from tui_lab.runs.state import Watcher
from tui_lab.training.start_weights import load_from_run
from tui_lab.training.trainer import LabTrainer, save_weights

IDS = torch.arange(3, 15)[None]
KINDS: list[dict[str, Any]] = [
    {"method": "lora"},
    {"method": "lora", "use_dora": True},
    {"method": "loha"},
    {"method": "ia3", "learning_rate": 5e-2},
    {"method": "prompt_tuning", "num_virtual_tokens": 3},
    {"method": "full", "learning_rate": 1e-3},
]


def logits(trainer: LabTrainer) -> torch.Tensor:
    trainer.model.eval()
    with torch.no_grad():
        found: torch.Tensor = trainer.model(input_ids=IDS).logits
    return found


@pytest.fixture
def trained(make_trainer: Callable[..., LabTrainer], tmp_path: Path) -> Callable[..., tuple[LabTrainer, Run]]:
    def make(**values: Any) -> tuple[LabTrainer, Run]:
        recipe = recipe_for(**values, max_steps=3, quantization="none")
        trainer, run = make_trainer(recipe), Run(tmp_path / "first")
        trainer.train()
        save_weights(trainer.model, run.model_path if recipe.method == "full" else run.adapter_path)
        return trainer, run

    return make


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_the_new_model_starts_where_the_earlier_one_ended(
    kind: dict[str, Any], trained: Any, make_trainer: Callable[..., LabTrainer]
) -> None:
    first, run = trained(**kind)
    second = make_trainer(recipe_for(**kind, seed=7, quantization="none"))
    before, wanted = logits(second), logits(first)
    assert not torch.equal(before, wanted)
    load_from_run(second.model, run)
    assert torch.equal(logits(second), wanted)


@pytest.mark.parametrize("optim", ["adamw_torch", "adafactor", "sgd"])
def test_a_new_adapter_is_trained_beside_the_earlier_one(
    optim: str, trained: Any, make_trainer: Callable[..., LabTrainer], tiny_llama: Path, tmp_path: Path
) -> None:
    first, run = trained(method="lora", lora_r=4, lora_alpha=12, use_rslora=True)
    recipe = recipe_for(
        lora_r=6, lora_alpha=9, frozen_rank=4, from_run="first", optim=optim, weight_decay=0.1, max_steps=3,
        quantization="none", lora_dropout=0.0, seed=7, kl_weight=0.1, learning_rate=1e-2,
    )  # fmt: skip
    second = make_trainer(recipe, start=lambda model: load_from_run(model, run, 4))
    assert torch.allclose(logits(second), logits(first), atol=1e-5)
    earlier, new = of_ranks(second.model, slice(4)), of_ranks(second.model, slice(4, None))
    second.train()
    after, changed = of_ranks(second.model, slice(4)), of_ranks(second.model, slice(4, None))
    assert all(torch.equal(weight, after[name]) for name, weight in earlier.items())
    assert all(not torch.equal(weight, changed[name]) for name, weight in new.items() if "lora_B" in name)
    assert second.frozen_weights == sum(weight.numel() for weight in earlier.values())

    # a new adapter over weights that peft merged the earlier one into computes the same
    base = LlamaForCausalLM.from_pretrained(tiny_llama)
    assert torch.allclose(plain_logits(base), base_logits(second), atol=1e-5)
    merged = PeftModel.from_pretrained(base, str(run.adapter_path)).merge_and_unload()
    config = LoraConfig(r=6, lora_alpha=9, target_modules=second.model.peft_config["default"].target_modules)
    alone = get_peft_model(merged, config)
    for name, weight in alone.named_parameters():
        if "lora_" in name:
            weight.data.copy_(changed[name])
    wanted = plain_logits(alone)
    assert torch.allclose(logits(second), wanted, atol=1e-4)
    # and so does what is saved, on the first base, as an adapter and merged
    save_weights(second.model, tmp_path / "adapter")
    saved = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(tiny_llama), str(tmp_path / "adapter"))
    assert torch.allclose(plain_logits(saved), wanted, atol=1e-4)
    assert torch.allclose(plain_logits(saved.merge_and_unload()), wanted, atol=1e-4)


def of_ranks(model: Any, ranks: slice) -> dict[str, torch.Tensor]:
    """Copies of these ranks of each LoRA factor."""
    return {
        name: (weight[ranks] if "lora_A" in name else weight[:, ranks]).detach().clone()
        for name, weight in model.named_parameters()
        if "lora_" in name
    }


def plain_logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


def base_logits(trainer: LabTrainer) -> torch.Tensor:
    with trainer.model.disable_adapter():
        return logits(trainer)


def test_weights_of_another_shape_are_refused(trained: Any, make_trainer: Callable[..., LabTrainer]) -> None:
    _, run = trained(method="lora", lora_r=8)
    with pytest.raises(LabError, match=r"run first does not fit this recipe: 28 tensors .* of another shape"):
        load_from_run(make_trainer(recipe_for(lora_r=4)).model, run)
    with pytest.raises(LabError, match="missing from its saved weights"):
        load_from_run(make_trainer(recipe_for(lora_r=8, use_dora=True)).model, run)


@pytest.mark.slow
def test_two_stages_on_two_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "subprocess", Opener)
    small = {"max_steps": 4, "score_rows": 0, "quantization": "none", "sample_steps": 4, "probe_share": 0.0}
    first = folder.create(make_recipe("minute", **small), tmp_path)
    assert launch.start(first).wait(timeout=300) == 0, first.log_tail()
    values = stages.values_from(first.id, tmp_path, {**small, "data": "json"})
    second = folder.create(make_recipe("minute", **values), tmp_path)
    assert launch.start(second).wait(timeout=300) == 0, second.log_tail()
    [choice] = [event for event in read_log(second.events_path) if event.get("field") == "from_run"]
    assert choice["value"] == first.id and choice["reason"].endswith("stage 2")
    assert [run.path for run in stages.ancestors(second)] == [first.path]
    assert Watcher(second).read_all().end.state == "finished"
