"""The retention probe of a run: KL divergence from the base on general text and on the task's held-out text,
and items of a suite paired with the base's answers, written as events.

Probes happen between steps, outside of their timing, and leave all random states as they were. How often and
how much follows from measured costs (:mod:`.probe_plan`); an armed run stops by the rule there. An error in a
probe ends the probing with a warning, never the run.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from msgspec.structs import replace

from tui_lab.core.errors import LabError
from tui_lab.core.format import as_float
from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models.loading import DTYPES
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.rules import VIRTUAL_TOKEN_METHODS
from tui_lab.retention import kl as probe
from tui_lab.retention import statistics
from tui_lab.retention.scoring import score as scoring
from tui_lab.retention.scoring.encode import row_length
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Item, Suite
from tui_lab.retention.verdict import CANNOT_TELL, judge_paired
from tui_lab.runs.event_parts import ProbeCost
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import (
    ArmedEvent,
    ItemProbeEvent,
    KlProbeEvent,
    PhaseEvent,
    ProbePlanEvent,
    WarningEvent,
)
from tui_lab.runs.state import RunState
from tui_lab.runs.verdicts import NOT_MEASURABLE
from tui_lab.training import probe_base
from tui_lab.training.probe_plan import (
    MOST_ITEMS,
    ItemProbeResult,
    ProbeCosts,
    ProbeSchedule,
    make_schedule,
    stop_reason,
)
from tui_lab.training.progress import AttemptProgress
from tui_lab.training.rng import evaluating, preserve_rng_state
from tui_lab.training.types import Model, Tokenizer

if TYPE_CHECKING:
    from tui_lab.training.trainer import LabTrainer

#: Steps that are timed before the schedule is made; fewer in short runs.
TIMED_STEPS = 4
#: Tokens of one forward during training: at least, at most.
BATCH_TOKENS = (1_024, 8_192)
#: Kinds of suites that are scored by forward passes.
KINDS = ("choice", "pairs")
#: KL at step 0 above which the model differs from its base (untrained virtual tokens change it).
SAME_MODEL_NATS = 1e-3


class RetentionProbe:
    """Probes one attempt. ``before``: the state that earlier attempts left; ``from_step``: where this one
    begins."""

    def __init__(
        self, run: Run, recipe: Recipe, events: EventWriter, before: RunState, from_step: int
    ) -> None:
        self._run, self._recipe, self._events = run, recipe, events
        self._from_step = from_step
        self.wanted = recipe.probe_share > 0
        # a command to arm holds for later attempts, too; the recipe decides for the first
        begun = before.kl_probes or before.item_probes
        self.armed = before.armed if begun else recipe.stop_on_retention
        self.stop_reason = ""
        self.progress: AttemptProgress | None = None
        self.seconds = 0.0  # of the probes in this attempt, without measuring the base
        self.base: probe_base.ProbeBase | None = None
        self._suite: Suite
        self._tokenizer: Tokenizer = None
        self._batch_tokens = 0
        self._plan: ProbeSchedule | None = None
        self._kl_s = math.nan
        self._total = 0
        self._steps_timed = 0
        self._probed_at = {"items": -1, "kl": -1}
        self._results = [_result(p) for p in before.item_probes if 0 < p.step <= from_step]

    # ------------------------------------------------------------------ the base

    def measure_base(
        self,
        model: Model,
        tokenizer: Tokenizer,
        held_out: Sequence[Sequence[int]],
        *,
        trained_tokens: int,
        compute_dtype: str,
        device: DeviceFacts,
    ) -> None:
        """Measures the base, or reads the figures of an earlier attempt. ``model``: the base as loaded;
        ``held_out``: token ids of validation rows; ``trained_tokens``: of the whole run."""
        if not self.wanted:
            return
        recipe = self._recipe
        self._tokenizer = tokenizer
        self._suite = load_suite(recipe.probe_suite)
        low, high = BATCH_TOKENS
        self._batch_tokens = min(high, max(low, recipe.per_device_train_batch_size * recipe.max_length))
        rows = [list(row) for row in held_out]
        key = probe_base.fingerprint(
            recipe.model, recipe.revision, recipe.quantization, recipe.double_quantization, compute_dtype,
            *([recipe.unquantized_budget] if recipe.unquantized_budget else []),
            self._suite.sha256, [item.id for item in self._suite.items], rows[:64], recipe.seed,
        )  # fmt: skip
        self.base = probe_base.read(self._run, key)
        if self.base is not None:
            return
        report = self._report()

        def on_progress(text: str, done: int, total: int) -> None:
            if total:
                report(done, total)
            else:
                self._events.write(PhaseEvent(name="probing", detail=text))

        virtual = recipe.num_virtual_tokens if recipe.method in VIRTUAL_TOKEN_METHODS else 0

        def measure() -> None:
            with preserve_rng_state(model), _precision(device, compute_dtype):
                self.base = probe_base.measure(
                    model,
                    tokenizer,
                    self._suite,
                    rows,
                    budget=probe_base.BaseBudget(
                        trained_tokens, recipe.probe_share, row_length(model, tokenizer, virtual)
                    ),
                    seed=recipe.seed,
                    batch_tokens=self._batch_tokens,
                    on_progress=on_progress,
                )
            probe_base.write(self._run, self.base, key)

        self._guarded(measure)

    @property
    def cost(self) -> ProbeCost:
        """Seconds of the probes in this attempt, and of measuring the base; empty without a probe."""
        return ProbeCost(round(self.seconds, 2), round(self.base.seconds, 2)) if self.base else ProbeCost()

    def start(self, trainer: LabTrainer, total_steps: int) -> None:
        """Probes before the first step; the model is its base then, except for virtual tokens."""
        self._total = total_steps
        if self.base is None:
            return
        self._events.write(ArmedEvent(on=self.armed))
        self._kl_s = self.base.kl_s
        if self._from_step:
            return
        self._guarded(lambda: self._start(trainer))

    def _start(self, trainer: LabTrainer) -> None:
        assert self.base is not None
        began = time.monotonic()
        distance = self._measure_kl(trainer)
        # the adapter adds to the cost; more than twice is the warm-up of the first call
        self._kl_s = min(2 * self._kl_s, time.monotonic() - began)
        same = distance < SAME_MODEL_NATS and self._recipe.method not in VIRTUAL_TOKEN_METHODS
        self._measure_items(trainer, "start", self.base.scores if same else None)

    # ------------------------------------------------------------------ during the run

    def after_step(self, trainer: LabTrainer, step_s: float) -> None:
        """Between two steps: makes the schedule once enough steps are timed (``step_s``: their average), and
        probes when it is due."""
        if self.base is None:
            return
        step = trainer.state.global_step
        self._steps_timed += 1
        if self._plan is None and self._steps_timed >= min(TIMED_STEPS, max(1, self._total // 4)):
            self._make_plan(step_s)
        if self._plan is not None:
            due_items, due_kl = step in self._plan.item_at, step in self._plan.kl_at
            self._guarded(lambda: self._probe(trainer, due_items, due_kl))

    def _probe(self, trainer: LabTrainer, items: bool, kl: bool) -> None:
        assert self._plan is not None
        step = trainer.state.global_step
        if kl and self._probed_at["kl"] != step:
            self._measure_kl(trainer)
        if items and self._probed_at["items"] != step:
            self._measure_items(trainer, "end" if step == self._total else "during")
            self._stop_if_lost(trainer)

    def _make_plan(self, step_s: float) -> None:
        assert self.base is not None
        base = self.base
        general = base.general
        costs = ProbeCosts(
            step_s,
            base.item_s,
            base.item_fixed_s,
            self._kl_s / general.tokens,
            len(general.sequences),
            general.longest,
        )
        share, items = self._recipe.probe_share, len(base.scores)
        plan = make_schedule(self._total, costs, items, share, len(self._suite.items), self.seconds)
        self._plan = plan
        self._events.write(
            ProbePlanEvent(
                share=share,
                expected_share=round(plan.expected_share, 5),
                kl_steps=_interval_steps(plan.kl_at, self._total),
                item_steps=_interval_steps(plan.item_at, self._total),
                item_probes=len(plan.item_at),
                items=plan.items,
                kl_sequences=plan.kl_sequences,
                kl_length=plan.kl_length,
                base_s=round(base.seconds, 2),
                threshold=self._recipe.retention_threshold,
                reason=plan.reason,
            )
        )

    def final_probe(self, trainer: LabTrainer, weights_changed: bool) -> None:
        """Probes what is saved, unless that was done after the last step. ``weights_changed``: whether the
        best checkpoint was loaded since."""
        if self.base is None:
            return
        step = trainer.state.global_step
        if self._plan is None:
            return  # no step was trained
        if weights_changed:
            self._probed_at = {"items": -1, "kl": -1}

        def probe_missing() -> None:
            if self._probed_at["kl"] != step:
                self._measure_kl(trainer)
            if self._probed_at["items"] != step:
                self._measure_items(trainer, "end")

        self._guarded(probe_missing)

    # ------------------------------------------------------------------ commands

    def probe_now(self, trainer: LabTrainer) -> str:
        """Probes at once; the outcome in words."""
        if self.base is None:
            return self._why_not()
        if self._plan is None:
            return "not done: the first steps are still being timed"
        step = trainer.state.global_step
        self._probed_at = {"items": -1, "kl": -1}
        self._guarded(lambda: self._probe(trainer, True, True))
        if not self._results or self._results[-1].step != step:
            return "not done: the probe failed"
        newest = self._results[-1]
        measured = f"{newest.retention:.2f}" if newest.certain else NOT_MEASURABLE
        return f"retention {measured} at step {step}"

    def arm(self, on: bool, trainer: LabTrainer) -> str:
        """Switches stopping on lost retention on or off; the outcome in words."""
        if self.base is None:
            return self._why_not()
        self.armed = on
        self._events.write(ArmedEvent(on=on))
        self._stop_if_lost(trainer)
        if not on:
            return "the run continues whatever retention does"
        return f"the run stops once retention is significantly under {self._recipe.retention_threshold:.2f}"

    def _why_not(self) -> str:
        return "not done: this run is not probed" + ("" if self.wanted else " (probe_share = 0)")

    def _stop_if_lost(self, trainer: LabTrainer) -> None:
        if not self.armed or self.stop_reason:
            return
        planned = len(self._plan.item_at) if self._plan else 0
        reason = stop_reason(self._results, self._recipe.retention_threshold, planned)
        if reason:
            self.stop_reason = reason
            trainer.control.should_training_stop = True

    # ------------------------------------------------------------------ measuring

    def _measure_kl(self, trainer: LabTrainer) -> float:
        """Measures KL on the scheduled part of the general text and an equal part of the task's (on all of it
        before there is a schedule); returns the mean on general text, nats per token."""
        assert self.base is not None
        general, task = self.base.general, self.base.task
        if self._plan is not None:
            part = self._plan.kl_sequences / len(general.sequences)
            general = general.part(self._plan.kl_sequences, self._plan.kl_length)
            task = task.part(max(2, round(part * len(task.sequences))), self._plan.kl_length)
        began = time.monotonic()
        with evaluating(trainer):
            values = [probe.kl_by_sequence(trainer.model, record) for record in (general, task)]
        seconds = time.monotonic() - began
        self.seconds += seconds
        step = self._probed_at["kl"] = trainer.state.global_step
        shown = [statistics.mean_interval(part_values) for part_values in values]
        self._events.write(
            KlProbeEvent(
                step=step,
                general=shown[0],
                task=shown[1],
                sequences=len(general.sequences) + len(task.sequences),
                tokens=general.tokens + task.tokens,
                seconds=round(seconds, 4),
            )
        )
        return float(shown[0].value)

    def _measure_items(
        self, trainer: LabTrainer, when: str, known: dict[str, ItemScore] | None = None
    ) -> None:
        """Scores the items and writes the comparison with the base. ``known``: scores by id that were
        measured already."""
        assert self.base is not None
        suite = self.base.suite_of(self._suite, self._plan.items if self._plan else 0)
        began = time.monotonic()
        if known is None:
            report, numbers = self._report(), itertools.count(1)
            with evaluating(trainer):
                after = scoring.score(
                    trainer.model,
                    self._tokenizer,
                    suite,
                    on_score=lambda _: report(next(numbers), len(suite.items)),
                    batch_tokens=self._batch_tokens,
                )
            seconds = time.monotonic() - began
            self.seconds += seconds
        else:
            after, seconds = [known[item.id] for item in suite.items], 0.0
        before = [self.base.scores[item.id] for item in suite.items]
        step = self._probed_at["items"] = trainer.state.global_step
        found = compare(suite, before, after, self._recipe.retention_threshold)
        event = replace(found, step=step, version=suite.version, seconds=round(seconds, 4), when=when)
        self._events.write(event)
        if when != "start":
            self._results.append(_result(event))

    def _report(self) -> Callable[[int, int], None]:
        """Reports items done of all."""
        return self.progress.of("probing", "items") if self.progress is not None else lambda *_: None

    def _guarded(self, work: Callable[[], None]) -> None:
        """Runs ``work``; a LabError or running out of memory ends the probing with a warning."""
        try:
            work()
            return
        except LabError as error:
            why = str(error)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            why = "memory ran out"
        self.base = None
        self._events.write(WarningEvent(text=f"retention is not probed in this run: {why}"))


def load_suite(name: str) -> Suite:
    """The suite of a probe, limited to the most items that a probe scores. Raises LabError."""
    suite = registry.load(name, limit=MOST_ITEMS)
    if suite.kind not in KINDS:
        raise LabError(
            f"probe_suite {suite.name} is of kind {suite.kind}, whose items are not questions with choices; "
            "name one that is, such as everyday"
        )
    return suite


def compare(
    suite: Suite, before: Sequence[ItemScore], after: Sequence[ItemScore], threshold: float
) -> ItemProbeEvent:
    """The figures of an item probe (flips, retention with its interval, verdict), without its step."""
    pair = statistics.paired(scoring.correct(suite, before), scoring.correct(suite, after))
    verdict = judge_paired(pair, suite.chance, threshold)
    changes = [
        right_logprob(item, new) - right_logprob(item, old)
        for item, old, new in zip(suite.items, before, after, strict=True)
    ]
    return ItemProbeEvent(
        step=0,
        suite=suite.name,
        n=pair.n,
        chance=suite.chance,
        pre=pair.pre,
        post=pair.post,
        b=pair.b,
        c=pair.c,
        retention=verdict.retention,
        above_chance=verdict.above_chance,
        logprob_change=statistics.mean_interval(changes),
        mcnemar_p=verdict.mcnemar_p,
        verdict=verdict.colour,
    )


def right_logprob(item: Item, score: ItemScore) -> float:
    """Log-probability of the right choices among all choices, nats."""
    values = torch.tensor(score.loglikelihoods, dtype=torch.float64)
    right = values[list(item.answers)]
    return float(right.logsumexp(0) - values.logsumexp(0))


def _result(event: ItemProbeEvent) -> ItemProbeResult:
    """An item probe of this or an earlier attempt, for the stop rule."""
    return ItemProbeResult(
        event.step, event.headline.value, as_float(event.mcnemar_p), event.verdict != CANNOT_TELL
    )


def _interval_steps(steps: Sequence[int], total: int) -> int:
    """Steps between two probes; 0 for none."""
    return max(1, round(total / len(steps))) if steps else 0


def _precision(device: DeviceFacts, compute_dtype: str) -> AbstractContextManager[object]:
    """The compute precision of the run, for a base without trainer."""
    return torch.autocast(device.type, DTYPES[compute_dtype], enabled=compute_dtype != "float32")
