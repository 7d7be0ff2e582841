"""One attempt at a run, from the recipe to the saved adapter, written as events.

An attempt begins with ``resumed from_step`` (0 at first), prepares data and model
(:mod:`.attempt_setup`), measures the model, trains with trl, measures again, saves, and writes the end
(:mod:`.attempt_end`). It continues from the newest checkpoint of earlier attempts.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import datasets
import torch
import transformers

from tui_lab.runs import changes, checkpoints, commands
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.launch import COMMANDS_ENV
from tui_lab.runs.schema import PhaseEvent, RecipeChangedEvent, ResumedEvent, WarningEvent
from tui_lab.runs.state import Watcher
from tui_lab.training import attempt_end, attempt_setup, device
from tui_lab.training.attempt_records import AttemptContext, TrainingSetup
from tui_lab.training.attempt_setup import OnStep
from tui_lab.training.checkpoint_state import is_finished, tokens_trained
from tui_lab.training.control import CommandProcessor
from tui_lab.training.distributed import ProcessGroup
from tui_lab.training.interruption import StopRequested, interruptible
from tui_lab.training.probe import RetentionProbe
from tui_lab.training.progress import AttemptProgress
from tui_lab.training.recorder import EventRecorder
from tui_lab.training.telemetry import TelemetrySampler
from tui_lab.training.trainer import LabTrainer


def open_attempt(run: Run, events: EventWriter) -> AttemptContext:
    """Reads what earlier attempts left, quarantines damaged checkpoints, and writes the first event.

    Raises LabError for a changed recipe that does not fit the checkpoint.
    """
    group = ProcessGroup()
    recipe = run.recipe()
    # the first process reads the folder before any process writes into it
    before, found = group.broadcast(
        (Watcher(run).read_all(), checkpoints.find(run.checkpoints_path)) if group.is_main else None
    )  # type: ignore[misc]
    from_step = checkpoints.step_of(found.chosen) if found.chosen else 0
    recorder = EventRecorder(events, group)
    old_bytes = int(os.environ.pop(COMMANDS_ENV, commands.size(run)))
    probe = RetentionProbe(run, recipe, events, before, from_step)
    probe.wanted = probe.wanted and group.runs_evaluation
    processor = CommandProcessor(
        run,
        events,
        before.acknowledged,
        old_bytes if before.attempt else 0,
        on_pause=recorder.exclude_pause,
        probe=probe,
        group=group,
    )
    progress = AttemptProgress(events.write, processor.skip_asked)
    probe.progress = progress
    context = AttemptContext(
        run=run,
        events=events,
        recipe=recipe,
        group=group,
        before=before,
        checkpoint=found.chosen,
        from_step=from_step,
        began_s=time.monotonic(),
        recorder=recorder,
        probe=probe,
        commands=processor,
        telemetry=TelemetrySampler(
            events, lambda: recorder.step or from_step, before.telemetry.energy_so_far_j
        ),
        progress=progress,
    )
    events.write(ResumedEvent(from_step=from_step, attempt=before.attempt + 1))
    if group.is_main:
        for text in checkpoints.quarantine(found):
            events.write(WarningEvent(text=text))
        _record_changes(context, before.attempt + 1)
    return context


def _record_changes(context: AttemptContext, attempt: int) -> None:
    """Writes how the recipe differs from the attempt before, and keeps the recipe of this attempt in the
    folder. Raises LabError where the checkpoint would not fit."""
    before = changes.last_used(context.run, attempt)
    found = changes.compare(before, context.recipe) if before is not None else []
    if found:
        context.events.write(RecipeChangedEvent(changes=found))
    if context.checkpoint is not None:
        changes.refuse(found)
    changes.save_used(context.run, context.recipe, attempt)


def run_attempt(context: AttemptContext) -> int:
    """Trains to the end. 0 when the run finished or was stopped on request; errors are raised, and the
    caller writes the end of a failed run."""
    transformers.utils.logging.set_verbosity_warning()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    transformers.set_seed(context.recipe.seed)
    # worker.log names the operations without a deterministic kernel
    torch.use_deterministic_algorithms(context.recipe.deterministic, warn_only=True)
    device_facts = context.recorder.device = device.detect(context.recipe.device)
    if context.group.is_main:
        context.telemetry.start(device_facts)
    try:
        hooks = _StepHooks(context)
        with interruptible(context):
            setup = attempt_setup.prepare_training(context, device_facts, hooks)
            hooks.setup = setup
            _measure_start(context, setup)
        _train(context, setup)
        if context.from_step and not setup.trainer.state.global_step:
            return attempt_end.stopped_before_training(context)
        return attempt_end.finish(context, setup)
    except StopRequested:
        return attempt_end.stopped_before_training(context)
    finally:
        context.telemetry.stop()  # the caller writes the end, which is the log's last record


class _StepHooks(OnStep):
    """What happens between steps: samples, probes and commands."""

    def __init__(self, context: AttemptContext) -> None:
        self._context = context
        self.setup: TrainingSetup | None = None

    def on_start(self, step: int) -> None:
        """Draws the sample that the attempt before did not: it died after the checkpoint of that step."""
        context, setup = self._context, self.setup
        if setup is not None and _sample_is_missing(context, setup, step):
            setup.evaluator.sample(setup.trainer)

    def after_step(self, trainer: LabTrainer) -> None:
        """Draws samples, probes retention and processes commands."""
        context, setup = self._context, self.setup
        step = trainer.state.global_step
        if setup is not None and context.group.runs_evaluation:
            if step % setup.plan.sample_steps == 0 and step != setup.evaluator.sampled_at:
                setup.evaluator.sample(trainer)
            context.probe.after_step(trainer, context.recorder.average_step_s)
        context.commands.process_commands(trainer)
        control = trainer.control
        control.should_training_stop = context.group.broadcast(control.should_training_stop)


def _sample_is_missing(context: AttemptContext, setup: TrainingSetup, step: int) -> bool:
    due = step > 0 and step % setup.plan.sample_steps == 0 and context.group.runs_evaluation
    return due and all(sample.step != step for sample in context.before.samples)


def _measure_start(context: AttemptContext, setup: TrainingSetup) -> None:
    """Measures the model before any training; a resumed attempt has these figures already."""
    context.probe.start(setup.trainer, setup.plan.total_steps)
    if context.from_step:
        return
    context.events.write(PhaseEvent(name="evaluating", detail="how the model does before any training"))
    with context.progress.skippable():
        if setup.data.prepared.validation:
            context.recorder.write_validation(0, setup.trainer.validation_loss(), "start")
        if context.group.runs_evaluation:
            setup.evaluator.score(setup.trainer, "start")
    if context.group.runs_evaluation:
        setup.evaluator.sample(setup.trainer)


def _train(context: AttemptContext, setup: TrainingSetup) -> None:
    """Trains from the checkpoint, or from the start."""
    context.events.write(PhaseEvent(name="training"))
    trainer, checkpoint = setup.trainer, context.checkpoint
    context.commands.process_commands(trainer)
    if context.commands.stop_requested:
        return
    if checkpoint is not None:
        # trl counts from 0 in every process; the count of earlier attempts is in the saved history
        context.recorder.tokens_before = trainer.total_train_tokens = tokens_trained(checkpoint)
        if is_finished(checkpoint, setup.plan.total_steps):
            return trainer.restore_finished(checkpoint)  # the Trainer would do one step more
    trainer.train(resume_from_checkpoint=_path(checkpoint))


def _path(checkpoint: Path | None) -> str | None:
    return str(checkpoint) if checkpoint is not None else None
