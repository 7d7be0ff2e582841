"""Class weights in the loss of a step against a computation by hand, and the scores of labels in a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import recipe_for, word_tokenizer
from tests.training.test_attempt import run_in_process
from tui_lab.core.errors import LabError
from tui_lab.data.rows import TokenRow
from tui_lab.recipes.recipe import build
from tui_lab.runs import folder
from tui_lab.training.build_trainer import EncodedRows
from tui_lab.training.class_weights import class_weights
from tui_lab.training.trainer import LabTrainer


def label_rows() -> list[TokenRow]:
    """Six rows of label 40, two of label 41, each with the end token."""
    return [
        {"input_ids": [30 + at, 31, answer, 1], "labels": [-100, -100, answer, 1]}
        for at, answer in enumerate([40] * 6 + [41] * 2)
    ]


def test_classes_are_the_trained_tokens() -> None:
    found = class_weights(label_rows(), word_tokenizer())
    assert found.numbers == [0] * 6 + [1] * 2
    assert found.weights == [8 / (2 * 6), 8 / (2 * 2)]
    assert found.text.startswith("w40") and "0.667" in found.text and "w41" in found.text


def test_answers_that_are_no_labels_are_refused() -> None:
    rows: list[TokenRow] = [{"input_ids": [3, at], "labels": [-100, at]} for at in range(10, 60)]
    with pytest.raises(LabError, match="50 different answers"):
        class_weights(rows, word_tokenizer())
    with pytest.raises(LabError, match="1 different"):
        class_weights(rows[:1], word_tokenizer())


def test_the_loss_of_a_batch_is_the_weighted_mean(make_trainer: Callable[..., LabTrainer]) -> None:
    rows = label_rows()
    classes = class_weights(rows, word_tokenizer())
    recipe = recipe_for(class_weights="balanced")
    trainer = make_trainer(recipe, encoded=EncodedRows(rows, rows, classes))
    batch: Any = next(iter(trainer.get_train_dataloader()))
    assert "task" in batch
    numbers = batch["task"].tolist()
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(16))
    with torch.no_grad():
        logits = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    each = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100, reduction="none"
    ).view(len(numbers), -1)
    weights = torch.tensor([classes.weights[number] for number in numbers])
    assert float(loss) == pytest.approx(float((each.sum(1) * weights).sum() / 16), rel=1e-4)


def test_a_run_with_labels_scores_each_of_them(tiny_llama: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": f"w3{at % 10} w5{at // 10 % 10}", "completion": f" w4{0 if at % 4 else 1}"}
        for at in range(99)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "model": str(tiny_llama), "data": str(data), "max_length": 32, "max_steps": 3, "score_rows": 16,
        "sample_max_new_tokens": 3, "probe_share": 0.0, "class_weights": "balanced",
        "validation_fraction": 0.2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
    }  # fmt: skip
    watcher = run_in_process(folder.create(build(values), tmp_path / "runs"))
    start, end = watcher.state.scores
    for score in (start, end):
        assert score.name == "exact" and score.labels is not None
        assert {each.label for each in score.labels.labels} == {"w40", "w41"}
        assert sum(each.rows for each in score.labels.labels) == 16
        assert score.labels.auc is not None and 0 <= score.labels.auc <= 1
    [choice] = [each for each in watcher.state.choices if each.field == "class_weights"]
    assert "w40 0.6" in choice.reason and "w41 2" in choice.reason
