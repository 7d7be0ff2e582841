"""The loss of a recipe that asks for more than cross-entropy: another loss per token, learned task weights,
and penalties on the distance from the base.

Log-probabilities of labels come from trl's fused output layer, hidden states from a hook before it; the
arithmetic is in :mod:`.losses` and :mod:`.regularise`. Other recipes have no objective, and trl's own loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tui_lab.data.rows import TokenRow
from tui_lab.data.store import TokenRows
from tui_lab.recipes.recipe import Recipe
from tui_lab.training import losses, packed_attention, preferences, regularise
from tui_lab.training.micro_batches import MISMATCHED, WHOLE, PartShare
from tui_lab.training.rng import preserve_rng_state
from tui_lab.training.types import Figure, Inputs, Model

#: The task of rows without one: general rows mixed into a data set with tasks.
NO_TASK = "general"
#: Learning rate of the task weights: a handful of numbers around 1, whatever the model's rate.
SIGMA_RATE = 1e-2
#: Columns of a batch that the backbone takes.
_BACKBONE_COLUMNS = (
    *("input_ids", "attention_mask", "position_ids"),
    *("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"),
)
_FILE = "task_weights.safetensors"


def is_needed(recipe: Recipe) -> bool:
    """Whether a recipe asks for more than cross-entropy."""
    return bool(
        recipe.label_smoothing_factor
        or recipe.focal_gamma
        or recipe.uncertainty_weighting
        or recipe.class_weights != "none"
        or recipe.kl_weight
        or recipe.l2_to_start
        or recipe.ewc_lambda
        or recipe.preference_loss != "none"
    )


def task_names(rows: Sequence[TokenRow]) -> list[str]:
    """The tasks of rows, sorted."""
    tasks = rows.tasks() if isinstance(rows, TokenRows) else [row.get("task") for row in rows]
    return sorted({task or NO_TASK for task in tasks})


def task_numbers(rows: Sequence[TokenRow], tasks: Sequence[str]) -> list[int]:
    """The index of each row's task in ``tasks``."""
    names = rows.tasks() if isinstance(rows, TokenRows) else [row.get("task") for row in rows]
    return [tasks.index(name or NO_TASK) for name in names]


@dataclass
class _ForwardOutputs:
    """Outputs of one forward: hidden states before the output layer (B, T, H), trl's fused output."""

    states: list[Tensor] = field(default_factory=list)
    outputs: list[Model] = field(default_factory=list)


