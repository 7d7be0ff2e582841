"""Training speed: rows of 300 tokens, packed rows, optimisers, and plain TRL in the same run."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import LoraConfig
from torch.profiler import ProfilerActivity, profile
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from tests.gpu.bench import Bench, PartLog
from tui_lab.pocket import MODEL_DIR
from tui_lab.training import calibrate
from tui_lab.training.build_trainer import EncodedRows, TrainerHooks, build_trainer
from tui_lab.training.trainer_config import as_dataset

SMALL, LARGE = "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B"
ROW_TOKENS = 300
BATCHES = (1, 4, 16)
#: Rows and tokens of packed batches.
PACKED = ((2, 4096), (4, 8192))
#: Steps between which the profiler measures.
_FROM_STEP, _TO_STEP = 4, 7


def run(bench: Bench, log: PartLog) -> None:
    """Runs the part. The figures that the others are compared with come first."""
    length = bench.pick(ROW_TOKENS, 24)
    ours = _case(bench, log, "0.5B, rows of 300 × 4", SMALL, length, 4)
    plain = _plain_trl(bench, log, SMALL, length, 4)
    if ours and plain:
        log.figure("0.5B: times as fast as plain TRL", ours / plain, "×")
        log.check(
            "never slower than plain TRL", bench.small or ours >= plain, f"{ours:.0f}, TRL {plain:.0f} tok/s"
        )
    for rows, tokens in bench.pick(PACKED, ((2, 32),)):
        for attention in bench.pick(("mask", "varlen"), ("varlen",)):
            name = f"0.5B, packed {rows} × {tokens}, {attention}"
            changes: dict[str, Any] = {"packing": True, "packed_attention": attention}
            _case(bench, log, name, SMALL, length, rows, max_length=tokens, **changes)
    for model, label in ((SMALL, "0.5B"), (LARGE, "1.5B")):
        for count in bench.pick(BATCHES, ()):
            if (model, count) != (SMALL, 4):
                _case(bench, log, f"{label}, rows of 300 × {count}", model, length, count)
    for optimizer in bench.pick(("adamw_torch_fused", "adamw_8bit"), ()):
        _case(bench, log, f"0.5B, {optimizer}", SMALL, length, 4, optim=optimizer)
    _busy_share(bench, log, length)
    _liger(bench, log, length)
    bench.free_memory()


def _case(
    bench: Bench,
    log: PartLog,
    name: str,
    model: str,
    length: int,
    rows: int,
    *,
    on_step: Callable[[int], None] = lambda _: None,
    **changes: object,
) -> float:
    """Tokens a second of ten steps of the starter recipe; 0 where that is not known."""
    if not log.has_time(name):
        return 0.0
    speed = 0.0
    with log.case(name):
        settings: dict[str, object] = {
            "per_device_train_batch_size": rows, "gradient_accumulation_steps": 1,
            "max_length": max(length, bench.pick(512, 32)),
        }  # fmt: skip
        recipe = bench.recipe(model, "starter", **{**settings, **changes})
        values = bench.resolved(recipe)
        bench.free_memory()
        found = calibrate.measure(
            bench.shape(model), recipe, values, bench.facts, lengths=(length,), on_step=on_step
        )
        speed = found.tok_per_s
        log.figure(name, speed, "tok/s")
        log.figure(f"{name}: peak", bench.peak_bytes() / 2**20, "MiB")
        if (limit := bench.ceilings.get("flops_per_s")) is not None:
            log.figure(f"{name}: share of the matrix products' limit", found.hardware_flops_s / limit, "")
    bench.free_memory()
    return speed


class _Clock(TrainerCallback):
    """The time of the steps after the first two."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._began_s, self.seconds = bench, 0.0, 0.0

    def tok_per_s(self, tokens: int) -> float:
        """The speed, with ``tokens`` a step."""
        return (calibrate.STEPS - calibrate.WARM_UP_STEPS) * tokens / self.seconds

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bench.synchronize()
        if state.global_step == calibrate.WARM_UP_STEPS:
            self._began_s = time.perf_counter()
        elif state.global_step == calibrate.STEPS:
            self.seconds = time.perf_counter() - self._began_s


