"""The first half of an attempt: resolves the recipe, prepares data and model, builds the trainer."""

from __future__ import annotations

import math
import os
import platform
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from tui_lab.core.format import size
from tui_lab.core.versions import versions_of
from tui_lab.data import prompt_settings, replay, templates
from tui_lab.data.prepare import PreparedData
from tui_lab.data.prepared_cache import prepare_recipe
from tui_lab.data.prompt_settings import PromptSettings
from tui_lab.data.source_counts import source_names
from tui_lab.data.store import TokenRows
from tui_lab.forecast import cost, memory
from tui_lab.forecast.fill_card import Filled
from tui_lab.hardware.cuda_memory import memory_of_others
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog, download, dynamic_4bit, loading, module_stats, shapes, target_modules
from tui_lab.models.download import DownloadProgress
from tui_lab.recipes.mixture import short_name
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import METHODS_WITH_TARGETS, VALIDATIONS_A_RUN, resolve, validation_rows
from tui_lab.runs import stages
from tui_lab.runs.event_parts import CostFacts, DeviceRecord, LadderSettings
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import (
    ChoiceEvent,
    DataEvent,
    DownloadEvent,
    ForecastEvent,
    ModelEvent,
    PhaseEvent,
    PlanEvent,
    StartedEvent,
    WarningEvent,
)
from tui_lab.training import (
    adapters,
    attempt_fill,
    base_model,
    gpu_setup,
    packed_attention,
    regularise,
    run_inputs,
    self_distillation,
    start_weights,
    trackers,
)
from tui_lab.training.attempt_records import (
    AttemptContext,
    ResolvedRecipe,
    StepPlan,
    TrainingData,
    TrainingSetup,
)
from tui_lab.training.build_trainer import EncodedRows, TrainerHooks, build_trainer, evenly
from tui_lab.training.callbacks import OnTrainBegin
from tui_lab.training.class_weights import class_weights
from tui_lab.training.oom_ladder import Ladder
from tui_lab.training.samples import TaskEvaluator
from tui_lab.training.trainer import LabTrainer, save_weights
from tui_lab.training.trainer_config import steps_planned
from tui_lab.training.types import Model, Tokenizer

#: Libraries whose versions are recorded.
PROBED_ROWS = 1_000
RECORDED_LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets")
#: Seconds between two events of a download.
DOWNLOAD_EVENT_S = 2.0


class OnStep(Protocol):
    """What happens around the steps of a training."""

    def on_start(self, step: int) -> None:
        """Called with the step that training begins from."""

    def after_step(self, trainer: LabTrainer) -> None:
        """Called after each optimiser step."""


def prepare_training(context: AttemptContext, device: DeviceFacts, on_step: OnStep) -> TrainingSetup:
    """Everything before the first measurement, in order, with its events. Raises LabError."""
    recipe = resolve_recipe(context, device)
    download_model(context, recipe)
    _choose_unquantized(context, recipe)
    context.events.write(PhaseEvent(name="preparing_data", detail=short_name(context.recipe.data)))
    data = prepare_data(context, recipe)
    if context.recipe.self_distillation:
        data = self_distillation.apply(context, recipe, data)
    filled = attempt_fill.plan(context, recipe, data.prepared)
    write_forecast(context, recipe, data.prepared, filled.recipe)
    context.events.write(PhaseEvent(name="loading_model", detail=recipe.entry.label))
    trainer, run_cost = prepare_model(context, recipe, data, on_step, filled)
    validated: Any = trainer.eval_dataset
    return TrainingSetup(
        recipe=recipe,
        filled=filled,
        data=data,
        trainer=trainer,
        cost=run_cost,
        plan=plan_steps(context, trainer, run_cost, len(validated or ())),
        evaluator=TaskEvaluator(
            context.recipe, context.events, data.tokenizer, data.prepared, context.before, context.progress
        ),
    )


def resolve_recipe(context: AttemptContext, device: DeviceFacts) -> ResolvedRecipe:
    """Settles what the recipe leaves open, and writes each choice with its reason. Raises LabError."""
    events, recipe = context.events, context.recipe
    events.write(
        StartedEvent(
            pid=os.getpid(),
            host=platform.node(),
            versions=versions_of(RECORDED_LIBRARIES),
            device=DeviceRecord(device.type, device.name, device.memory_bytes, device.bf16),
            threads=device.threads,
        )
    )
    if (earlier := stages.check(recipe)) is not None:
        stage = 2 + len(list(stages.ancestors(earlier)))
        what = "full weights" if recipe.method == "full" else "adapter"
        reason = f"training goes on from the {what} of that run, with a new optimiser: stage {stage}"
        if recipe.frozen_rank:
            reason = (
                f"the adapter of that run (rank {recipe.frozen_rank}) stays as it is, and a new one of rank "
                f"{recipe.lora_r} is trained beside it; one adapter with both is saved: stage {stage}"
            )
        events.write(ChoiceEvent(field="from_run", value=earlier.id, reason=reason))
    entry = catalog.find(recipe.model, allow_large=recipe.allow_large)
    resolution = resolve(recipe, device, entry)
    for choice in resolution.reasons:
        events.write(ChoiceEvent(field=choice.field, value=choice.value, reason=choice.reason))
    gpu_setup.prepare_gpu(events, device, resolution.values)
    for text in resolution.warnings:
        events.write(WarningEvent(text=text))
    trackers.prepare(recipe, context.run)
    if context.group.is_sharded:
        reason = "no process has the whole model: samples, scores and retention probes are left out"
        events.write(ChoiceEvent(field="accelerate_config", value="sharded", reason=reason))
    source = loading.ModelSource(entry.loadable, recipe.revision)
    return ResolvedRecipe(device, entry, source, resolution)


