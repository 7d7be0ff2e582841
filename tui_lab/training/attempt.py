"""One attempt at a run, from the recipe to the saved adapter, told as events.

An attempt begins with ``resumed from_step`` (0 at first), loads, measures where the model stands,
trains with trl, measures again, saves, and writes the end. It goes on from the newest checkpoint that
an earlier attempt left.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import msgspec
import transformers
from transformers import TrainerCallback

from tui_lab import __version__
from tui_lab.data import formats, replay, templates
from tui_lab.data.prepare import Prepared, prepare
from tui_lab.forecast import cost, memory
from tui_lab.models import catalog, loading, module_stats, shapes, target_modules
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import METHODS_WITH_TARGETS, VALIDATIONS_A_RUN, Resolution, resolve
from tui_lab.runs import changes, checkpoints
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.launch import LAUNCHED_ENV
from tui_lab.runs.schema import (
    Acquisition,
    ChoiceEvent,
    CostFacts,
    DataEvent,
    DeviceRecord,
    EndEvent,
    ForecastEvent,
    ModelEvent,
    PhaseEvent,
    PlanEvent,
    ProbeCost,
    RecipeChangedEvent,
    ResumedEvent,
    SavedEvent,
    StartedEvent,
    WarningEvent,
)
from tui_lab.runs.state import RunState, Watcher
from tui_lab.training import adapters, base_model, device, memory_limit, regularise, trackers
from tui_lab.training.control import CommandProcessor
from tui_lab.training.distributed import ProcessGroup
from tui_lab.training.oom_cache import LadderMemory
from tui_lab.training.oom_ladder import Ladder
from tui_lab.training.probe import RetentionProbe
from tui_lab.training.recorder import EventRecorder
from tui_lab.training.samples import TaskEvaluator
from tui_lab.training.telemetry import TelemetrySampler
from tui_lab.training.trainer import LabTrainer, build_trainer, save_weights, steps_planned

VERSIONED = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets")


class Attempt:
    """See the module's docstring. Errors are raised; the caller writes the end of a failed run."""

    def __init__(self, run: Run, events: EventWriter) -> None:
        self.run, self.events = run, events
        self.group = ProcessGroup()
        self.recipe: Recipe = run.recipe()
        # the first process looks at the folder before any of them writes into it
        before: RunState
        before, found = self.group.broadcast(
            (Watcher(run).read_all(), checkpoints.find(run.checkpoints_path)) if self.group.is_main else None
        )  # type: ignore[misc]
        self.before = before
        self.checkpoint = found.chosen
        self.from_step = checkpoints.step_of(found.chosen) if found.chosen else 0
        self.started = time.monotonic()
        self.recorder = EventRecorder(events, self.group)
        launched = float(os.environ.pop(LAUNCHED_ENV, time.time()))
        since = launched if before.attempt else 0.0
        self.probe = RetentionProbe(run, self.recipe, events, before, self.from_step)
        self.probe.wanted = self.probe.wanted and self.group.runs_evaluation
        self.control = CommandProcessor(
            run, events, before.acknowledged, since, self.recorder.exclude_pause, self.probe, self.group
        )
        events.write(ResumedEvent(from_step=self.from_step, attempt=before.attempt + 1))
        if self.group.is_main:
            for text in checkpoints.put_aside(found):
                events.write(WarningEvent(text=text))
            self._tell_changes(before.attempt + 1)
        self.telemetry = TelemetrySampler(
            events, lambda: self.recorder.step or self.from_step, before.telemetry.energy_so_far_j
        )

    def request_stop(self) -> None:
        """Ends the run after the step in hand, as the command ``stop`` does (SIGTERM)."""
        self.control.stop_wanted = True

    # ------------------------------------------------------------------ the whole

    def run_to_end(self) -> int:
        """Trains; 0 when the run finished or was stopped as asked."""
        self._quiet_libraries()
        self.device = device.detect()
        self.recorder.device = self.device
        if self.group.is_main:
            self.telemetry.start(self.device)
        try:
            return self._run()
        finally:
            self.telemetry.stop()  # before whoever catches the error writes the end, the log's last record

    def _run(self) -> int:
        self.events.write(
            StartedEvent(
                pid=os.getpid(),
                host=platform.node(),
                versions={"tui_lab": __version__, **{name: version(name) for name in VERSIONED}},
                device=DeviceRecord(
                    self.device.type, self.device.name, self.device.memory_bytes, self.device.bf16
                ),
                threads=self.device.threads,
            )
        )
        entry = catalog.find(self.recipe.model, allow_large=self.recipe.allow_large)
        resolution = resolve(self.recipe, self.device, entry)
        for choice in resolution.reasons:
            self.events.write(ChoiceEvent(field=choice.field, value=choice.value, reason=choice.reason))
        for text in resolution.warnings:
            self.events.write(WarningEvent(text=text))
        trackers.prepare(self.recipe, self.run)
        if self.group.is_sharded:
            reason = "no process has the whole model: samples, scores and retention probes are left out"
            self.events.write(ChoiceEvent(field="accelerate_config", value="sharded", reason=reason))
        self.source = loading.ModelSource(entry.loadable, self.recipe.revision)

        self._phase("preparing_data", Path(self.recipe.data).name)
        self.tokenizer = templates.load_tokenizer(self.source.location, self.recipe.revision)
        self.prepared = self._prepare_data(int(resolution.values["max_length"]))
        self._write_forecast(resolution, entry)
        self._phase("loading_model", entry.label)
        trainer = self._build(resolution, entry)
        self._plan(trainer)
        self.measure = TaskEvaluator(self.recipe, self.events, self.tokenizer, self.prepared, self.before)
        self._baseline(trainer)
        self._train(trainer)
        if self.from_step and not trainer.state.global_step:
            return self._stopped_before_going_on()
        return self._finish(trainer)

    def _write_forecast(self, resolution: Resolution, entry: catalog.Entry) -> None:
        """What the run is expected to take at its worst, with rows as long as its own are, for those who
        compare it with what it takes."""
        if entry.shape is None or not shapes.known(entry.shape.model_type):
            return
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        values = dict(resolution.values)
        if not self.recipe.packing:
            rows = [*self.prepared.train, *self.prepared.validation]
            values["max_length"] = min(values["max_length"], max(len(row["input_ids"]) for row in rows))
        found = memory.forecast(entry.shape, self.recipe, values, kind)
        self.events.write(
            ForecastEvent(
                parts={part.name: part.bytes for part in found.parts},
                total=found.total_bytes,
                low=found.low_bytes,
                high=found.high_bytes,
                device=kind,
            )
        )

    def _phase(self, name: str, detail: str = "") -> None:
        self.events.write(PhaseEvent(name=name, detail=detail))

    def _quiet_libraries(self) -> None:
        transformers.utils.logging.set_verbosity_warning()
        transformers.utils.logging.disable_progress_bar()
        datasets.disable_progress_bars()
        transformers.set_seed(self.recipe.seed)

    def _tell_changes(self, attempt: int) -> None:
        """What is other in the recipe than in the attempt before, as an event; each attempt keeps its own in
        the folder. Raises LabError where the checkpoint would not fit."""
        before = changes.last_used(self.run, attempt)
        found = changes.compare(before, self.recipe) if before is not None else []
        if found:
            self.events.write(RecipeChangedEvent(changes=found))
        if self.checkpoint is not None:
            changes.refuse(found)
        changes.keep(self.run, self.recipe, attempt)

    # ------------------------------------------------------------------ preparing

    def _prepare_data(self, max_length: int) -> Prepared:
        recipe = self.recipe
        source = formats.read(recipe.data, recipe.data_format, recipe.max_rows)
        prepared = prepare(
            source,
            self.tokenizer,
            max_length=max_length,
            validation_fraction=recipe.validation_fraction,
            seed=recipe.seed,
            deduplicate=recipe.deduplicate,
            chat_template=recipe.chat_template,
        )
        if recipe.replay_fraction:
            self._mix_general_rows_in(prepared, max_length)
        self.events.write(DataEvent(**prepared.facts))
        for text in prepared.warnings:
            self.events.write(WarningEvent(text=text))
        return prepared

    def _mix_general_rows_in(self, prepared: Prepared, max_length: int) -> None:
        task_rows = len(prepared.train)
        wanted = replay.rows_wanted(task_rows, self.recipe.replay_fraction)
        general = self._general_rows(wanted, max_length, replay.max_trained_tokens(prepared.train))
        prepared.train = replay.mix(prepared.train, general.rows, self.recipe.seed)
        prepared.facts.update(replay_rows=len(general.rows), replay_source=general.source)
        prepared.warnings += general.warnings
        reason = f"{len(general.rows):,} general rows from {general.source} beside {task_rows:,} of the task"
        self.events.write(
            ChoiceEvent(field="replay_fraction", value=self.recipe.replay_fraction, reason=reason)
        )

    def _general_rows(self, count: int, max_length: int, trained: int) -> replay.GeneralRows:
        """Rows of what the model knew before, for replay and for the Fisher information of EWC."""
        recipe = self.recipe
        return replay.general_rows(
            recipe.replay_data,
            self.tokenizer,
            count,
            max_length=max_length,
            seed=recipe.seed,
            trained=trained,
        )

    def _build(self, resolution: Resolution, entry: catalog.Entry) -> LabTrainer:
        recipe, values = self.recipe, resolution.values
        compute_dtype = self.compute_dtype = str(values["compute_dtype"])
        if entry.parameters is None:
            loading.check_size(self.source, recipe.allow_large)
        base = base_model.load_base(
            self.source, recipe, self.device, compute_dtype, str(values["attn_implementation"])
        )
        base_facts = module_stats.module_stats(base)
        self.cost = self._cost(entry.shape or module_stats.shape_of(base), values)
        self.probe.measure_base(
            base,
            self.tokenizer,
            [row["input_ids"] for row in self.prepared.validation],
            trained_tokens=self._tokens_to_train(int(values["max_length"])),
            compute_dtype=compute_dtype,
            device=self.device,
        )
        if recipe.method in METHODS_WITH_TARGETS:
            # from the loaded model's own modules: the catalog does not know every architecture
            found = target_modules.explain(
                base.config.model_type, recipe.target_modules, module_stats.linear_names(base)
            )
            values = {**values, "target_modules": found.modules, "feedforward_modules": found.feedforward}
        ladder = Ladder(
            recipe,
            values,
            self.device,
            write=self.events.write,
            memory=LadderMemory() if self.group.size == 1 else None,
            limit_bytes=memory_limit.limit_bytes(),
        )
        if self.group.size == 1:
            ladder.begin(msgspec.to_builtins(self.before.ladder[-1].after) if self.before.ladder else None)
        trainer = build_trainer(
            recipe,
            base,
            self.tokenizer,
            self.prepared.train,
            self.prepared.validation,
            values,
            folder=self.run.checkpoints_path,
            device=self.device.type,
            callbacks=[self.recorder, _CatchUp(self._catch_up)],
            after_step=self._after_step,
            ladder=ladder,
            group=self.group,
            warn=lambda text: self.events.write(WarningEvent(text=text)),
        )
        if trainer.objective is not None and recipe.ewc_lambda:
            self._phase("evaluating", "where general text is sensitive (EWC)")
            length = int(values["max_length"])
            general = self._general_rows(regularise.FISHER_ROWS, length, length)
            trainer.objective.measure_importance(general.rows)
        if adapters.changes_base_weights(recipe) and self.group.is_main:
            # what the adapter was at the start turns it into one for the original base when it is saved
            save_weights(trainer.model, self._initial_adapter)
        self.events.write(
            ModelEvent(
                **asdict(base_facts),
                trainable=module_stats.count_trainable(trainer.model),
                chat_template_source=self.prepared.facts["template_source"],
            )
        )
        return trainer

    def _cost(self, shape: shapes.Shape | None, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a token costs in operations; empty for an architecture whose layers are not known."""
        if shape is None:
            return {}
        rows = self.prepared.train
        tokens = sum(len(row["input_ids"]) for row in rows)
        trained = sum(label != templates.IGNORED for row in rows for label in row["labels"][1:])
        share = trained / max(1, tokens)
        return cost.facts_of_run(shape, self.recipe, self.device, values, tokens / max(1, len(rows)), share)

    @property
    def _initial_adapter(self) -> Path:
        return self.run.path / "initial_adapter"

    def _tokens_to_train(self, max_length: int) -> int:
        """About how many tokens the whole run reads."""
        recipe = self.recipe
        tokens = sum(len(row["input_ids"]) for row in self.prepared.train)
        if not recipe.max_steps:
            return round(tokens * recipe.num_train_epochs)
        row_tokens = max_length if recipe.packing else tokens / max(1, len(self.prepared.train))
        return round(recipe.max_steps * recipe.effective_batch_size * row_tokens)

    def _plan(self, trainer: LabTrainer) -> None:
        """Fixes the steps between validations and checkpoints, now that the length of the run is known."""
        recipe = self.recipe
        total = steps_planned(recipe, len(trainer.train_dataset))
        eval_steps = recipe.eval_steps or max(1, math.ceil(total / VALIDATIONS_A_RUN))
        save_steps = recipe.save_steps or eval_steps
        trainer.args.eval_steps, trainer.args.save_steps = eval_steps, save_steps
        trainer.args.load_best_model_at_end = recipe.early_stopping_patience > 0
        self.total_steps = total
        self.sample_steps = recipe.sample_steps or eval_steps
        self.recorder.validation_rows = len(self.prepared.validation)
        self.events.write(
            PlanEvent(
                total_steps=total,
                epochs=recipe.num_train_epochs,
                rows=len(trainer.train_dataset),
                eval_steps=eval_steps,
                save_steps=save_steps,
                cost=CostFacts(**self.cost),
            )
        )

    # ------------------------------------------------------------------ training

    def _baseline(self, trainer: LabTrainer) -> None:
        """Where the model stands before any training; an attempt that goes on knows it already."""
        self.probe.begin(trainer, self.total_steps)
        if self.from_step:
            return
        self._phase("evaluating", "how the model does before any training")
        self.recorder.write_validation(0, trainer.validation_loss(), "start")
        if self.group.runs_evaluation:
            self.measure.score(trainer, "start")
            self.measure.sample(trainer)

    def _train(self, trainer: LabTrainer) -> None:
        self._phase("training")
        self._trainer = trainer
        self.control.process_commands(trainer)
        if self.control.stop_wanted:
            return
        if self.checkpoint is not None:
            # trl counts from nothing in every process; its count is part of the history that is saved
            self.recorder.tokens_before = trainer._total_train_tokens = tokens_trained(self.checkpoint)
            if is_finished(self.checkpoint, self.total_steps):
                trainer.restore_finished(self.checkpoint)  # the Trainer would do one step more
                return self._catch_up(self.from_step)
        trainer.train(resume_from_checkpoint=str(self.checkpoint) if self.checkpoint else None)

    def _catch_up(self, step: int) -> None:
        """The sample that the attempt before still owed when it died: it had saved the step, no more."""
        owed = step and step % self.sample_steps == 0 and all(s.step != step for s in self.before.samples)
        if owed and self.group.runs_evaluation:
            self.measure.sample(self._trainer)

    def _after_step(self, trainer: LabTrainer) -> None:
        """Between two steps: samples are drawn, probes taken, and what people asked is done."""
        step = trainer.state.global_step
        if self.group.runs_evaluation:
            if step % self.sample_steps == 0 and step != self.measure.sampled_at:
                self.measure.sample(trainer)
            self.probe.after_step(trainer, self.recorder.average_step_s)
        self.control.process_commands(trainer)
        trainer.control.should_training_stop = self.group.broadcast(trainer.control.should_training_stop)

    # ------------------------------------------------------------------ the end

    def _finish(self, trainer: LabTrainer) -> int:
        step = trainer.state.global_step
        stopped = self.control.stop_wanted and step < self.total_steps
        self._phase("saving", "the adapter" if self.recipe.is_adapter else "the model")
        self._round(trainer)
        state = trainer.accelerator.get_state_dict(trainer.model) if self.group.is_sharded else None
        if self.group.is_main:
            path = self._save(trainer, state)
        # the weights are those of the last step, or of the best validation where patience asked for that
        best_reloaded = trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint
        if self.recorder.validated_at != step or best_reloaded or not self.recipe.is_adapter:
            self._phase("evaluating", "what is saved, on the held-out rows")
            self.recorder.write_validation(step, trainer.validation_loss(), "end")
        if not self.group.is_main:
            return 0
        if not stopped:
            self.probe.final_probe(trainer, bool(best_reloaded))
            if self.group.runs_evaluation:
                self.measure.score(trainer, "end")
        self.telemetry.stop()
        self.events.write(
            EndEvent(
                state="stopped" if stopped else "finished",
                step=step,
                message=self._message(trainer, stopped),
                seconds=round(time.monotonic() - self.started, 1),
                train_loss=self.recorder.train_loss,
                validation_loss=self.recorder.validation_loss,
                acquisition=Acquisition(**self.measure.acquisition()),
                peak_memory=self.recorder.peak_memory,
                trained_s=round(self.recorder.trained_s, 2),
                probe=ProbeCost(**self.probe.facts),
                flops_per_token=self.cost.get("flops_per_token"),
                mfu=self._mfu(),
                energy_j=self.telemetry.energy_j,
                path=path.name,
            )
        )
        return 0

    def _stopped_before_going_on(self) -> int:
        """A resume that was stopped before its first step has not even loaded the checkpoint: what an earlier
        attempt saved stays, and nothing is measured."""
        self.telemetry.stop()
        self.events.write(
            EndEvent(
                state="stopped",
                step=self.from_step,
                message=f"stopped as asked before it went on from step {self.from_step}; it can be resumed",
                seconds=round(time.monotonic() - self.started, 1),
                energy_j=self.telemetry.energy_j,
            )
        )
        return 0

    def _mfu(self) -> float | None:
        """The model's operations as a share of the card's dense rate, over all steps; None if not known."""
        flops, peak = self.cost.get("flops_per_token", 0.0), self.cost.get("peak_flops")
        return cost.mfu(self.recorder.mean_tok_per_s, flops, peak)

    def _message(self, trainer: LabTrainer, stopped: bool) -> str:
        step = trainer.state.global_step
        if stopped:
            return f"stopped as asked after step {step} of {self.total_steps}; it can be resumed"
        if self.probe.stop_reason:
            advice = "less strength, or an earlier checkpoint, keeps more"
            return f"stopped early: {self.probe.stop_reason}; {advice}"
        if step < self.total_steps:
            best = trainer.state.best_global_step
            return f"stopped early: the validation loss was best at step {best}, whose weights are kept"
        return ""

    def _round(self, trainer: LabTrainer) -> None:
        """Full weights of a bfloat16 run become what is saved, and are measured as that."""
        if not self.recipe.is_adapter and self.compute_dtype == "bfloat16":
            trainer.model.to(loading.DTYPES["bfloat16"])

    def _save(self, trainer: LabTrainer, state: dict[str, Any] | None) -> Path:
        """Saves what was trained, whole or not at all, with the tokenizer and its template."""
        recipe = self.recipe
        path = self.run.adapter_path if recipe.is_adapter else self.run.model_path
        partial = path.with_name(f".{path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        if adapters.changes_base_weights(recipe):
            initial = str(self._initial_adapter)
            trainer.model.save_pretrained(partial, path_initial_model_for_weight_conversion=initial)
        else:
            save_weights(trainer.model, partial, state)
        self.tokenizer.save_pretrained(partial)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
        size = sum(file.stat().st_size for file in path.iterdir())
        self.events.write(
            SavedEvent(path=path.name, what="adapter" if recipe.is_adapter else "model", bytes=size)
        )
        return path


class _CatchUp(TrainerCallback):
    """Calls back with the step that training begins from, once the state of that step is loaded."""

    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._call(state.global_step)


def is_finished(checkpoint: Path, total_steps: int) -> bool:
    """Whether the training had come to its end in a checkpoint: at the last step, or by early stopping."""
    state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    if state["global_step"] >= total_steps:
        return True
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    return bool(control.get("should_training_stop")) and state["global_step"] < state["max_steps"]


def tokens_trained(checkpoint: Path) -> int:
    """Tokens trained on until a checkpoint, from the Trainer's own history."""
    history = json.loads((checkpoint / "trainer_state.json").read_text("utf-8")).get("log_history", [])
    return max((int(entry["num_tokens"]) for entry in history if "num_tokens" in entry), default=0)
