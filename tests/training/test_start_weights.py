"""Training that goes on from a run: the new model computes what the earlier one did, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

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
