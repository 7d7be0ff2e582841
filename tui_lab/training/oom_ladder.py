"""The out-of-memory ladder: what a run does, rung by rung, so that a step that did not fit fits after all.

1. split: the micro-batch is computed in parts (twice as many each time), whose gradients add up to its own;
2. checkpointing: activations are computed again in the backward pass instead of being kept;
3. loss chunks: the output layer and its loss go over smaller tiles;
and when nothing is left the run gives up with a sentence. What was done is told as ``ladder`` events,
remembered for the next run of the recipe on this card (:mod:`.ladder_memory`), and measured: once steps are
timed again, a ``ladder_cost`` event says what they take. The step itself begins again in :mod:`.restart`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import trl.kernels.chunked_divergence as divergence
import trl.kernels.chunked_logprob as logprob
import trl.trainer.utils as fused_head

from tui_lab.core.errors import LabError
from tui_lab.hardware.device import DeviceFacts
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.rules import LORA_LIKE_METHODS
from tui_lab.runs.schema import (
    ChoiceEvent,
    Event,
    LadderCostEvent,
    LadderEvent,
    LadderSettings,
    WarningEvent,
)
from tui_lab.training import micro_batches
from tui_lab.training.oom_cache import LadderMemory, key_of

#: Tiles of the output layer by level, (tokens, words of the vocabulary): trl's own, then smaller ones.
CHUNKS = (
    (logprob.TOKEN_CHUNK_SIZE, fused_head._CHUNKED_LOGPROB_CHUNK_SIZE),
    (1024, 16_384),
    (256, 8_192),
)
#: Steps whose median is told as what a step takes; the first of a run and one that began again are left out.
STEPS_TIMED = 3

Write = Callable[[Event], None]


class OutOfMemory(LabError):
    """Nothing is left that would make a step fit."""


@dataclass(frozen=True)
class LadderState:
    """Where a run stands on the ladder. ``parts``: into which a micro-batch is cut at most; ``chunk_level``:
    place in :data:`CHUNKS`; ``evaluation_parts``: into which a batch of held-out rows is cut."""

    parts: int = 1
    checkpointing: bool = False
    chunk_level: int = 0
    evaluation_parts: int = 1

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> LadderState:
        """From an event or the file of what is remembered, with whatever makes no sense there put right."""

        def number(name: str, least: int, most: int) -> int:
            value = record.get(name, least)
            return min(most, max(least, value)) if type(value) is int else least

        return LadderState(
            number("parts", 1, 1 << 20),
            record.get("gradient_checkpointing") is True,
            number("chunk_level", 0, len(CHUNKS) - 1),
            number("evaluation_parts", 1, 1 << 20),
        )

    def at_least(self, other: LadderState) -> LadderState:
        """The more careful of both in everything."""
        return LadderState(
            max(self.parts, other.parts),
            self.checkpointing or other.checkpointing,
            max(self.chunk_level, other.chunk_level),
            max(self.evaluation_parts, other.evaluation_parts),
        )


class Ladder:
    """See the module's docstring. ``values`` are the resolved ones; ``write`` writes an event."""

    def __init__(
        self,
        recipe: Recipe,
        values: Mapping[str, Any] | None = None,
        device: DeviceFacts | None = None,
        *,
        write: Write = lambda event: None,
        memory: LadderMemory | None = None,
        limit_bytes: int = 0,
    ) -> None:
        self._recipe, self._values, self._write = recipe, dict(values or {}), write
        self._memory = memory
        self._key = key_of(recipe, self._values, device, limit_bytes) if device is not None else None
        self.settings = LadderState(checkpointing=recipe.gradient_checkpointing)
        self._times: list[float] = []
        self._time_before = math.nan
        self._climbed = ""
        self._left_out = False

    # ------------------------------------------------------------------ where a run starts

    def begin(self, earlier: Mapping[str, Any] | None = None) -> None:
        """Starts where an ``earlier`` attempt of this run ended (its last ladder event's ``after``), or where
        the last run of this recipe on this card did, and says so."""
        start = self.settings
        if earlier:
            self.settings = start.at_least(LadderState.of_record(earlier))
            why = "memory ran out in an earlier attempt at this run"
        elif self._memory is not None and self._key is not None:
            found = self._memory.recall(self._key)
            self.settings = start.at_least(LadderState.of_record(found or {}))
            file = self._memory.path.name
            why = (
                "memory ran out when this recipe last ran on this card (remembered in "
                f"{file} of the user's state folder; deleting that file forgets)"
            )
        if self.settings != start:
            words = ", ".join(self._changes(start, self.settings))
            self._write(ChoiceEvent(field="memory", value=self.record(), reason=f"{words}, because {why}"))

    def record(self, settings: LadderState | None = None) -> dict[str, Any]:
        """Settings as an event has them."""
        at, recipe = settings or self.settings, self._recipe
        tokens, words = CHUNKS[at.chunk_level]
        return {
            "micro_batch": math.ceil(recipe.per_device_train_batch_size / at.parts),
            "accumulation": recipe.gradient_accumulation_steps * at.parts,
            "parts": at.parts,
            "gradient_checkpointing": at.checkpointing,
            "loss_chunk_tokens": tokens,
            "loss_chunk_vocabulary": words,
            "chunk_level": at.chunk_level,
            "evaluation_parts": at.evaluation_parts,
        }

    def apply(self, model: Any) -> None:
        """Sets the model and the loss to where the ladder stands."""
        set_loss_chunks(self.settings.chunk_level)
        if self.settings.checkpointing and not why_no_checkpointing(model):
            enable_checkpointing(model)

    # ------------------------------------------------------------------ climbing

    def climb(
        self, model: Any, batch: Mapping[str, Any], part: Mapping[str, Any], step: int, lost_s: float
    ) -> bool:
        """Takes the next rung after memory ran out in ``step``, ``lost_s`` into it, on a ``part`` of the
        micro-batch ``batch``; False when there is none."""
        now = self.settings
        if parts := micro_batches.finer(batch, now.parts):
            rung, after = "split", replace(now, parts=parts)
            cost = "more, smaller products a step"
        elif not now.checkpointing and not why_no_checkpointing(model):
            rung, after = "checkpointing", replace(now, checkpointing=True)
            more = "a third" if self._recipe.method == "full" else "half"
            cost = f"every layer is computed a second time: about {more} more work a step"
        elif now.chunk_level + 1 < len(CHUNKS):
            rung, after = "loss_chunks", replace(now, chunk_level=now.chunk_level + 1)
            cost = "more, smaller products in the output layer"
        else:
            return False
        self._remember_time()
        self.settings, self._climbed = after, rung
        self.apply(model)
        why = f"memory ran out at step {step} on {micro_batches.describe(part)}"
        done = ", ".join(self._changes(now, after))
        text = f"{why}: {done}; the step begins again with the same rows, the effective batch stays"
        self._tell(rung, step, now, text, f"{cost}; {lost_s:.1f} s of work are done again")
        return True

    def smaller_evaluation(self, parts: int, step: int, batch: Mapping[str, Any]) -> None:
        """Held-out rows are looked at in ``parts`` parts from now on."""
        now = self.settings
        if parts > now.evaluation_parts:
            self.settings = replace(now, evaluation_parts=parts)
            why = f"memory ran out on {micro_batches.describe(batch)} held out"
            done = ", ".join(self._changes(now, self.settings))
            self._tell("validation", step, now, f"{why}: {done}", "validation takes a little longer")

    def smaller_chunks(self, model: Any, step: int, batch: Mapping[str, Any]) -> bool:
        """Smaller tiles for held-out rows, which have nothing to be split or recomputed; False: none are."""
        now = self.settings
        if now.chunk_level + 1 >= len(CHUNKS):
            return False
        self.settings = replace(now, chunk_level=now.chunk_level + 1)
        self.apply(model)
        why = f"memory ran out on {micro_batches.describe(batch)} held out"
        done = ", ".join(self._changes(now, self.settings))
        self._tell("loss_chunks", step, now, f"{why}: {done}", "more, smaller products in the output layer")
        return True

    def warn_left_out(self, rows: int, step: int) -> None:
        """Held-out rows do not fit one by one: said once, since every validation leaves the same ones out."""
        if not self._left_out:
            self._left_out = True
            which = "one row does" if rows == 1 else f"{rows} rows do"
            self._write(
                WarningEvent(
                    text=f"out of memory in the validation at step {step}: {which} not fit even alone; the "
                    "validation loss leaves out what does not fit; lower max_length",
                )
            )

    def give_up(self, step: int, where: str, model: Any, saved: str) -> OutOfMemory:
        """The error that ends the run, told as an event first. ``saved``: what is safe, in words."""
        sentence = f"out of memory at step {step} {where}; {saved}; {self._advice(model)}"
        self._tell("give_up", step, self.settings, sentence, "")
        return OutOfMemory(sentence)

    def exhausted(self, model: Any, part: Mapping[str, Any]) -> str:
        """What was tried, in words, where nothing is left to try."""
        why_not = why_no_checkpointing(model)
        recomputed = f"without recomputed activations ({why_not})" if why_not else "recomputed activations"
        return (
            f"even with {micro_batches.describe(part)} at a time, {recomputed} and the smallest loss chunks"
        )

    def _advice(self, model: Any) -> str:
        recipe, values = self._recipe, self._values
        ways = [f"lower max_length (now {values.get('max_length', recipe.max_length)})"]
        if recipe.quantization == "none" and recipe.method in LORA_LIKE_METHODS:
            ways.append("load the base in 4 bits (quantization = 'nf4')")
        if recipe.method == "full":
            ways.append("train an adapter (method = 'lora')")
        if not str(values.get("optim", recipe.optim)).startswith("paged_"):
            ways.append("keep the optimiser's states in pages of 8 bits (optim = 'paged_adamw_8bit')")
        return f"start anew and {' or '.join(ways)}, or take a smaller model; or free the card and resume"

    def _changes(self, before: LadderState, after: LadderState) -> list[str]:
        """What is other in ``after``, in words."""
        old, new = self.record(before), self.record(after)
        words = []
        if after.parts != before.parts and self._recipe.packing:
            words.append(f"batches are computed in {after.parts} parts, cut between packed documents")
        elif after.parts != before.parts:
            words.append(
                f"micro-batches of {new['micro_batch']} and accumulation {new['accumulation']} instead of "
                f"{old['micro_batch']} and {old['accumulation']}"
            )
        if after.checkpointing != before.checkpointing:
            words.append("activations are computed again in the backward pass instead of being kept")
        if after.chunk_level != before.chunk_level:
            words.append(
                f"the loss in tiles of {new['loss_chunk_tokens']:,} tokens and "
                f"{new['loss_chunk_vocabulary']:,} words of the vocabulary"
            )
        if after.evaluation_parts != before.evaluation_parts:
            words.append(f"held-out batches are looked at in {after.evaluation_parts} parts")
        return words

    def _tell(self, rung: str, step: int, before: LadderState, text: str, cost: str) -> None:
        if self._memory is not None and self._key is not None:
            self._memory.remember(self._key, self._recipe.model, self.record())
        self._write(
            LadderEvent(
                step=step,
                rung=rung,
                before=LadderSettings(**self.record(before)),
                after=LadderSettings(**self.record()),
                text=text,
                cost=cost,
            )
        )

    # ------------------------------------------------------------------ what it costs

    def timed(self, step: int, seconds: float) -> None:
        """A step that was done in one go took so long."""
        self._times.append(seconds)
        if self._climbed and len(self._times) == STEPS_TIMED and self._time_before == self._time_before:
            before_s, after_s = self._time_before, median(self._times)
            self._write(
                LadderCostEvent(
                    step=step,
                    rung=self._climbed,
                    before_s=round(before_s, 4),
                    after_s=round(after_s, 4),
                    text=f"a step takes {after_s:.3g} s since memory ran out, {before_s:.3g} s before "
                    f"({after_s / before_s - 1:+.0%})",
                )
            )
            self._time_before = math.nan

    def _remember_time(self) -> None:
        if self._times and not (self._climbed and len(self._times) < STEPS_TIMED):
            self._time_before = median(self._times)
        self._times = []


# --------------------------------------------------------------------------------------------------
# what rungs do to a running model


def set_loss_chunks(level: int) -> None:
    """The tiles of trl's fused output layer and of its divergence; they are trl's for the whole process."""
    tokens, words = CHUNKS[level]
    logprob.TOKEN_CHUNK_SIZE = divergence.TOKEN_CHUNK_SIZE = tokens
    fused_head._CHUNKED_LOGPROB_CHUNK_SIZE = divergence.VOCAB_CHUNK_SIZE = words


def why_no_checkpointing(model: Any) -> str:
    """Why activations of a model cannot be computed again; "" where they can."""
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


def enable_checkpointing(model: Any) -> None:
    """Switches checkpointing on as the Trainer does before the first step: with input gradients, which the
    recomputed blocks of a frozen base need, and without a cache. Once is enough."""
    plain = model.get_base_model() if hasattr(model, "peft_config") else model
    plain.config.use_cache = False
    if not plain.is_activation_checkpointing:
        plain.activation_checkpointing_enable()
