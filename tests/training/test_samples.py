"""Samples are decoded in the precision of the training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import AutoTokenizer

from tui_lab.pocket import MODEL_DIR
from tui_lab.training import samples
from tui_lab.training.progress import AttemptProgress


def test_samples_run_under_the_autocast_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of an adapter: ``generate`` calls the model inside it, whose forward has no autocast."""
    inner = torch.nn.Linear(2, 2)
    seen: list[torch.dtype] = []

    def answer(model: Any, *_args: object, **_settings: object) -> list[str]:
        seen.append(model(torch.ones(1, 2)).dtype)
        return ["text"]

    monkeypatch.setattr(samples, "generate_answers", answer)
    accelerator = SimpleNamespace(autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    trainer = SimpleNamespace(model=inner, accelerator=accelerator)
    evaluator = object.__new__(samples.TaskEvaluator)
    evaluator._tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    evaluator._progress = AttemptProgress(lambda _: None, lambda: False)
    evaluator._recipe = cast("Any", SimpleNamespace(sample_max_new_tokens=4))
    assert evaluator._answers(cast("Any", trainer), ["Once"]) == ["text"]
    assert seen == [torch.bfloat16]


def test_scores_of_tasks_are_the_means_of_their_rows() -> None:
    marks = [1.0, 0.0, 0.5, 1.0]
    assert samples._by_task(["b", "a", "b", None], marks) == {"a": 0.0, "b": 0.75}
    assert samples._by_task(["b", "b", None, None], marks) == {}
