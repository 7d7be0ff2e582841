"""Measures the speed of a recipe on this machine: ten optimiser steps of the run's own trainer, on a model of
the real shape with random weights in the recipe's precision, over rows of random tokens. The first two steps
warm up and are not counted. Needs no download and no data. The result is stored
(:mod:`tui_lab.forecast.calibration`), and forecasts of the same work then say "measured". Rows of different
lengths are padded as the data's own will be. ``python -m tui_lab.training.calibrate`` is the job; its request
and answer are in :mod:`tui_lab.forecast.jobs`.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.job_protocol import OnProgress
from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.data.rows import TokenRow
from tui_lab.forecast import calibration, cost
from tui_lab.forecast.calibration import Calibration
from tui_lab.forecast.flops import operations
from tui_lab.forecast.jobs import CalibrationAnswer, CalibrationRequest
from tui_lab.hardware import gpu_specs, memory_budget
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu import Gpu, GpuMonitor
from tui_lab.hardware.telemetry import EnergyMeter, match_uuids
from tui_lab.models import catalog
from tui_lab.models.loading import DTYPES, quantize
from tui_lab.models.meta_model import config_of
from tui_lab.models.module_stats import disable_cpu_repacking
from tui_lab.models.shapes import Shape
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import Recipe, build
from tui_lab.recipes.resolve import ResolvedValues, resolve
from tui_lab.training import device as devices
from tui_lab.training import run_speed
from tui_lab.training.base_model import precision_of
from tui_lab.training.build_trainer import EncodedRows, TrainerHooks, build_trainer
from tui_lab.training.trainer import LabTrainer
from tui_lab.training.types import Model

STEPS, WARM_UP_STEPS = 10, 2
#: Accumulated batches at most: more do not change the speed.
MOST_ACCUMULATION = 4
#: Seconds between two readings of the card's power; its meter updates less often.
POWER_INTERVAL_S = 0.1
#: Limit of ten steps on a processor, seconds, by a rough rate per thread.
CPU_FLOPS_A_THREAD, MOST_CPU_S = 2e10, 180.0
#: Lengths of rows that are sampled from.
MOST_LENGTHS = 10_000


def measure(
    shape: Shape,
    recipe: Recipe,
    values: ResolvedValues,
    device: DeviceFacts,
    *,
    lengths: Sequence[int] = (),
    trained_share: float = 1.0,
    on_step: Callable[[int], None] = lambda _: None,
) -> Calibration:
    """Ten steps of ``recipe`` on a random model of ``shape``. ``values``: the resolved ones; ``lengths``:
    tokens of rows to draw from; ``on_step`` is called with the number of each step.

    Raises LabError where it would take too long or does not fit."""
    max_length = values.max_length
    lengths = [max(2, min(length, max_length)) for length in lengths] or [max_length]
    short = _shortened(recipe)
    mean = sum(lengths) / len(lengths)
    document, keys = cost.attended_tokens(short, values, mean, lengths)
    found = operations(shape, short, document, head_share=_share(device, trained_share), keys=keys)
    _check_duration(found.hardware, short, max_length if short.packing else mean, device)
    clock = _Clock(device, on_step)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _train(shape, short, values, device, lengths, trained_share, clock, Path(folder))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise LabError(
            "the ten steps do not fit in memory: a smaller batch, checkpointing or 4-bit weights may help"
        ) from error
    finally:
        clock.stop()
    speed = clock.tokens / clock.seconds
    return Calibration(
        device=run_speed.label(device),
        tok_per_s=speed,
        model_flops_s=speed * found.model,
        hardware_flops_s=speed * found.hardware,
        power_w=clock.power_w,
        cuda=device.type == "cuda",
        steps=STEPS - WARM_UP_STEPS,
        length=round(document),
        date=datetime.now(UTC).date().isoformat(),
    )


def _share(device: DeviceFacts, trained_share: float) -> float:
    """Share of the tokens whose logits are computed: the trained ones, on Apple's GPU all."""
    return 1.0 if device.type == "mps" else trained_share


def _shortened(recipe: Recipe) -> Recipe:
    """The recipe for ten steps, without what acts between steps or on later ones only."""
    return recipe.model_copy(
        update={
            "max_steps": STEPS,
            "gradient_accumulation_steps": min(recipe.gradient_accumulation_steps, MOST_ACCUMULATION),
            "early_stopping_patience": 0,
            "gradual_unfreezing": False,
            "uncertainty_weighting": False,
            "class_weights": "none",
            "ewc_lambda": 0.0,
            "init_lora_weights": "default",
            "logging_steps": STEPS,
        }
    )


def _check_duration(flops_per_token: float, recipe: Recipe, length: float, device: DeviceFacts) -> None:
    if device.type == "cuda":
        return
    seconds = STEPS * recipe.effective_batch_size * length * flops_per_token
    seconds /= CPU_FLOPS_A_THREAD * max(1, device.threads)
    if seconds > MOST_CPU_S:
        raise LabError(
            f"measuring is for a GPU or a small model: on {run_speed.label(device)} ten steps "
            f"of this recipe would take about {seconds / 60:,.0f} minutes; the bundled model (model = "
            "'pocket') takes seconds"
        )


# --------------------------------------------------------------------------------------------------
# the ten steps


