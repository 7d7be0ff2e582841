"""Preference losses: equal to trl's own trainers on the same batch, and to closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from tests.training.conftest import CPU, recipe_for, rows, word_tokenizer
from tui_lab.data.preferences import DESIRABLE, UNDESIRABLE
from tui_lab.data.rows import TokenRow
from tui_lab.data.store import TokenRows
from tui_lab.models.loading import ModelSource
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.training import micro_batches, preferences
from tui_lab.training.base_model import load_base
from tui_lab.training.build_trainer import EncodedRows, build_trainer, evenly
from tui_lab.training.preferences import PreferenceCollator, as_pairs, as_verdicts, mismatched
from tui_lab.training.trainer import LabTrainer

ALL = ["q_proj", "k_proj", "v_proj", "o_proj"]


def pairs(count: int) -> list[TokenRow]:
    """Chosen and rejected rows in turn, with the same prompt of two tokens."""
    found: list[Any] = []
    for good, bad in zip(rows(count), rows(count, seed=5), strict=True):
        ids = [*good["input_ids"][:2], *bad["input_ids"][2:], 9]
        found += [good, {"input_ids": ids, "labels": [-100, -100, *ids[2:]]}]
    return found


def verdicts(count: int) -> list[TokenRow]:
    names = (DESIRABLE, UNDESIRABLE, DESIRABLE)
    return [{**row, "task": names[at % 3]} for at, row in enumerate(rows(count))]  # type: ignore[typeddict-item]


@pytest.fixture
def trainer_of(tiny_llama: Path, tmp_path: Path) -> Callable[..., LabTrainer]:
    def make(loss: str, **values: Any) -> LabTrainer:
        recipe = recipe_for(
            preference_loss=loss, per_device_train_batch_size=4, quantization="none", **values
        )
        resolved = ResolvedValues(
            target_modules=ALL,
            compute_dtype="float32",
            optim="adamw_torch",
            max_length=64,
            packed_attention="mask",
        )
        torch.manual_seed(0)
        base = load_base(ModelSource(str(tiny_llama)), recipe, CPU, resolved)
        data = verdicts(16) if loss == "kto" else pairs(16)
        made = build_trainer(
            recipe, base, word_tokenizer(), EncodedRows(TokenRows.of(data), TokenRows.of(data[:8])), resolved,
            folder=tmp_path / loss, device="cpu",
        )  # fmt: skip
        made.args.save_strategy = "no"
        return made

    return make


def first_loss(trainer: LabTrainer, change: float = 0.02) -> tuple[float, dict[str, Any], Any]:
    """The loss of the first four rows, after the adapter was moved away from its start."""
    torch.manual_seed(3)
    for weight in trainer.model.parameters():
        if weight.requires_grad:
            weight.data += change * torch.randn_like(weight)
    trainer.model.train()
    batch = trainer.data_collator([trainer.train_dataset[at] for at in range(4)])
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=None)
    assert trainer.objective is not None
    return float(loss.detach()), dict(trainer.objective.parts), batch


def refer_to_the_base(theirs: Any) -> None:
    """trl copies a given adapter as its reference; the run's is the base."""
    for name, weight in theirs.model.named_parameters():
        if ".ref." in name and "lora_B" in name:
            weight.data.zero_()


def split_row(ids: list[int]) -> dict[str, list[int]]:
    return {"prompt_ids": ids[:2], "completion_ids": ids[2:]}


@pytest.mark.parametrize("chosen_weight", [0.0, 0.5])
def test_dpo_equals_trl(chosen_weight: float, trainer_of: Callable[..., LabTrainer], tmp_path: Path) -> None:
    trainer = trainer_of("dpo", lora_r=4, chosen_weight=chosen_weight)
    loss, parts, _ = first_loss(trainer)
    theirs = DPOTrainer(
        model=trainer.model,
        args=DPOConfig(
            output_dir=str(tmp_path), use_cpu=True, beta=0.1, report_to="none", max_length=None, bf16=False,
            loss_type=["sigmoid", "sft"], loss_weights=[1.0, chosen_weight],
        ),
        train_dataset=Dataset.from_list([{"prompt": "w3", "chosen": "w4", "rejected": "w5"}]),
        processing_class=word_tokenizer(),
    )  # fmt: skip
    made = [trainer.train_dataset[at] for at in range(4)]
    batch = theirs.data_collator(
        [
            {"prompt_ids": row["input_ids"][:2], "chosen_ids": row["input_ids"][2:],
             "rejected_ids": row["rejected_input_ids"][2:]}
            for row in made
        ]
    )  # fmt: skip
    refer_to_the_base(theirs)
    theirs.model.train()
    assert loss == pytest.approx(float(theirs.compute_loss(theirs.model, batch)), abs=1e-6)
    assert abs(loss - math.log(2)) > 1e-3 and 0 <= parts["reward_accuracy"] <= 1


