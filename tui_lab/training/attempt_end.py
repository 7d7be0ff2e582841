"""The last half of an attempt: saves what was trained, measures it, and writes the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tui_lab.core.files import atomic_folder
from tui_lab.data import templates
from tui_lab.forecast import cost
from tui_lab.models.loading import DTYPES
from tui_lab.runs import inputs, notes
from tui_lab.runs.schema import EndEvent, PhaseEvent, SavedEvent
from tui_lab.training import adapters, attempt_fill, run_speed
from tui_lab.training.attempt_records import AttemptContext, TrainingSetup
from tui_lab.training.interruption import StopRequested, interruptible
from tui_lab.training.trainer import save_weights


def finish(context: AttemptContext, setup: TrainingSetup) -> int:
    """Saves, measures and writes the end. The exit status, 0."""
    trainer, recorder, recipe = setup.trainer, context.recorder, context.recipe
    step = trainer.state.global_step
    stopped = context.commands.stop_requested and step < setup.plan.total_steps
    saving = "the adapter" if recipe.is_adapter else "the model"
    context.events.write(PhaseEvent(name="saving", detail=saving))
    if not recipe.is_adapter and setup.recipe.compute_dtype == "bfloat16":
        trainer.model.to(DTYPES["bfloat16"])  # the weights are measured as they are saved
    state = trainer.accelerator.get_state_dict(trainer.model) if context.group.is_sharded else None
    skips = context.progress.skips
    path = save_result(context, setup, state) if context.group.is_main else None
    # the weights are those of the last step, or of the best validation where the recipe has a patience
    best_reloaded = trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint
    measured = recorder.validated_at == step and not best_reloaded and recipe.is_adapter
    if setup.data.prepared.validation and not measured:
        detail = "the saved weights, on the held-out rows"
        context.events.write(PhaseEvent(name="evaluating", detail=detail))
        with context.progress.skippable():
            recorder.write_validation(step, trainer.validation_loss(), "end")
    if path is None:
        return 0
    if not stopped and context.progress.skips == skips:
        with contextlib.suppress(StopRequested), interruptible(context), context.progress.skippable():
            context.probe.final_probe(trainer, bool(best_reloaded))
            if context.group.runs_evaluation:
                setup.evaluator.score(trainer, "end")
    context.telemetry.stop()
    _store_speed(context, setup, step)
    context.events.write(
        EndEvent(
            state="stopped" if stopped else "finished",
            step=step,
            message=_message(context, setup, stopped, context.progress.skips > skips),
            seconds=round(time.monotonic() - context.began_s, 1),
            train_loss=recorder.train_loss,
            validation_loss=recorder.validation_loss,
            acquisition=setup.evaluator.acquisition(),
            peak_memory=recorder.peak_memory,
            trained_s=round(recorder.trained_s, 2),
            probe=context.probe.cost,
            flops_per_token=setup.cost.flops_per_token,
            mfu=cost.mfu(recorder.mean_tok_per_s, setup.cost.flops_per_token or 0.0, setup.cost.peak_flops),
            energy_j=context.telemetry.energy_j,
            path=path.name,
        )
    )
    return 0


def _store_speed(context: AttemptContext, setup: TrainingSetup, step: int) -> None:
    """Stores the speed of the steps of this attempt for later forecasts, unless memory ran out: the steps
    were then in smaller parts than the recipe says."""
    if setup.trainer.ladder.state.parts > 1 or setup.trainer.ladder.state.tile_level:
        return
    resolved = setup.recipe
    run_speed.store(
        setup.filled.recipe,
        resolved.values,
        resolved.entry.shape,
        resolved.device,
        attempt_fill.facts_of(setup.data.prepared),
        run_speed.RunSpeed(
            context.recorder.mean_tok_per_s, step - context.from_step, notes.short_name(context.run)
        ),
    )


def stopped_before_training(context: AttemptContext) -> int:
    """Writes the end of an attempt that was stopped before its first step. What an earlier attempt saved
    stays, and nothing is measured. The exit status, 0."""
    context.telemetry.stop()
    step = context.from_step
    where = f"continuing from step {step}" if step else "the first step"
    context.events.write(
        EndEvent(
            state="stopped",
            step=step,
            message=f"stopped on request before {where}; it can be resumed",
            seconds=round(time.monotonic() - context.began_s, 1),
            energy_j=context.telemetry.energy_j,
        )
    )
    return 0


def _message(context: AttemptContext, setup: TrainingSetup, stopped: bool, skipped: bool) -> str:
    """Why the run ended before its last step, or without its last measurement; "" when it did not."""
    state, total = setup.trainer.state, setup.plan.total_steps
    if stopped:
        return f"stopped on request after step {state.global_step} of {total}; it can be resumed"
    if context.probe.stop_reason:
        advice = "a lower strength, or an earlier checkpoint, retains more"
        return f"stopped early: {context.probe.stop_reason}; {advice}"
    if state.global_step < total:
        best = state.best_global_step
        return f"stopped early: the validation loss was best at step {best}, whose weights are saved"
    return "the final evaluation was skipped" if skipped else ""


def save_result(
    context: AttemptContext, setup: TrainingSetup, state_dict: Mapping[str, Tensor] | None
) -> Path:
    """Saves the adapter or model with its tokenizer and chat template: the folder appears complete or not at
    all. ``state_dict``: gathered weights of a sharded model. Raises OSError."""
    recipe, model = context.recipe, setup.trainer.model
    path = context.run.adapter_path if recipe.is_adapter else context.run.model_path
    with atomic_folder(path) as partial:
        if adapters.changes_base_weights(recipe):
            initial = str(context.initial_adapter)
            model.save_pretrained(partial, path_initial_model_for_weight_conversion=initial)
        else:
            save_weights(model, partial, state_dict)
        setup.data.tokenizer.save_pretrained(partial)
        templates.save_settings(setup.data.tokenizer, partial)
        inputs.write_card(partial, context.run.id, recipe, setup.data.inputs)
    size = sum(file.stat().st_size for file in path.iterdir())
    what = "adapter" if recipe.is_adapter else "model"
    context.events.write(SavedEvent(path=path.name, what=what, bytes=size))
    return path
