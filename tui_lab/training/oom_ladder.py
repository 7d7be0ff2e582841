"""The out-of-memory ladder: what a run changes, rung by rung, until a step that did not fit does.

1. split: the micro-batch is computed in parts (twice as many each time), whose gradients add up to its own;
2. checkpointing: activations are recomputed in the backward pass instead of being stored;
3. loss tiles: the output layer and its loss are computed over smaller tiles.

When nothing is left, the run ends with a sentence. Each rung is written as a ``ladder`` event, and once steps
are timed again a ``ladder_cost`` event says what they take. The step itself is repeated by
:mod:`tui_lab.training.oom_restart`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues, unresolved
from tui_lab.recipes.rules import LORA_LIKE_METHODS
from tui_lab.runs.event_parts import LadderSettings
from tui_lab.runs.schema import ChoiceEvent, LadderCostEvent, LadderEvent, RunEvent, WarningEvent
from tui_lab.training import micro_batches
from tui_lab.training.trainer_seams import DEFAULT_LOSS_TILE, set_loss_tile
from tui_lab.training.types import Batch, Model

#: Tiles of the output layer by level, (tokens, vocabulary entries): trl's default, then smaller ones.
LOSS_TILES = (DEFAULT_LOSS_TILE, (1024, 16_384), (256, 8_192))
#: Steps whose median is reported as the time of a step.
STEPS_TIMED = 3
_MAX_PARTS = 1 << 20


class OutOfMemory(LabError):
    """No rung is left that would make a step fit."""


@dataclass(frozen=True)
class LadderState:
    """Where a run is on the ladder. ``parts``: into which a micro-batch is split at most; ``checkpointing``:
    whether activations are recomputed; ``tile_level``: index into :data:`LOSS_TILES`; ``evaluation_parts``:
    into which a batch of held-out rows is split."""

    parts: int = 1
    checkpointing: bool = False
    tile_level: int = 0
    evaluation_parts: int = 1

    @staticmethod
    def from_record(record: LadderSettings) -> LadderState:
        """From an event of an earlier attempt; values out of range are clamped."""
        return LadderState(
            min(_MAX_PARTS, max(1, record.parts)),
            record.gradient_checkpointing is True,
            min(len(LOSS_TILES) - 1, max(0, record.chunk_level)),
            min(_MAX_PARTS, max(1, record.evaluation_parts)),
        )

    def at_least(self, other: LadderState) -> LadderState:
        """The setting of both that takes less memory, field by field."""
        return LadderState(
            max(self.parts, other.parts),
            self.checkpointing or other.checkpointing,
            max(self.tile_level, other.tile_level),
            max(self.evaluation_parts, other.evaluation_parts),
        )


class Ladder:
    """The state of the ladder of one attempt. ``values``: the resolved values of the recipe; ``write`` writes
    an event; ``memory_of_others`` says what other processes hold of the GPU, "" when nothing of note."""

    def __init__(
        self,
        recipe: Recipe,
        values: ResolvedValues | None = None,
        write: Callable[[RunEvent], None] = lambda _: None,
        memory_of_others: Callable[[], str] = lambda: "",
    ) -> None:
        self._recipe, self._values, self._write = recipe, values or unresolved(recipe), write
        self._memory_of_others = memory_of_others
        self.state = LadderState(checkpointing=recipe.gradient_checkpointing)
        self._times: list[float] = []
        self._time_before = math.nan
        self._last_rung = ""
        self._warned_skipped = False

    def use(self, recipe: Recipe) -> None:
        """Starts from another division of the steps, before training begins."""
        self._recipe = recipe
        self.state = replace(self.state, checkpointing=recipe.gradient_checkpointing)

    def resume(self, earlier: LadderSettings) -> None:
        """Starts where an earlier attempt of this run ended (the ``after`` of its last ladder event)."""
        start = self.state
        self.state = start.at_least(LadderState.from_record(earlier))
        if self.state != start:
            changes = ", ".join(self._changes(start, self.state))
            reason = f"{changes}, because memory ran out in an earlier attempt at this run"
            self._write(ChoiceEvent(field="memory", value=self.record(self.state), reason=reason))

    def record(self, state: LadderState) -> LadderSettings:
        """A state as events have it."""
        tokens, vocabulary = LOSS_TILES[state.tile_level]
        return LadderSettings(
            micro_batch=math.ceil(self._recipe.per_device_train_batch_size / state.parts),
            accumulation=self._recipe.gradient_accumulation_steps * state.parts,
            parts=state.parts,
            gradient_checkpointing=state.checkpointing,
            loss_chunk_tokens=tokens,
            loss_chunk_vocabulary=vocabulary,
            chunk_level=state.tile_level,
            evaluation_parts=state.evaluation_parts,
        )

    def apply(self, model: Model) -> None:
        """Sets the model and the loss to the current state."""
        set_loss_tile(*LOSS_TILES[self.state.tile_level])
        if self.state.checkpointing and not why_no_checkpointing(model):
            enable_checkpointing(model)

    # ------------------------------------------------------------------ climbing

    def climb(self, model: Model, batch: Batch, part: Batch, step: int, lost_s: float) -> bool:
        """Takes the next rung after memory ran out in ``step`` on a ``part`` of the micro-batch ``batch``,
        ``lost_s`` seconds after the step began. False when no rung is left."""
        now = self.state
        if parts := micro_batches.finer(batch, now.parts):
            rung, after = "split", replace(now, parts=parts)
            cost = "more, smaller products a step"
        elif not now.checkpointing and not why_no_checkpointing(model):
            rung, after = "checkpointing", replace(now, checkpointing=True)
            more = "a third" if self._recipe.method == "full" else "half"
            cost = f"every layer is computed a second time: about {more} more work a step"
        elif now.tile_level + 1 < len(LOSS_TILES):
            rung, after = "loss_chunks", replace(now, tile_level=now.tile_level + 1)
            cost = "more, smaller products in the output layer"
        else:
            return False
        if self._times and not (self._last_rung and len(self._times) < STEPS_TIMED):
            self._time_before = median(self._times)
        self._times = []
        self.state, self._last_rung = after, rung
        self.apply(model)
        changes = ", ".join(self._changes(now, after))
        text = (
            f"memory ran out at step {step} on {micro_batches.describe(part)}: {changes}; the step is "
            "repeated with the same rows, the effective batch stays the same"
        )
        self._write_rung(rung, step, now, text, f"{cost}; {lost_s:.1f} s of work are repeated")
        return True

    def split_evaluation(self, parts: int, step: int, batch: Batch) -> None:
        """Evaluates held-out batches in ``parts`` parts from now on."""
        now = self.state
        if parts > now.evaluation_parts:
            self.state = replace(now, evaluation_parts=parts)
            self._write_evaluation_rung("validation", step, now, batch, "validation takes a little longer")

    def shrink_evaluation_tiles(self, model: Model, step: int, batch: Batch) -> bool:
        """Uses smaller loss tiles for a held-out row that does not fit; False when there are none."""
        now = self.state
        if now.tile_level + 1 >= len(LOSS_TILES):
            return False
        self.state = replace(now, tile_level=now.tile_level + 1)
        self.apply(model)
        cost = "more, smaller products in the output layer"
        self._write_evaluation_rung("loss_chunks", step, now, batch, cost)
        return True

    def warn_skipped(self, rows: int, step: int) -> None:
        """Warns once about held-out rows that do not fit one by one: every validation omits the same ones."""
        if not self._warned_skipped:
            self._warned_skipped = True
            which = "one row does" if rows == 1 else f"{rows} rows do"
            text = (
                f"out of memory in the validation at step {step}: {which} not fit even alone; the validation "
                "loss leaves out what does not fit; lower max_length"
            )
            self._write(WarningEvent(text=text))

    def give_up(self, step: int, where: str, saved: str) -> OutOfMemory:
        """The error that ends the run, after its event. ``saved``: what is saved, in words."""
        others = self._memory_of_others()
        advice = f"{others}: end them, then resume" if others else self._advice()
        text = f"out of memory at step {step} {where}; {saved}; {advice}"
        self._write_rung("give_up", step, self.state, text, "")
        return OutOfMemory(text)

    def exhausted(self, model: Model, part: Batch) -> str:
        """What was tried, in words, when no rung is left."""
        reason = why_no_checkpointing(model)
        recomputed = f"without recomputed activations ({reason})" if reason else "recomputed activations"
        return (
            f"even with {micro_batches.describe(part)} at a time, {recomputed} and the smallest loss chunks"
        )

    def _advice(self) -> str:
        recipe, values = self._recipe, self._values
        ways = [f"lower max_length (now {values.max_length})"]
        if recipe.quantization == "none" and recipe.method in LORA_LIKE_METHODS:
            ways.append("load the base in 4 bits (quantization = 'nf4')")
        if recipe.method == "full":
            ways.append("train an adapter (method = 'lora')")
        if not values.optim.startswith("paged_"):
            ways.append("store the optimiser's states in pages of 8 bits (optim = 'paged_adamw_8bit')")
        return f"start anew and {' or '.join(ways)}, or choose a smaller model; or free the card and resume"

    def _changes(self, before: LadderState, after: LadderState) -> list[str]:
        """How ``after`` differs, one phrase a change."""
        old, new = self.record(before), self.record(after)
        changes = []
        if after.parts != before.parts and self._recipe.packing:
            changes.append(f"batches are computed in {after.parts} parts, split between packed documents")
        elif after.parts != before.parts:
            changes.append(
                f"micro-batches of {new.micro_batch} and accumulation {new.accumulation} instead of "
                f"{old.micro_batch} and {old.accumulation}"
            )
        if after.checkpointing != before.checkpointing:
            changes.append("activations are computed again in the backward pass instead of being stored")
        if after.tile_level != before.tile_level:
            changes.append(
                f"the loss in tiles of {new.loss_chunk_tokens:,} tokens and "
                f"{new.loss_chunk_vocabulary:,} entries of the vocabulary"
            )
        if after.evaluation_parts != before.evaluation_parts:
            changes.append(f"held-out batches are evaluated in {after.evaluation_parts} parts")
        return changes

    def _write_evaluation_rung(
        self, rung: str, step: int, before: LadderState, batch: Batch, cost: str
    ) -> None:
        changes = ", ".join(self._changes(before, self.state))
        text = f"memory ran out on {micro_batches.describe(batch)} held out: {changes}"
        self._write_rung(rung, step, before, text, cost)

    def _write_rung(self, rung: str, step: int, before: LadderState, text: str, cost: str) -> None:
        records = self.record(before), self.record(self.state)
        self._write(
            LadderEvent(step=step, rung=rung, before=records[0], after=records[1], text=text, cost=cost)
        )

    # ------------------------------------------------------------------ what it costs

    def timed(self, step: int, seconds: float) -> None:
        """Takes the time of a step that was not restarted; writes the cost of the last rung once
        :data:`STEPS_TIMED` are known."""
        self._times.append(seconds)
        if self._last_rung and len(self._times) == STEPS_TIMED and not math.isnan(self._time_before):
            before_s, after_s = self._time_before, median(self._times)
            text = (
                f"a step takes {after_s:.3g} s since memory ran out, {before_s:.3g} s before "
                f"({after_s / before_s - 1:+.0%})"
            )
            self._write(
                LadderCostEvent(
                    step=step,
                    rung=self._last_rung,
                    before_s=round(before_s, 4),
                    after_s=round(after_s, 4),
                    text=text,
                )
            )
            self._time_before = math.nan


def why_no_checkpointing(model: Model) -> str:
    """Why activations of a model cannot be recomputed; "" where they can."""
    configs = getattr(model, "peft_config", {})
    if any(
        str(getattr(config.peft_type, "value", config.peft_type)) == "PREFIX_TUNING"
        for config in configs.values()
    ):
        return "the recomputed pass cannot carry a prefix"
    plain = model.get_base_model() if configs else model
    if not getattr(plain, "supports_gradient_checkpointing", False):
        return f"models of type {plain.config.model_type} do not support it"
    return ""


def disable_checkpointing(model: Model) -> None:
    """Switches checkpointing off."""
    plain = model.get_base_model() if hasattr(model, "peft_config") else model
    if plain.is_activation_checkpointing:
        plain.activation_checkpointing_disable()


def enable_checkpointing(model: Model) -> None:
    """Switches checkpointing on as the Trainer does before the first step: with input gradients, which the
    recomputed blocks of a frozen base need, and without a cache. Once is enough."""
    plain = model.get_base_model() if hasattr(model, "peft_config") else model
    plain.config.use_cache = False
    if not plain.is_activation_checkpointing:
        plain.activation_checkpointing_enable()
