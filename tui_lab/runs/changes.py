"""What changed in a recipe between two attempts at a run, and whether it matters. Every attempt keeps the
recipe it used in ``recipes/``, so that the course of a run can be told afterwards, and so that a change by
hand is noticed as one by ``tui-lab resume --set`` is. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.recipes.recipe import Recipe, read_recipe
from tui_lab.runs.event_parts import RecipeChange
from tui_lab.runs.folder import Run

Weight = Literal["harmless", "course", "refused"]

#: The training itself goes on as it would have: what is shown and kept is other.
HARMLESS = {
    "allow_large": "it lets the model through, no more",
    "preset": "it is only a note",
    "logging_steps": "only how often the loss is written",
    "eval_steps": "only how often is validated; early stopping counts validations",
    "save_steps": "only how often is saved",
    "save_total_limit": "only how many checkpoints are kept",
    "score_rows": "the score at the end is measured on other rows than the one at the start",
    "sample_prompt": "only what is sampled",
    "sample_steps": "only how often is sampled",
    "sample_max_new_tokens": "only how long samples and scored answers get",
    "probe_share": "only how much is probed",
    "probe_suite": "the base is measured anew; earlier retention figures do not compare",
    "report_to": "only where figures are reported",
    "gradient_checkpointing": "the same gradients, in less memory and more time",
}
#: The checkpoint fits, and what comes is other than what would have come.
COURSE = {
    "learning_rate": "steps from here on have another size",
    "lr_scheduler_type": "the rate takes another course from here on",
    "warmup_steps": "the rate takes another course from here on",
    "num_train_epochs": "another end, and with it another course of the rate",
    "max_steps": "another end, and with it another course of the rate",
    "per_device_train_batch_size": "other sums a step, and the place in the data is counted in batches",
    "gradient_accumulation_steps": "other sums a step, and the place in the data is counted in batches",
    "num_processes": "other sums a step, and the place in the data is counted in batches",
    "accelerate_config": "the work is shared out in another way",
    "weight_decay": "weights are held back otherwise from here on",
    "max_grad_norm": "long gradients are shortened otherwise from here on",
    "lora_dropout": "other parts of the adapter are left out from here on",
    "max_length": "rows are cut elsewhere from here on",
    "compute_dtype": "sums are rounded otherwise from here on",
    "early_stopping_patience": "another rule ends the run and chooses what is kept",
    "stop_on_retention": "another rule may end the run",
    "retention_threshold": "another rule may end the run",
    "label_smoothing_factor": "another loss from here on; its curve has a step here",
    "focal_gamma": "another loss from here on; its curve has a step here",
    "kl_weight": "another loss from here on; its curve has a step here",
    "l2_to_start": "another loss from here on; its curve has a step here",
    "ewc_lambda": "another loss from here on; its curve has a step here",
}
#: Of these the rows of a step depend, whose number must stay for the same course.
_BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_processes")
#: What the rest is a matter of, for the sentence.
_DATA = (
    "data", "data_format", "chat_template", "validation_fraction", "max_rows", "deduplicate", "packing",
    "seed", "replay_fraction", "replay_data",
)  # fmt: skip


def describe(change: RecipeChange) -> str:
    """A change as a sentence."""
    effect = {"harmless": "it does not matter", "course": "it matters", "refused": "it is not possible"}
    values = f"{change.field}: {_shown(change.before)} → {_shown(change.after)}"
    return f"{values}; {effect[change.weight]}: {change.text}"


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def compare(before: Recipe, after: Recipe) -> list[RecipeChange]:
    """What differs, in the order of the fields."""
    old, new = before.model_dump(), after.model_dump()
    found = []
    for key in old:
        if old[key] == new[key]:
            continue
        weight, text = _judge(key, before, after)
        found.append(RecipeChange(key, old[key], new[key], weight, text))
    return found


def _judge(key: str, before: Recipe, after: Recipe) -> tuple[Weight, str]:
    if key in HARMLESS:
        return "harmless", HARMLESS[key]
    if key in _BATCH and before.effective_batch_size == after.effective_batch_size:
        return "harmless", f"the same {after.effective_batch_size} rows a step, summed in other portions"
    if key == "max_length" and after.packing:
        return "refused", "packed rows would be other ones, so the place in the data is lost; start a new run"
    if key in COURSE:
        return "course", COURSE[key]
    if key in _DATA:
        return "refused", (
            "the rows, their order or what is held out would be other, and rows held out before could be "
            "trained on; start a new run"
        )
    return "refused", "the checkpoint would not fit; start a new run"


def refuse(found: Sequence[RecipeChange]) -> None:
    """Raises LabError when a checkpoint cannot be gone on from after these changes."""
    refused = [describe(change) for change in found if change.weight == "refused"]
    if refused:
        raise LabError("; ".join(refused))


# --------------------------------------------------------------------------------------------------
# the recipes that were used


def _kept(run: Run, attempt: int) -> Path:
    return run.path / "recipes" / f"attempt-{attempt:04d}.toml"


def save_used(run: Run, recipe: Recipe, attempt: int) -> None:
    """Keeps the recipe that an attempt uses. Raises OSError."""
    path = _kept(run, attempt)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, recipe.to_toml())


def last_used(run: Run, attempt: int) -> Recipe | None:
    """The recipe of the newest attempt before ``attempt``; None when none was kept or it cannot be read (a
    folder of an older lab)."""
    for number in range(attempt - 1, 0, -1):
        try:
            return read_recipe(_kept(run, number))
        except LabError:
            continue
    return None