def test_kto_equals_trl(trainer_of: Callable[..., LabTrainer], tmp_path: Path) -> None:
    trainer = trainer_of("kto", lora_r=4, undesirable_weight=1.5)
    loss, parts, _ = first_loss(trainer)
    made = [trainer.train_dataset[at] for at in range(4)]
    theirs = KTOTrainer(
        model=trainer.model,
        args=KTOConfig(
            output_dir=str(tmp_path), use_cpu=True, beta=0.1, report_to="none", bf16=False, max_length=None,
            undesirable_weight=1.5, per_device_train_batch_size=4, train_sampling_strategy="sequential",
        ),
        train_dataset=Dataset.from_list(
            [{"prompt": "w3", "completion": "w4", "label": at % 2 == 0} for at in range(4)]
        ),
        processing_class=word_tokenizer(),
    )  # fmt: skip
    answers = [row["input_ids"][2:] for row in made]
    batch = theirs.data_collator(
        [
            {
                **split_row(row["input_ids"]),
                "KL_completion_ids": answers[at - 1],
                "label": bool(row["verdict"]),
            }
            for at, row in enumerate(made)
        ]
    )
    refer_to_the_base(theirs)
    theirs.model.train()
    assert loss == pytest.approx(float(theirs.compute_loss(theirs.model, batch)), abs=1e-6)
    assert parts["kl_estimate"] >= 0


def test_orpo_and_simpo_equal_trls_functions(trainer_of: Callable[..., LabTrainer]) -> None:
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    for loss in ("orpo", "simpo"):
        trainer = trainer_of(loss, lora_r=4, preference_beta=2.0, simpo_gamma=0.5)
        found, _, batch = first_loss(trainer)
        with torch.no_grad():
            logits = trainer.model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits
        labels, answers = batch["labels"], batch.get(preferences.ANSWER_MASK)
        of_answers = labels if answers is None else labels.masked_fill(answers == 0, -100)
        means = ORPOTrainer.get_batch_logps(logits, of_answers, average_log_prob=True)
        theirs: Any = torch.nn.Module()
        theirs.beta, theirs.simpo_gamma, theirs.alpha, theirs.label_smoothing = 2.0, 0.5, 0.0, 0.0
        theirs.loss_type = "simpo"
        theirs.accelerator = torch.nn.Module()
        theirs.accelerator.device = "cpu"
        if loss == "simpo":
            expected = CPOTrainer.cpo_loss(theirs, means[0::2], means[1::2])[0].mean()
        else:
            likelihood = torch.nn.functional.cross_entropy(
                logits[0::2, :-1].flatten(0, 1), labels[0::2, 1:].flatten(), ignore_index=-100
            )
            expected = likelihood - ORPOTrainer.odds_ratio_loss(theirs, means[0::2], means[1::2])[0].mean()
        assert found == pytest.approx(float(expected), abs=2e-6), loss


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_the_reference_is_the_model_that_training_began_with(
    loss: str, trainer_of: Callable[..., LabTrainer]
) -> None:
    wanted = math.log(2) if loss == "dpo" else 0.5
    for values in ({"lora_r": 4}, {"method": "full"}):
        found, _, _ = first_loss(trainer_of(loss, **values), change=0.0)
        assert found == pytest.approx(wanted, abs=1e-6)


def test_an_earlier_runs_adapter_is_the_reference(trainer_of: Callable[..., LabTrainer]) -> None:
    trainer = trainer_of("dpo", lora_r=4)
    objective = trainer.objective
    assert objective is not None
    first, _, batch = first_loss(trainer)
    objective._start = {n: w.detach().clone() for n, w in trainer.model.named_parameters() if w.requires_grad}
    before = {name: weight.clone() for name, weight in objective._start.items()}
    again = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=None)
    assert float(again) == pytest.approx(math.log(2), abs=1e-6) != first
    weights = dict(trainer.model.named_parameters())
    assert all(torch.equal(weights[name], start) for name, start in before.items())


@pytest.mark.parametrize("loss", ["dpo", "orpo", "simpo", "kto"])
def test_training_prefers_what_was_chosen(loss: str, trainer_of: Callable[..., LabTrainer]) -> None:
    trainer = trainer_of(loss, lora_r=8, preference_beta=2.0 if loss == "simpo" else 0.1, max_steps=8)
    trainer.train()
    margins = [
        entry["part reward_margin"] for entry in trainer.state.log_history if "part reward_margin" in entry
    ]
    assert margins[-1] > margins[0], margins