def _plain_trl(bench: Bench, log: PartLog, model: str, length: int, rows: int) -> float:
    """Tokens a second of trl's trainer as its documentation uses it, on the same model and rows."""
    name = f"plain TRL, rows of {ROW_TOKENS} × {rows}"
    if not log.has_time(name):
        return 0.0
    speed = 0.0
    with log.case(name), tempfile.TemporaryDirectory(dir=bench.work) as folder:
        recipe = bench.recipe(
            model, "starter", per_device_train_batch_size=rows, gradient_accumulation_steps=1
        )
        values = bench.resolved(recipe)
        shape, clock = bench.shape(model), _Clock(bench)
        data = calibrate.random_rows(shape.vocabulary, recipe, length, (length,), 1.0)
        trainer = SFTTrainer(
            model=calibrate.random_model(shape, recipe, values, bench.facts),
            args=SFTConfig(
                output_dir=folder,
                max_steps=calibrate.STEPS,
                per_device_train_batch_size=rows,
                max_length=length,
                bf16=bench.is_cuda and bench.facts.bf16,
                fp16=bench.is_cuda and not bench.facts.bf16,
                use_cpu=not bench.is_cuda,
                report_to="none",
                save_strategy="no",
                logging_steps=calibrate.STEPS,
                disable_tqdm=True,
            ),
            train_dataset=as_dataset(data),
            processing_class=AutoTokenizer.from_pretrained(MODEL_DIR),
            peft_config=LoraConfig(
                r=recipe.lora_r, target_modules=list(values.target_modules), task_type="CAUSAL_LM"
            ),
            callbacks=[clock],
        )
        trainer.train()
        speed = clock.tok_per_s(rows * length)
        log.figure(name, speed, "tok/s")
    bench.free_memory()
    return speed


def _liger(bench: Bench, log: PartLog, length: int) -> None:
    """The lab's trainer with Liger's kernels in the model, where both the library and the lab have them."""
    name = "0.5B, Liger kernels"
    for module, why in (
        ("liger_kernel", "liger-kernel is not installed"),
        ("tui_lab.training.liger", "this version of the lab does not use them"),
    ):
        if importlib.util.find_spec(module) is None:
            return log.missing(name, why)
    if not log.has_time(name):
        return
    with log.case(name), tempfile.TemporaryDirectory(dir=bench.work) as folder:
        recipe = bench.recipe(
            SMALL, "starter", per_device_train_batch_size=4, gradient_accumulation_steps=1, max_length=length
        )
        values, shape, clock = bench.resolved(recipe), bench.shape(SMALL), _Clock(bench)
        model = calibrate.random_model(shape, recipe, values, bench.facts)
        if reason := importlib.import_module("tui_lab.training.liger").apply(model):
            return log.missing(name, reason)
        rows = calibrate.random_rows(shape.vocabulary, recipe, length, (length,), 1.0)
        trainer = build_trainer(
            recipe.model_copy(update={"max_steps": calibrate.STEPS}),
            model,
            AutoTokenizer.from_pretrained(MODEL_DIR),
            EncodedRows(rows, rows[:1]),
            values,
            folder=Path(folder),
            device=bench.facts.type,
            hooks=TrainerHooks(callbacks=[clock]),
        )
        trainer.args.eval_strategy = trainer.args.save_strategy = "no"
        trainer.train()
        log.figure(name, clock.tok_per_s(4 * length), "tok/s")


def _busy_share(bench: Bench, log: PartLog, length: int) -> None:
    """The share of a step in which the device computes."""
    kinds = [ProfilerActivity.CUDA if bench.is_cuda else ProfilerActivity.CPU]
    recorded = profile(activities=kinds)
    times: list[float] = []

    def on_step(step: int) -> None:
        if step in (_FROM_STEP, _TO_STEP):
            bench.synchronize()
            times.append(time.perf_counter())
            if step == _FROM_STEP:
                recorded.start()
            else:
                recorded.stop()

    _case(bench, log, "0.5B, profiled", SMALL, length, 4, on_step=on_step, optim="adamw_torch_fused")
    if len(times) < 2:
        return
    with log.case("busy share of a step"):
        events = recorded.key_averages()
        used_us = sum(e.self_device_time_total if bench.is_cuda else e.self_cpu_time_total for e in events)
        log.figure("busy share of a step", used_us / 1e6 / (times[1] - times[0]), "")
        log.figure("operations a step", sum(e.count for e in events) / (_TO_STEP - _FROM_STEP), "")