class _Clock:
    """Time, tokens and power of the steps after the first two."""

    def __init__(self, device: DeviceFacts, on_step: Callable[[int], None]) -> None:
        self._device, self._on_step = device, on_step
        self._began_s = self._first_tokens = 0.0
        self._meter: _PowerMeter | None = None
        self.seconds, self.tokens = 0.0, 0.0
        self.power_w: float | None = None

    def after_step(self, trainer: LabTrainer) -> None:
        devices.synchronize(self._device)
        now, step = time.monotonic(), trainer.state.global_step
        tokens = float(trainer.total_train_tokens)
        self._on_step(step)
        if step == WARM_UP_STEPS:
            self._first_tokens = tokens
            if self._device.type == "cuda":
                self._meter = _PowerMeter()
            self._began_s = time.monotonic()
        elif step == STEPS:
            self.seconds, self.tokens = now - self._began_s, tokens - self._first_tokens
            self.power_w = self._meter.stop() if self._meter is not None else None

    def stop(self) -> None:
        if self._meter is not None:
            self._meter.stop()


class _PowerMeter:
    """The mean power of the card that CUDA computes on, read from its driver."""

    def __init__(self) -> None:
        uuid = str(getattr(torch.cuda.get_device_properties(0), "uuid", ""))
        self._watch = GpuMonitor(lambda found: match_uuids(found, [uuid], os.environ))
        self._energy, self._ended = EnergyMeter(), threading.Event()
        self._began_s = time.monotonic()
        self._read()
        self._thread = threading.Thread(target=self._poll, name="power", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        found: list[Gpu] = self._watch.read()
        self._energy.add(found, time.monotonic())

    def _poll(self) -> None:
        while not self._ended.wait(POWER_INTERVAL_S):
            self._read()

    def stop(self) -> float | None:
        """Mean power since the start, watts; None where the driver does not report it."""
        if self._ended.is_set():
            return None
        self._ended.set()
        self._thread.join(1.0)
        self._read()
        now = time.monotonic()
        drawn = self._energy.total_j(now)
        return drawn / (now - self._began_s) if drawn else None


def _train(
    shape: Shape,
    recipe: Recipe,
    values: ResolvedValues,
    device: DeviceFacts,
    lengths: Sequence[int],
    trained_share: float,
    clock: _Clock,
    folder: Path,
) -> None:
    model = random_model(shape, recipe, values, device)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    rows = random_rows(shape.vocabulary, recipe, values.max_length, lengths, trained_share)
    trainer = build_trainer(
        recipe,
        model,
        tokenizer,
        EncodedRows(rows, rows[:1]),
        values,
        folder=folder,
        device=device.type,
        hooks=TrainerHooks(after_step=clock.after_step),
    )
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    state = trainer.ladder.state
    trainer.train()
    if trainer.ladder.state != state:  # it continued in smaller parts: other work than was to be timed
        raise torch.OutOfMemoryError("out of memory in the ten steps")


def random_model(shape: Shape, recipe: Recipe, values: ResolvedValues, device: DeviceFacts) -> Model:
    """A model of ``shape`` with random weights, on the device, as a run would have loaded it."""
    place = torch.device(device.type, 0) if device.type == "cuda" else torch.device(device.type)
    torch.manual_seed(recipe.seed)
    with place:
        model = AutoModelForCausalLM.from_config(
            config_of(shape),
            dtype=DTYPES[precision_of(recipe, values.compute_dtype).dtype],
            attn_implementation=values.attn_implementation,
        )
    model.config.use_cache = False
    if recipe.quantization != "none":
        quantize(model, precision_of(recipe, values.compute_dtype), values.compute_dtype)
        disable_cpu_repacking(model)
    return model


def random_rows(
    vocabulary: int, recipe: Recipe, max_length: int, lengths: Sequence[int], trained_share: float
) -> list[TokenRow]:
    """Rows as long as ``lengths`` by chance, the last part of them trained on, as many as ten steps read."""
    sequences = STEPS * recipe.effective_batch_size
    wanted = sequences * max_length if recipe.packing else 0  # tokens
    chance = random.Random(recipe.seed)
    rows: list[TokenRow] = []
    tokens = 0
    while len(rows) < sequences or tokens < wanted:
        length = chance.choice(lengths)
        tokens += length
        masked = min(length - 1, round(length * (1 - trained_share)))
        ids = [chance.randrange(vocabulary) for _ in range(length)]
        rows.append({"input_ids": ids, "labels": [-100] * masked + ids[masked:]})
    return rows


# --------------------------------------------------------------------------------------------------
# the job


def handle(request: CalibrationRequest, on_progress: OnProgress) -> CalibrationAnswer:
    """Answers a job's request. Raises LabError."""
    share = request.trained_share
    recipe = build(request.values)
    entry = catalog.find(recipe.model, allow_large=recipe.allow_large)
    if entry.shape is None:
        raise LabError(f"the sizes of {entry.label} are not known, so there is nothing to measure")
    memory_budget.take_gpu(recipe.device)
    device = devices.detect(recipe.device)
    values = resolve(recipe, device, entry).values
    _quiet()
    on_progress("making a model with random weights", 0, STEPS)
    found = measure(
        entry.shape,
        recipe,
        values,
        device,
        lengths=request.lengths[:MOST_LENGTHS],
        trained_share=share,
        on_step=lambda step: on_progress("measuring steps", step, STEPS),
    )
    calibration.store(found, device, entry.shape, recipe, values)
    card = gpu_specs.lookup(device.name, device.memory_bytes) if device.type == "cuda" else None
    peak = card.rate_flops(values.compute_dtype) if card else None
    work = operations(entry.shape, recipe, found.length, head_share=_share(device, share))
    return CalibrationAnswer(
        **msgspec.structs.asdict(found),
        mfu=found.model_flops_s / peak if peak else None,
        hfu=found.hardware_flops_s / peak if peak else None,
        formula=cost.formula_text(work, found.length),
        text=found.text,
    )


def _quiet() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("trl").setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle, CalibrationRequest))