class Objective:
    """Computes the loss of batches. ``model``: the trainer's (peft's or plain), before the first step;
    ``frozen``: a copy of the base, for KL with full tuning; ``starts_trained``: the trainable weights are not
    those of the base but an earlier run's, which a preference loss is compared with; ``tasks``: names of the
    tasks, for their weights; ``class_weights``: by the number of a row's class, which batches have as their
    task."""

    def __init__(
        self,
        recipe: Recipe,
        model: Model,
        frozen: Model = None,
        tasks: Sequence[str] = (),
        starts_trained: bool = False,
        class_weights: Sequence[float] = (),
    ) -> None:
        self._recipe, self._model, self._frozen = recipe, model, frozen
        self._peft = model if hasattr(model, "peft_config") else None
        self._plain = model.get_base_model() if self._peft is not None else model
        self.tasks = list(tasks)
        self._class_weights = torch.tensor(class_weights) if class_weights else None
        #: Whether models get the mask of padded rows (:attr:`.trainer_seams.SeamTrainer.row_mask`).
        self.row_mask = True
        self.raw_sigma: torch.nn.Parameter | None = None
        if recipe.uncertainty_weighting:
            start = torch.full((len(self.tasks),), losses.raw_sigma_of(1.0))
            self.raw_sigma = torch.nn.Parameter(start.to(self._plain.device))
        has_penalty = recipe.l2_to_start or recipe.ewc_lambda
        self.changes = regularise.weight_changes(model) if has_penalty else {}
        self.importance: dict[str, Tensor] = {}
        #: Terms of the latest loss by name, in nats per token (penalties without unit).
        self.parts: dict[str, Figure] = {}
        self._start: dict[str, Tensor] = {}
        if starts_trained and recipe.preference_loss in ("dpo", "kto") and self._peft is not None:
            self._start = {
                name: weight.detach().clone()
                for name, weight in model.named_parameters()
                if weight.requires_grad
            }

    def measure_importance(
        self, rows: Sequence[TokenRow], report: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        """Measures the Fisher information of the weights before training on general rows, for EWC;
        ``report`` gets the rows done of all."""
        begun, total = itertools.count(), min(len(rows), regularise.FISHER_ROWS)

        def before_row() -> bool:
            report(next(begun), total)
            return False

        with preserve_rng_state(self._model):
            seed = self._recipe.seed
            self.importance = regularise.fisher(self._model, self.changes, rows, seed, before_row)

    # ------------------------------------------------------------------ the loss

    def loss(
        self,
        compute: Callable[[], Tensor],
        inputs: Inputs,
        tasks: Tensor | None,
        *,
        tokens: Tensor | int | None,
        accumulation: int,
        share: PartShare = WHOLE,
        preference: Inputs | None = None,
    ) -> Tensor:
        """The loss of a batch, a scalar. ``compute`` computes trl's; ``inputs``: columns of (B, T);
        ``preference``: what a preference loss needs besides (:data:`.preferences.BATCH_COLUMNS`); ``tasks``
        (B,): indices into :attr:`tasks`; ``tokens``: trained tokens of the whole step, None when the loss is
        a mean over the batch; ``accumulation``: number of batches (or parts) in the step; ``share``: weight
        of this part."""
        recipe = self._recipe
        base_states = self._base_states(inputs) if recipe.kl_weight else None
        with self._record_forward() as seen:
            loss = compute()
        [states], [outputs] = seen.states, seen.outputs
        head = losses.output_head(self._plain)
        self.parts = {}
        if recipe.preference_loss != "none":
            found = self.preference(outputs, inputs, preference or {})
            self.parts |= found.parts
            loss = found.loss * share.rows / accumulation
        elif (
            recipe.label_smoothing_factor
            or recipe.focal_gamma
            or recipe.uncertainty_weighting
            or self._class_weights is not None
        ):
            loss = self._task_loss(states, outputs, head, tasks, tokens, accumulation, share)
        if base_states is not None:
            distance = self._distance(states, base_states, head, inputs)
            self.parts["kl_to_base"] = distance.detach()
            loss = loss + recipe.kl_weight * share.tokens * distance / accumulation
        if recipe.l2_to_start:
            term = regularise.l2(self.changes).to(loss.device)
            self.parts["l2_to_start"] = term.detach()
            loss = loss + recipe.l2_to_start * term / accumulation
        if recipe.ewc_lambda and self.importance:
            term = regularise.ewc(self.changes, self.importance).to(loss.device)
            self.parts["ewc"] = term.detach()
            loss = loss + recipe.ewc_lambda * term / accumulation
        return loss

    def preference(self, outputs: Any, inputs: Inputs, more: Inputs) -> preferences.PreferenceLoss:
        """The preference loss of a batch, a mean over its pairs or answers. Without mismatched answers in
        ``more`` the divergence of kto counts as 0."""

        reference = self._reference_log_probability

        def kl() -> Tensor:
            if MISMATCHED not in more:
                return torch.zeros((), device=self._plain.device)
            batch = more[MISMATCHED]
            head = losses.output_head(self._plain)
            now = preferences.log_probability(self._present_states(batch), batch["labels"], head)
            return (now - reference(batch)).mean().clamp(min=0)

        length = inputs["labels"].shape[1] - 1
        return preferences.loss_of(
            self._recipe, outputs.log_probs[:, -length:], outputs.label_mask[:, -length:],
            {**inputs, **more}, reference, kl,
        )  # fmt: skip

    def _reference_log_probability(self, batch: Inputs) -> Tensor:
        """The summed log-probability (B,) of the labels of rows before training: under the base without
        adapter, under its frozen copy, or under the adapter that training began with."""
        head = losses.output_head(self._frozen if self._frozen is not None else self._plain)
        if self._start:
            with self._at_start():
                states = self._present_states(batch)
        else:
            states = self._base_states(batch)
        return preferences.log_probability(states, batch["labels"], head)

    def _present_states(self, batch: Inputs) -> Tensor:
        """Hidden states (B, T, H) of a batch under the present weights, without dropout and gradients."""
        read = {name: batch[name] for name in _BACKBONE_COLUMNS if name in batch}
        with preserve_rng_state(self._model):
            return _hidden_states(self._plain.base_model(**read, use_cache=False))

    @contextmanager
    def _at_start(self) -> Iterator[None]:
        """Inside, the adapter has the weights that training began with."""
        weights = dict(self._model.named_parameters()) if self._start else {}
        now = {name: weights[name].data for name in self._start}
        for name, start in self._start.items():
            weights[name].data = start
        try:
            yield
        finally:
            for name, data in now.items():
                weights[name].data = data

    def _task_loss(
        self,
        states: Tensor,
        outputs: Any,
        head: losses.OutputHead,
        tasks: Tensor | None,
        tokens: Tensor | int | None,
        accumulation: int,
        share: PartShare,
    ) -> Tensor:
        recipe, mask = self._recipe, outputs.label_mask  # (B, T - 1)
        log_probs = outputs.log_probs  # (B, T - 1), 0 where nothing is trained
        if recipe.label_smoothing_factor:
            places = mask.nonzero(as_tuple=True)  # once: a GPU waits for it
            spread = losses.mean_negative_log_probability(states[:, :-1][places], head)
            smoothed = losses.label_smoothed(log_probs[places], spread, recipe.label_smoothing_factor)
            each = torch.zeros_like(log_probs).index_put(places, smoothed.to(log_probs.dtype))
        elif recipe.focal_gamma:
            each = losses.focal(log_probs, recipe.focal_gamma)
        else:
            each = -log_probs
        if self._class_weights is not None and tasks is not None:
            self._class_weights = self._class_weights.to(each.device)
            each = each * self._class_weights[tasks.to(each.device)][:, None]
        if self.raw_sigma is None or tasks is None:
            count = mask.sum() if tokens is None else tokens
            return each.sum() / torch.as_tensor(count).clamp(min=1)
        of_token, each = tasks.to(mask.device)[:, None].expand_as(mask)[mask], each[mask]  # (n,)
        present = of_token.unique()
        if not len(present):  # a part without trained tokens
            return each.sum() + 0 * self.raw_sigma.sum()
        means = torch.stack([each[of_token == task].mean() for task in present])
        sigmas = torch.nn.functional.softplus(self.raw_sigma.detach())[present]
        figures = torch.stack([means.detach(), sigmas]).tolist()  # one transfer from the device
        for task, mean, sigma in zip(present.tolist(), *figures, strict=True):
            self.parts[f"task {self.tasks[task]}"] = mean
            self.parts[f"sigma {self.tasks[task]}"] = sigma
        counted = means.new_tensor([share.tasks.get(task, 1.0) for task in present.tolist()])
        return losses.weighted_by_uncertainty(means, self.raw_sigma[present], counted) / accumulation

    def _distance(self, states: Tensor, base: Tensor, head: losses.OutputHead, inputs: Inputs) -> Tensor:
        """Mean KL(base ‖ model) over all tokens of the batch without padding, a scalar. ``states``, ``base``:
        hidden states (B, T, H) of both."""
        length = inputs["input_ids"].shape[1]
        states = states[:, -length:]  # virtual tokens come first
        mask = inputs.get("attention_mask")
        if mask is None:
            states, base = states.flatten(0, 1), base.flatten(0, 1)
        else:
            real = mask.nonzero(as_tuple=True)  # once: a GPU waits for it
            states, base = states[real], base[real]
        of_base = losses.output_head(self._frozen) if self._frozen is not None else head
        return losses.kl_from_base(states, head, base, of_base).mean()

    # ------------------------------------------------------------------ forward passes

    @contextmanager
    def _record_forward(self) -> Iterator[_ForwardOutputs]:
        seen = _ForwardOutputs()

        def states(_module: object, _args: object, output: Any) -> None:
            seen.states.append(_hidden_states(output))

        handles = [
            self._plain.base_model.register_forward_hook(states),
            self._model.register_forward_hook(lambda _, __, output: seen.outputs.append(output)),
        ]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    def _base_states(self, inputs: Inputs) -> Tensor:
        """Hidden states (B, T, H) of the base for a batch: of the frozen copy, or of the model without
        adapter."""
        read = {name: inputs[name] for name in _BACKBONE_COLUMNS if name in inputs}
        if not self.row_mask:
            read.pop("attention_mask", None)
        if self._frozen is not None:
            name = packed_attention.active(self._plain)
            with torch.no_grad(), packed_attention.attention_without_mask(self._frozen, name):
                return _hidden_states(self._frozen.base_model(**read, use_cache=False))
        assert self._peft is not None
        # peft makes adapters trainable when it enables them again, including frozen ones
        trained = [weight for weight in self._model.parameters() if weight.requires_grad]
        try:
            with preserve_rng_state(self._model), self._peft.disable_adapter():
                return _hidden_states(self._plain.base_model(**read, use_cache=False))
        finally:  # also when memory ran out: the step is repeated
            for weight in self._model.parameters():
                weight.requires_grad_(False)
            for weight in trained:
                weight.requires_grad_(True)

    # ------------------------------------------------------------------ learned task weights

    def save(self, folder: Path) -> None:
        """Writes the learned task weights into a checkpoint."""
        if self.raw_sigma is not None:
            save_file({"raw_sigma": self.raw_sigma.detach().cpu()}, folder / _FILE)

    def load(self, folder: Path) -> None:
        """Restores them, where the checkpoint has any."""
        if self.raw_sigma is not None and (folder / _FILE).is_file():
            self.raw_sigma.data.copy_(load_file(folder / _FILE)["raw_sigma"])


def _hidden_states(output: Any) -> Tensor:
    """The hidden states (B, T, H) in the output of a backbone."""
    states: Tensor = output[0] if isinstance(output, tuple) else output.last_hidden_state
    return states
