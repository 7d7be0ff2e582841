"""Losses on preferences: pure functions over log-probabilities of answers, and the batches they need.

Sources: DPO (Rafailov et al. 2023), ORPO (Hong et al. 2024), KTO (Ethayarajh et al. 2024), SimPO (Meng et al.
2024); computed as trl's DPOTrainer, ORPOTrainer, KTOTrainer and CPOTrainer (``loss_type="simpo"``) do.
``chosen_weight`` adds the likelihood of chosen answers as trl's loss ``sft`` and ``cpo_alpha`` do (RPO, Pang
et al. 2024; CPO, Xu et al. 2024). A batch has the two sides of a pair one after the other: chosen answers in
even rows, rejected ones in odd rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from torch.nn.functional import logsigmoid

from tui_lab.data.preferences import DESIRABLE
from tui_lab.data.store import TokenRows
from tui_lab.recipes.recipe import Recipe
from tui_lab.training.losses import OutputHead
from tui_lab.training.micro_batches import MISMATCHED, PAIR_SIDE
from tui_lab.training.types import Inputs

#: Columns of a row: its rejected side, and whether its answer is desirable.
REJECTED_IDS, REJECTED_LABELS, VERDICT = "rejected_input_ids", "rejected_labels", "verdict"
#: Column of a batch: 1 where a token belongs to an answer (B, T).
ANSWER_MASK = "answer_mask"
#: Columns of rows that reach the collator although the model does not take them.
ROW_COLUMNS = (REJECTED_IDS, REJECTED_LABELS, VERDICT)
#: Entries of a batch that are not for the model.
BATCH_COLUMNS = (VERDICT, ANSWER_MASK, MISMATCHED, PAIR_SIDE)
#: Figures of a batch, each a mean over its pairs or answers.
PARTS = (
    "reward_margin", "reward_accuracy", "chosen_log_probability", "rejected_log_probability", "kl_estimate",
)  # fmt: skip
#: Positions whose logits are computed at a time without gradients.
_CHUNK = 1024
_IGNORED = -100
Collator = Callable[[list[Inputs]], Inputs]


@dataclass(frozen=True)
class PreferenceLoss:
    """The loss of a batch, a scalar, its figures by name (means over the pairs or answers), and of each
    answer (B,) its reward and its log-probability."""

    loss: Tensor
    parts: dict[str, Tensor]
    rewards: Tensor
    sums: Tensor


def figures(rewards: Tensor, sums: Tensor, desirable: Tensor | None) -> dict[str, Tensor]:
    """What is followed of answers, from their rewards and log-probabilities (B,). ``desirable`` (B,): the
    verdicts; None where chosen and rejected answers follow one another. An accuracy is the share of pairs, or
    of all good answers with all bad ones, where the better answer has the higher reward."""
    if desirable is None:
        good, bad, above = rewards[0::2], rewards[1::2], rewards[0::2] > rewards[1::2]
        sides = sums[0::2], sums[1::2]
    else:
        good, bad = rewards[desirable], rewards[~desirable]
        above, sides = good[:, None] > bad[None], (sums[desirable], sums[~desirable])
    found = {
        f"{side}_log_probability": each.mean()
        for side, each in zip(("chosen", "rejected"), sides, strict=True)
        if len(each)
    }
    if len(good) and len(bad):
        found |= {"reward_margin": good.mean() - bad.mean(), "reward_accuracy": above.float().mean()}
    return found


# --------------------------------------------------------------------------------------------------
# losses


def simpo(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    """SimPO of each pair (P,), from mean log-probabilities of a token (P,)."""
    return -logsigmoid(beta * (chosen - rejected) - gamma)


def orpo(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """The odds-ratio term of ORPO of each pair (P,), from mean log-probabilities of a token (P,)."""
    log_odds = (chosen - rejected) - (_log1mexp(chosen) - _log1mexp(rejected))
    return -beta * logsigmoid(log_odds)


def kto(ratios: Tensor, desirable: Tensor, kl: Tensor, beta: float, undesirable_weight: float) -> Tensor:
    """KTO of each answer (B,). ``ratios`` (B,): log-probability under the model minus that under the
    reference; ``desirable`` (B,) bool; ``kl``: the estimate of the divergence from the reference, at least
    0."""
    good = 1 - torch.sigmoid(beta * (ratios - kl))
    bad = undesirable_weight * (1 - torch.sigmoid(beta * (kl - ratios)))
    return torch.where(desirable, good, bad)


def _log1mexp(values: Tensor) -> Tensor:
    """log(1 − exp(x)) for x < 0, exact on both sides of −log 2 (Mächler 2012)."""
    return torch.where(
        values < -math.log(2), torch.log1p(-torch.exp(values)), torch.log(-torch.expm1(values))
    )


def loss_of(
    recipe: Recipe,
    log_probs: Tensor,
    mask: Tensor,
    inputs: Inputs,
    reference: Callable[[Inputs], Tensor],
    kl: Callable[[], Tensor],
) -> PreferenceLoss:
    """The loss of a batch by the recipe. ``log_probs``, ``mask`` (B, T − 1): of the labels, and where there
    are any; ``reference`` returns summed log-probabilities (B,) of the same rows under the reference, ``kl``
    the estimate for kto."""
    if recipe.preference_loss == "kto":
        return _verdicts(recipe, summed(log_probs, mask), inputs, reference, kl)
    answers = mask
    if ANSWER_MASK in inputs:
        answers = mask & inputs[ANSWER_MASK][:, 1:].bool()
    sums, lengths = summed(log_probs, answers), answers.sum(-1).clamp(min=1)
    beta = recipe.preference_beta
    likelihood_weight = 1.0 if recipe.preference_loss == "orpo" else recipe.chosen_weight
    if recipe.preference_loss == "dpo":
        rewards = beta * (sums - reference(inputs))
        each = -logsigmoid(rewards[0::2] - rewards[1::2])
    else:
        means = sums / lengths
        rewards = beta * means
        if recipe.preference_loss == "simpo":
            each = simpo(means[0::2], means[1::2], beta, recipe.simpo_gamma)
        else:
            each = orpo(means[0::2], means[1::2], beta)
    loss = each.mean()
    if likelihood_weight:
        tokens = mask[0::2].sum().clamp(min=1)
        loss = loss - likelihood_weight * summed(log_probs[0::2], mask[0::2]).sum() / tokens
    rewards, sums = rewards.detach(), sums.detach()
    return PreferenceLoss(loss, figures(rewards, sums, None), rewards, sums)


def _verdicts(
    recipe: Recipe,
    sums: Tensor,
    inputs: Inputs,
    reference: Callable[[Inputs], Tensor],
    kl: Callable[[], Tensor],
) -> PreferenceLoss:
    desirable = inputs[VERDICT].bool().to(sums.device)
    ratios, divergence = sums - reference(inputs), kl()
    each = kto(ratios, desirable, divergence, recipe.preference_beta, recipe.undesirable_weight)
    rewards, sums = recipe.preference_beta * ratios.detach(), sums.detach()
    parts = {"kl_estimate": divergence, **figures(rewards, sums, desirable)}
    return PreferenceLoss(each.mean(), parts, rewards, sums)


def summed(log_probs: Tensor, mask: Tensor) -> Tensor:
    """The log-probability of each row (B,), from those of its labels (B, T − 1)."""
    return log_probs.float().masked_fill(~mask, 0.0).sum(-1)


@torch.no_grad()
def log_probability(states: Tensor, labels: Tensor, head: OutputHead) -> Tensor:
    """The summed log-probability (B,) of the labels (B, T) of rows, from hidden states (B, T, H); the logits
    exist for a piece of the positions only."""
    mask = labels[:, 1:] != _IGNORED
    hidden, targets = states[:, :-1][mask], labels[:, 1:][mask]
    found = [
        _label_log_probs(hidden[at : at + _CHUNK], targets[at : at + _CHUNK], head)
        for at in range(0, len(hidden), _CHUNK)
    ]
    each = hidden.new_zeros(mask.shape, dtype=torch.float32)
    if found:
        each[mask] = torch.cat(found)
    return each.sum(-1)


def _label_log_probs(hidden: Tensor, targets: Tensor, head: OutputHead) -> Tensor:
    logits = (
        torch.nn.functional.linear(hidden.to(head.weight.dtype), head.weight, head.bias).float() * head.scale
    )
    if head.softcap:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    chosen = logits.gather(-1, targets[:, None]).squeeze(-1)
    return chosen - logits.logsumexp(-1)


# --------------------------------------------------------------------------------------------------
# batches


def as_pairs(rows: TokenRows) -> Dataset:
    """Chosen and rejected rows, which follow one another, as the columns of one data set."""
    chosen, rejected = (rows.chosen(range(side, len(rows), 2)).dataset() for side in (0, 1))
    renamed = rejected.rename_columns({"input_ids": REJECTED_IDS, "labels": REJECTED_LABELS})
    joined: Dataset = concatenate_datasets([chosen, renamed], axis=1)
    return joined


def as_verdicts(rows: TokenRows) -> Dataset:
    """Rows with the column of their verdicts."""
    dataset: Dataset = rows.dataset()
    return dataset.add_column(VERDICT, [int(task == DESIRABLE) for task in rows.tasks()])


class PreferenceCollator:
    """Makes a batch of pairs, chosen and rejected in turn, or of answers with their verdicts."""

    def __init__(self, collator: Collator, loss: str) -> None:
        self._collator, self._loss = collator, loss

    def __call__(self, rows: list[Inputs]) -> Inputs:
        if not rows[0].keys() & {REJECTED_IDS, VERDICT}:
            return self._collator(rows)  # held-out rows, whose likelihood is measured
        if self._loss == "kto":
            return self._with_verdicts(rows)
        sides = [
            side
            for row in rows
            for side in (
                {"input_ids": row["input_ids"], "labels": row["labels"]},
                {"input_ids": row[REJECTED_IDS], "labels": row[REJECTED_LABELS]},
            )
        ]
        batch = self._collator(sides)
        batch[PAIR_SIDE] = torch.arange(len(sides)) % 2
        if self._loss == "orpo":  # its likelihood term includes the prompt
            batch[ANSWER_MASK] = (batch["labels"] != _IGNORED).long()
            batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, _IGNORED)
        return batch

    def _with_verdicts(self, rows: list[Inputs]) -> Inputs:
        plain = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows]
        batch = self._collator(plain)
        batch[VERDICT] = torch.tensor([int(row[VERDICT]) for row in rows])
        batch[MISMATCHED] = self._collator(mismatched(plain))
        return batch


def mismatched(rows: Sequence[Mapping[str, Any]]) -> list[Inputs]:
    """Each prompt with the answer of the row before it: what the divergence from the reference is estimated
    from. The answer of a row begins with its first label."""
    found = []
    for at, row in enumerate(rows):
        other = rows[at - 1]
        prompt = list(row["input_ids"])[: _answer_start(row["labels"])]
        start = _answer_start(other["labels"])
        answer, labels = list(other["input_ids"])[start:], list(other["labels"])[start:]
        found.append({"input_ids": prompt + answer, "labels": [_IGNORED] * len(prompt) + labels})
    return found


def _answer_start(labels: Sequence[int]) -> int:
    return next((at for at, label in enumerate(labels) if label != _IGNORED), len(labels))