def _report_download(context: AttemptContext, progress: DownloadProgress) -> None:
    context.events.write(
        DownloadEvent(
            name=progress.name,
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
            bytes_per_s=round(progress.bytes_per_s, 1),
        )
    )


def download_model(context: AttemptContext, resolved: ResolvedRecipe) -> None:
    """Downloads what is missing of the model, continued from an earlier attempt. Raises LabError."""

    source = resolved.source
    download.ensure(
        source.location, source.revision, partial(_report_download, context), interval_s=DOWNLOAD_EVENT_S
    )


def _choose_unquantized(context: AttemptContext, resolved: ResolvedRecipe) -> None:
    """Measures which layers NF4 leaves unquantised, where the recipe has a budget; the first process does for
    all. Raises LabError."""
    if not context.recipe.unquantized_budget:
        return

    def on_measure() -> None:
        detail = "the rounding of each layer is measured"
        context.events.write(PhaseEvent(name="loading_model", detail=detail))

    found = None
    if context.group.is_main:
        found = base_model.unquantized_modules(
            resolved.source, context.recipe, resolved.values, context.run.path, on_measure
        )
    found = context.group.broadcast(found)  # the others read its file
    if found is not None:
        event = ChoiceEvent(field="unquantized_modules", value=list(found.names), reason=str(found))
        context.events.write(event)


# --------------------------------------------------------------------------------------------------
# data


def prepare_data(context: AttemptContext, resolved: ResolvedRecipe) -> TrainingData:
    """Tokenizer and encoded rows, general rows mixed in where the recipe wants them. Raises LabError."""
    recipe = context.recipe
    tokenizer = templates.load_tokenizer(resolved.source.location, recipe.revision)
    name = short_name(recipe.data)

    report = context.progress.of("preparing_data", "rows")

    def on_progress(done: int, total: int) -> None:
        if total > done:
            return report(done, total)
        context.events.write(PhaseEvent(name="preparing_data", detail=f"{name}: {done:,} rows"))

    _fix_date(context, tokenizer)
    with download.reporting(partial(_report_download, context), DOWNLOAD_EVENT_S):
        prepared = prepare_recipe(recipe, tokenizer, resolved.max_length, on_progress, context.run.path)
        if context.group.is_main:
            templates.keep_with_run(tokenizer, context.run.path)
        general: replay.GeneralRows | None = None
        if recipe.replay_fraction:
            general = _mix_general_rows(context, tokenizer, prepared, resolved.max_length)
    digests = run_inputs.record(context, prepared, resolved.max_length)
    context.events.write(
        DataEvent(
            **msgspec.structs.asdict(prepared.summary),
            replay_rows=len(general.rows) if general else None,
            replay_source=general.source if general else None,
        )
    )
    for text in prepared.warnings:
        context.events.write(WarningEvent(text=text))
    return TrainingData(tokenizer, prepared, digests)


def _fix_date(context: AttemptContext, tokenizer: Tokenizer) -> None:
    """Sets the date that the chat template writes: that of the first attempt, so that a resumed run trains
    the same tokens."""
    began = context.before.started_at or time.time()
    templates.use_settings(tokenizer, PromptSettings(date=prompt_settings.date_of(began)))


def _mix_general_rows(
    context: AttemptContext, tokenizer: Tokenizer, prepared: PreparedData, max_length: int
) -> replay.GeneralRows:
    """Mixes general rows into the training rows of ``prepared``; returns them. Raises LabError."""
    recipe, task_rows = context.recipe, len(prepared.train)
    count = replay.rows_wanted(task_rows, recipe.replay_fraction)
    general = _general_rows(recipe, tokenizer, count, max_length, replay.max_trained_tokens(prepared.train))
    prepared.train = replay.mix(prepared.train, general.rows, recipe.seed)
    prepared.warnings += general.warnings
    reason = f"{len(general.rows):,} general rows from {general.source} with {task_rows:,} of the task"
    context.events.write(ChoiceEvent(field="replay_fraction", value=recipe.replay_fraction, reason=reason))
    return general


