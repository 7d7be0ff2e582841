"""Differences between the recipes of two attempts at a run, and their effect. Every attempt saves its recipe
in ``recipes/``, so that the history of a run is known, and changes made by hand in ``recipe.toml`` are found
as well as those of ``tui-lab resume --set``. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.recipes.recipe import Recipe, read_recipe
from tui_lab.runs.event_parts import RecipeChange
from tui_lab.runs.folder import Run

ChangeWeight = Literal["harmless", "course", "refused"]

#: Fields that do not affect the training, only what is shown and saved.
HARMLESS = {
    "allow_large": "it only allows the model",
    "preset": "it is only a label",
    "logging_steps": "only how often the loss is logged",
    "eval_steps": "only the interval of validations; early stopping counts validations",
    "validation_rows": "validation losses are of other rows than before",
    "save_steps": "only the interval of checkpoints",
    "save_total_limit": "only the number of checkpoints kept",
    "score_rows": "the final score is measured on other rows than the first one",
    "sample_prompt": "only the prompt of the samples",
    "sample_steps": "only the interval of samples",
    "sample_max_new_tokens": "only the length of samples and scored answers",
    "probe_share": "only the share of time spent on probes",
    "probe_suite": "the base is measured again; earlier retention values are not comparable",
    "report_to": "only where metrics are reported",
    "gradient_checkpointing": "the same gradients, with less memory and more time",
    "packed_attention": "the same rows stay apart in another way",
    "fill_card": "the same rows a step, divided in another way",
    "pinned": "the same rows a step, divided in another way",
    "liger_kernel": "the same layers, computed by other kernels",
}
#: Fields that change the rest of the training; the checkpoint still fits.
COURSE = {
    "learning_rate": "steps have another size from here on",
    "lr_scheduler_type": "another schedule of the learning rate from here on",
    "warmup_steps": "another schedule of the learning rate from here on",
    "num_train_epochs": "another number of steps, and so another schedule of the learning rate",
    "max_steps": "another number of steps, and so another schedule of the learning rate",
    "per_device_train_batch_size": "another batch size; the position in the data is counted in batches",
    "gradient_accumulation_steps": "another batch size; the position in the data is counted in batches",
    "num_processes": "another batch size; the position in the data is counted in batches",
    "accelerate_config": "the work is distributed in another way",
    "device": "another device from here on: results differ by rounding",
    "deterministic": "other kernels from here on: results differ by rounding",
    "weight_decay": "weights decay at another rate from here on",
    "max_grad_norm": "gradients are clipped at another norm from here on",
    "lora_dropout": "another share of the adapter's inputs is dropped from here on",
    "max_length": "rows are truncated at another length from here on",
    "compute_dtype": "another precision from here on",
    "early_stopping_patience": "another rule ends the run and selects the checkpoint",
    "stop_on_retention": "another rule may end the run",
    "retention_threshold": "another rule may end the run",
    "preference_beta": "another loss from here on; its curve jumps here",
    "simpo_gamma": "another loss from here on; its curve jumps here",
    "chosen_weight": "another loss from here on; its curve jumps here",
    "undesirable_weight": "another loss from here on; its curve jumps here",
    "label_smoothing_factor": "another loss from here on; its curve jumps here",
    "focal_gamma": "another loss from here on; its curve jumps here",
    "class_weights": "another loss from here on; its curve jumps here",
    "kl_weight": "another loss from here on; its curve jumps here",
    "l2_to_start": "another loss from here on; its curve jumps here",
    "ewc_lambda": "another loss from here on; its curve jumps here",
}
#: Fields whose product is the number of rows a step.
_BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_processes")
#: Fields that determine the rows; all other fields determine the shape of the checkpoint.
_DATA = (
    "data", "data_format", "columns", "chat_template", "thinking", "validation_fraction", "max_rows",
    "deduplicate", "packing", "seed", "replay_fraction", "replay_data", "preference_loss", "mixture_by",
    "mixture_sampling", "self_distillation",
)  # fmt: skip


def describe(change: RecipeChange) -> str:
    """A change as a sentence."""
    effect = {
        "harmless": "no effect on the training",
        "course": "changes the training",
        "refused": "not possible",
    }
    values = f"{change.field}: {_value_text(change.before)} → {_value_text(change.after)}"
    return f"{values}; {effect[change.weight]}: {change.text}"


def _value_text(value: object) -> str:
    return repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def compare(before: Recipe, after: Recipe) -> list[RecipeChange]:
    """The fields that differ, in the order of the schema."""
    old, new = before.model_dump(), after.model_dump()
    found = []
    for key in old:
        if old[key] == new[key]:
            continue
        weight, text = _effect(key, before, after)
        found.append(RecipeChange(key, old[key], new[key], weight, text))
    return found


def _effect(key: str, before: Recipe, after: Recipe) -> tuple[ChangeWeight, str]:
    if key in HARMLESS:
        return "harmless", HARMLESS[key]
    if key in _BATCH and before.effective_batch_size == after.effective_batch_size:
        return "harmless", f"the same {after.effective_batch_size} rows a step, divided in another way"
    if key == "max_length" and after.packing:
        return (
            "refused",
            "rows would be packed differently, so the position in the data is lost; start a new run",
        )
    if key in COURSE:
        return "course", COURSE[key]
    if key in _DATA:
        return "refused", (
            "the rows, their order or the held-out rows would change, and rows held out before could be "
            "trained on; start a new run"
        )
    return "refused", "the checkpoint would not fit; start a new run"


def refuse(found: Sequence[RecipeChange]) -> None:
    """Raises LabError when a run cannot be resumed after these changes."""
    refused = [describe(change) for change in found if change.weight == "refused"]
    if refused:
        raise LabError("; ".join(refused))


# --------------------------------------------------------------------------------------------------
# recipes of attempts


def _recipe_path(run: Run, attempt: int) -> Path:
    return run.path / "recipes" / f"attempt-{attempt:04d}.toml"


def save_used(run: Run, recipe: Recipe, attempt: int) -> None:
    """Saves the recipe of an attempt. Raises OSError."""
    path = _recipe_path(run, attempt)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, recipe.to_toml())


def last_used(run: Run, attempt: int) -> Recipe | None:
    """The recipe of the newest attempt before ``attempt``; None when none was saved (a folder of an older
    lab) or none can be read."""
    for number in range(attempt - 1, 0, -1):
        try:
            return read_recipe(_recipe_path(run, number))
        except LabError:
            continue
    return None
