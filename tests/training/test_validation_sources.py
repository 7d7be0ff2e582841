"""The validation loss of each data set of a mixture: that of its rows alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.conftest import recipe_for
from tui_lab.data.preferences import DESIRABLE, UNDESIRABLE
from tui_lab.data.store import TokenRows
from tui_lab.training.build_trainer import _held_out


def test_each_set_has_the_loss_of_its_rows(make_trainer: Any) -> None:
    trainer = make_trainer(recipe_for(per_device_train_batch_size=4))
    every = trainer.eval_dataset
    sources = [0] * 6 + [1] * 10
    trainer.validation_sources = sources
    together, found = trainer.validation_loss(), dict(trainer.source_losses)
    tokens = [0, 0]
    trainer.validation_sources = []
    for number in (0, 1):
        alone = every.select([row for row, source in enumerate(sources) if source == number])
        trainer.eval_dataset = alone
        assert trainer.validation_loss() == pytest.approx(found[number], rel=1e-5)
        assert trainer.source_losses == {}
        tokens[number] = sum(label != -100 for labels in alone["labels"] for label in labels[1:])
    assert together == pytest.approx(sum(found[n] * tokens[n] for n in (0, 1)) / sum(tokens), rel=1e-5)
    # with a row left out nobody knows whose it was
    trainer.validation_sources = [0, *sources]
    trainer.validation_loss()
    assert trainer.source_losses == {}


def test_the_token_accuracy_is_that_of_single_rows(make_trainer: Any) -> None:
    """Against one plain forward a row: every third trained token is made the one that the model finds
    likeliest, and of all trained tokens those are right."""
    trainer = make_trainer(recipe_for(per_device_train_batch_size=4))
    trainer.model.eval()
    rows, right, counted = [], 0, 0
    for row in trainer.eval_dataset:
        with torch.no_grad():
            logits = trainer.model(input_ids=torch.tensor([row["input_ids"]])).logits
        likeliest = [-100, *logits[0, :-1].argmax(-1).tolist()]
        trained = [label != -100 for label in row["labels"]]
        labels = [
            best if use and at % 3 == 0 else label
            for at, (best, use, label) in enumerate(zip(likeliest, trained, row["labels"], strict=True))
        ]
        right += sum(
            best == label for best, label in zip(likeliest[1:], labels[1:], strict=True) if label >= 0
        )
        counted += sum(trained[1:])
        rows.append({**row, "labels": labels})
    trainer.eval_dataset = type(trainer.eval_dataset).from_list(rows)
    trainer.validation_loss()
    assert 0 < right < counted
    assert trainer.validation_accuracy == pytest.approx(right / counted, abs=1.5 / counted)


def test_the_chosen_answers_keep_their_set() -> None:
    rows = TokenRows.of([{"input_ids": [n], "labels": [n], "task": DESIRABLE} for n in range(4)])
    joined = rows.of_source(0).joined(rows.of_source(1))
    assert _held_out(joined, recipe_for(preference_loss="dpo")).source.tolist() == [0, 0, 1, 1]
    verdicts = [DESIRABLE, UNDESIRABLE, DESIRABLE, UNDESIRABLE]
    votes = TokenRows.of([{"input_ids": [1], "labels": [1], "task": task} for task in verdicts])
    kto = recipe_for(preference_loss="kto", per_device_train_batch_size=2)
    held_out = _held_out(rows.of_source(0).joined(votes.of_source(1)), kto)
    assert held_out.source.tolist() == [0, 0, 0, 0, 1, 1]