def _general_rows(
    recipe: Recipe, tokenizer: Tokenizer, count: int, max_length: int, trained: int
) -> replay.GeneralRows:
    """Rows of general text, for replay and for the Fisher information of EWC."""
    return replay.general_rows(
        recipe.replay_data, tokenizer, count, max_length=max_length, seed=recipe.seed, trained=trained
    )


def write_forecast(
    context: AttemptContext, resolved: ResolvedRecipe, prepared: PreparedData, recipe: Recipe
) -> None:
    """Writes the memory that the run is expected to take at its peak, with rows as long as its own."""
    shape = resolved.entry.shape
    if shape is None or not shapes.known(shape.model_type):
        return
    kind = "cuda" if resolved.device.type == "cuda" else "cpu"
    values = attempt_fill.with_real_length(resolved.values, recipe.packing, prepared)
    found = memory.forecast(shape, recipe, values, kind)
    context.events.write(
        ForecastEvent(
            parts={part.name: part.bytes for part in found.parts},
            total=found.total_bytes,
            low=found.low_bytes,
            high=found.high_bytes,
            device=kind,
        )
    )
    if resolved.device.memory_bytes and found.low_bytes > resolved.device.memory_bytes:
        has = f"{resolved.device.name} has {size(resolved.device.memory_bytes)}"
        text = (
            f"the run needs {size(found.total_bytes)} and {has}: `tui-lab forecast` lists what makes it fit"
        )
        context.events.write(WarningEvent(text=text))


# --------------------------------------------------------------------------------------------------
# model


def prepare_model(
    context: AttemptContext,
    resolved: ResolvedRecipe,
    data: TrainingData,
    on_step: OnStep,
    filled: Filled,
) -> tuple[LabTrainer, CostFacts]:
    """The trainer over the loaded model, and what a token costs. Raises LabError."""
    recipe, prepared = filled.recipe, data.prepared
    if resolved.entry.parameters is None:
        loading.check_size(resolved.source, recipe.allow_large)
    unquantized = dynamic_4bit.names_of(context.run.path)
    base = base_model.load_base(resolved.source, recipe, resolved.device, resolved.values, unquantized)
    if resolved.values.liger_kernel:
        _use_liger_kernel(context, base)
    base_stats = module_stats.module_stats(base)
    run_cost = _cost(recipe, resolved, resolved.entry.shape or module_stats.shape_of(base), prepared)
    context.probe.measure_base(
        base,
        data.tokenizer,
        # without validation rows the distance from the base is measured on training rows
        [row["input_ids"] for row in prepared.validation or prepared.train[:PROBED_ROWS]],
        trained_tokens=_tokens_to_train(recipe, prepared, resolved.max_length),
        compute_dtype=resolved.compute_dtype,
        device=resolved.device,
    )
    values = replace(resolved.values)
    if recipe.method in METHODS_WITH_TARGETS:
        # by the loaded model's own modules: the catalog does not know every architecture
        targets = target_modules.explain(
            base.config.model_type, recipe.target_modules, module_stats.linear_names(base)
        )
        values.target_modules, values.feedforward_modules = list(targets.modules), list(targets.feedforward)
    if values.packed_attention == "varlen" and (reason := packed_attention.why_not(base)):
        values.packed_attention = "mask"
        context.events.write(ChoiceEvent(field="packed_attention", value="mask", reason=reason))
    ladder = Ladder(recipe, values, context.events.write, memory_of_others)
    if context.group.size == 1 and context.before.ladder:
        ladder.resume(context.before.ladder[-1].after or LadderSettings())
    classes = None
    if recipe.class_weights != "none":
        classes = class_weights(prepared.train, data.tokenizer)
        context.events.write(ChoiceEvent(field="class_weights", value="balanced", reason=classes.text))
    trainer = build_trainer(
        recipe,
        base,
        data.tokenizer,
        EncodedRows(prepared.train, _validation_rows(context, recipe, prepared), classes),
        values,
        folder=context.run.checkpoints_path,
        device=resolved.device.type,
        hooks=TrainerHooks(
            start=lambda model: _load_start(recipe, model),
            callbacks=[context.recorder, OnTrainBegin(on_step.on_start)],
            after_step=on_step.after_step,
            ladder=ladder,
            group=context.group,
            warn=lambda text: context.events.write(WarningEvent(text=text)),
        ),
    )
    trainer.progress = context.progress
    names = source_names(prepared.summary.sources)
    context.recorder.validation_accuracy = lambda: trainer.validation_accuracy
    context.recorder.source_losses = lambda: {
        names[number]: loss for number, loss in trainer.source_losses.items()
    }
    context.recorder.preference_figures = lambda: trainer.held_out_figures
    if trainer.objective is not None and recipe.ewc_lambda:
        context.events.write(PhaseEvent(name="evaluating", detail="where general text is sensitive (EWC)"))
        length = resolved.max_length
        general = _general_rows(recipe, data.tokenizer, regularise.FISHER_ROWS, length, length)
        trainer.objective.measure_importance(general.rows, context.progress.of("evaluating", "rows"))
    attempt_fill.measure(context, resolved, filled, trainer)
    if adapters.changes_base_weights(recipe) and context.group.is_main:
        # saving needs the adapter before training, to convert the result to one for the original base
        save_weights(trainer.model, context.initial_adapter)
    context.events.write(
        ModelEvent(
            **asdict(base_stats),
            trainable=module_stats.count_trainable(trainer.model) - trainer.frozen_weights,
            chat_template_source=prepared.summary.template_source,
        )
    )
    return trainer, run_cost