def test_pairs_stay_together_in_parts(trainer_of: Callable[..., LabTrainer]) -> None:
    trainer = trainer_of("dpo", lora_r=4)
    batch = trainer.data_collator([trainer.train_dataset[at] for at in range(3)])
    parts = micro_batches.split(batch, 2)
    assert [len(part.inputs["input_ids"]) for part in parts] == [2, 4] or [
        len(part.inputs["input_ids"]) for part in parts
    ] == [4, 2]
    assert all(
        part.inputs["pair_side"].tolist() == [0, 1] * (len(part.inputs["pair_side"]) // 2) for part in parts
    )
    assert sum(part.share.rows for part in parts) == pytest.approx(len(parts))
    whole = trainer.compute_loss(trainer.model.train(), dict(batch), num_items_in_batch=None)
    losses = []
    for part in parts:
        loss = trainer.compute_loss(trainer.model, dict(part.inputs), num_items_in_batch=None)
        losses.append(float(loss) * part.share.rows / len(parts))
    assert sum(losses) == pytest.approx(float(whole), abs=1e-6)
    answers = PreferenceCollator(trainer_of("kto").data_collator._collator, "kto")(  # type: ignore[attr-defined]
        [
            {"input_ids": [3, 4], "labels": [-100, 4], "verdict": 1},
            {"input_ids": [5, 6], "labels": [-100, 6], "verdict": 0},
        ]
    )
    assert len(micro_batches.split(answers, 2)) == 1 and micro_batches.finer(answers, 1) == 0


def test_columns_and_mismatched_answers() -> None:
    made = as_pairs(TokenRows.of(pairs(3)))
    assert len(made) == 3 and made[1]["rejected_input_ids"] == pairs(3)[3]["input_ids"]
    assert as_verdicts(TokenRows.of(verdicts(4)))["verdict"][:] == [1, 0, 1, 1]
    two = [
        {"input_ids": [1, 2, 3], "labels": [-100, -100, 3]},
        {"input_ids": [4, 5, 6], "labels": [-100, 5, 6]},
    ]
    assert mismatched(two) == [
        {"input_ids": [1, 2, 5, 6], "labels": [-100, -100, 5, 6]},
        {"input_ids": [4, 3], "labels": [-100, 3]},
    ]


@pytest.mark.parametrize("loss", ["dpo", "simpo", "kto"])
def test_held_out_answers_are_measured_at_validations(
    loss: str, trainer_of: Callable[..., LabTrainer]
) -> None:
    trainer = trainer_of(loss, lora_r=4, preference_beta=0.5)
    first_loss(trainer)
    trainer.validation_loss()
    found, answers = trainer.held_out_figures, trainer.held_out_answers
    assert answers is not None and len(answers) == (8 if loss == "kto" else 4)
    # the same, an answer at a time
    objective, data = trainer.objective, []
    assert objective is not None
    trainer.model.eval()
    for row in answers:
        sides = [row["input_ids"]] + ([] if loss == "kto" else [row["rejected_input_ids"]])
        for ids in sides:
            with torch.no_grad():
                now = answer_log_probability(trainer.model, ids)
                with trainer.model.disable_adapter():
                    base = answer_log_probability(trainer.model, ids)
            reward = now / (len(ids) - 2) if loss == "simpo" else now - base
            data.append((0.5 * reward, now, row.get("verdict")))
    good = [each for at, each in enumerate(data) if (each[2] if loss == "kto" else at % 2 == 0)]
    bad = [each for at, each in enumerate(data) if not (each[2] if loss == "kto" else at % 2 == 0)]
    pairs = [(g, b) for g in good for b in bad] if loss == "kto" else list(zip(good, bad, strict=True))
    assert found["reward_accuracy"] == pytest.approx(sum(g[0] > b[0] for g, b in pairs) / len(pairs))
    margin = sum(g[0] for g in good) / len(good) - sum(b[0] for b in bad) / len(bad)
    assert found["reward_margin"] == pytest.approx(margin, abs=1e-4)
    assert found["chosen_log_probability"] == pytest.approx(sum(g[1] for g in good) / len(good), rel=1e-4)


def answer_log_probability(model: Any, ids: list[int]) -> float:
    """Of the tokens after the first two."""
    logits = model(input_ids=torch.tensor([ids])).logits[0, 1:-1].log_softmax(-1)
    return float(logits.gather(-1, torch.tensor(ids[2:])[:, None]).sum())


def test_pairs_stay_together_where_few_are_measured() -> None:
    assert evenly(5, 2, 2) == [0, 1, 4, 5] and evenly(3, 9) == [0, 1, 2] and evenly(0, 4, 2) == []