def _validation_rows(context: AttemptContext, recipe: Recipe, prepared: PreparedData) -> TokenRows:
    """The held-out rows that validations measure, evenly out of all. An attempt that goes on measures as many
    as the one before, so that losses stay comparable."""
    size = recipe.sequences_per_row  # the sides of a pair stay together
    held_out, units, rows = prepared.validation, len(prepared.validation) // size, len(prepared.train) // size
    trained = float(recipe.max_steps * recipe.effective_batch_size) or rows * recipe.num_train_epochs
    count = validation_rows(recipe, units, trained)
    # of answers with a verdict the plan counts only the good ones
    if context.before.plan is not None and not recipe.validation_rows and recipe.preference_loss != "kto":
        count = min(units, context.before.plan.validation_rows or units)
    if count == units:
        return held_out
    reason = (
        f"{count:,} of {units:,} held-out {'pairs' if size > 1 else 'rows'} are measured in each validation"
    )
    context.events.write(ChoiceEvent(field="validation_rows", value=count, reason=reason))
    return held_out.chosen(evenly(units, count, size))


def _load_start(recipe: Recipe, model: Model) -> None:
    """Loads the weights that the recipe goes on from, if any. Raises LabError."""
    if recipe.from_run:
        start_weights.load_from_run(model, Run(Path(recipe.from_run)), recipe.frozen_rank)


def _use_liger_kernel(context: AttemptContext, base: Model) -> None:
    from tui_lab.training import liger

    if reason := liger.apply(base):
        context.events.write(ChoiceEvent(field="liger_kernel", value=False, reason=reason))


def _cost(
    recipe: Recipe, resolved: ResolvedRecipe, shape: shapes.Shape | None, prepared: PreparedData
) -> CostFacts:
    """Operations of a token; empty for an architecture whose layers are not known."""
    if shape is None:
        return CostFacts()
    rows = prepared.train
    tokens, trained = int(rows.lengths.sum()), int(rows.trained.sum())
    lengths = attempt_fill.facts_of(prepared).lengths
    length, _ = cost.attended_tokens(recipe, resolved.values, tokens / max(1, len(rows)), lengths)
    share = trained / max(1, tokens)
    figures = cost.flops_figures(shape, recipe, resolved.device, resolved.values, length, share)
    return CostFacts(**figures._asdict())


def _tokens_to_train(recipe: Recipe, prepared: PreparedData, max_length: int) -> int:
    """About how many tokens the whole run reads."""
    tokens = int(prepared.train.lengths.sum())
    if not recipe.max_steps:
        return round(tokens * recipe.num_train_epochs)
    row_tokens = max_length if recipe.packing else tokens / max(1, prepared.summary.train_rows)
    return round(recipe.max_steps * recipe.effective_batch_size * row_tokens)


def plan_steps(
    context: AttemptContext, trainer: LabTrainer, run_cost: CostFacts, rows_validated: int
) -> StepPlan:
    """Sets the steps between validations and checkpoints, now that the length of the run is known."""
    recipe, rows = context.recipe, len(trainer.train_dataset)
    total = steps_planned(recipe, rows)
    eval_steps = recipe.eval_steps or max(1, math.ceil(total / VALIDATIONS_A_RUN))
    save_steps = recipe.save_steps or eval_steps
    trainer.args.eval_steps, trainer.args.save_steps = eval_steps, save_steps
    trainer.args.load_best_model_at_end = recipe.early_stopping_patience > 0
    context.recorder.validation_rows = rows_validated
    context.events.write(
        PlanEvent(
            total_steps=total,
            epochs=recipe.num_train_epochs,
            rows=rows,
            eval_steps=eval_steps if rows_validated else 0,
            save_steps=save_steps,
            validation_rows=rows_validated,
            cost=run_cost,
        )
    )
    return StepPlan(total_steps=total, sample_steps=recipe.sample_steps or eval_steps)
