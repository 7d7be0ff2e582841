"""Whether the card computes what the CPU does: decoding, packing, losses, products in 4 bits, half precision,
resuming, running out of memory, telemetry."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from tests.gpu.bench import Bench, PartLog
from tui_lab.core.format import size
from tui_lab.data.rows import TokenRow
from tui_lab.decoding.engine import Lockstep, decode_all
from tui_lab.decoding.graph_cache import GraphCache
from tui_lab.decoding.graphs import MIN_NEW_TOKENS, StepMode
from tui_lab.decoding.records import DecodingRequest
from tui_lab.decoding.strategies import PRESETS
from tui_lab.hardware import gpu
from tui_lab.pocket import MODEL_DIR
from tui_lab.training import calibrate, losses
from tui_lab.training.build_trainer import EncodedRows, TrainerHooks, build_trainer
from tui_lab.training.memory_limit import LimitedStorages
from tui_lab.training.trainer import LabTrainer

MODEL = "Qwen/Qwen2.5-0.5B"
VOCABULARY = 151_936
#: Rows of a product in 4 bits: bitsandbytes has a kernel of its own for few.
FOUR_BIT_ROWS = (1, 6, 12, 32, 2048)
#: Sizes of the model whose training is checked: small, so that float32 is quick on every card.
_SMALL = {"layers": 2, "hidden": 64, "intermediate": 96, "heads": 2, "kv_heads": 1, "head_dim": 32}
LENGTHS = (5, 17, 9, 24)
FIGURES = ("loss", "grad_norm")


def run(bench: Bench, log: PartLog) -> None:
    """Runs the part."""
    for name, case in (
        ("lockstep in float32 as on the CPU", _lockstep),
        ("packed documents as documents alone", _packed),
        ("fused output layer as logits", _fused_head),
        ("KL from the base as logits", _kl),
        ("products in 4 bits", _four_bit),
        ("training in half precision", _half),
        ("resuming", _resume),
        ("running out of memory", _out_of_memory),
        ("telemetry", lambda bench, log, _: telemetry(bench, log)),
    ):
        if log.has_time(name):
            with log.case(name), tempfile.TemporaryDirectory(dir=bench.work) as folder:
                case(bench, log, Path(folder))
        bench.free_memory()


def _lockstep(bench: Bench, log: PartLog, _folder: Path) -> None:
    """Eager steps on the CPU, eager steps on the card, and graphs of fixed shapes. The generators of random
    numbers differ between devices, so only lanes without chance are compared."""
    on_cpu = replace(bench, facts=replace(bench.facts, type="cpu"), small=True)
    on_card = replace(bench, small=True)
    lanes = tuple(lane for lane in PRESETS["six classics"] if not lane.strategy.random)
    request = DecodingRequest(tuple(range(5, 25)), lanes, bench.pick(2 * MIN_NEW_TOKENS, 6))
    other = replace(request, prompt_ids=request.prompt_ids[::-1])
    graphs = None if bench.is_cuda else StepMode(fixed=True)
    found: dict[str, list[tuple[int, ...]]] = {}
    for name, place, mode in (
        ("the CPU", on_cpu, StepMode()),
        ("eager steps", on_card, StepMode()),
        ("graphs", on_card, graphs),
    ):
        model = place.model(MODEL, four_bit=False, dtype="float32")
        model.load_state_dict(_cpu_weights(model))
        kept = GraphCache(lambda: None)
        asked = [(name, request)]
        if name == "graphs":  # they are replayed for other requests, with the state of those
            asked += [("", other), ("graphs of an earlier request", request)]
        for title, each in asked:
            engine = Lockstep(model, each, lambda tokens: "", mode=mode)
            engine.graphs = kept
            results = decode_all([engine])
            if title:
                found[title] = [tuple(results[at].token_ids) for at in range(len(lanes))]
            if title and engine.work.reason:
                log.missing(f"lockstep: {title}", engine.work.reason)
    expected = found.pop("the CPU")
    for name, tokens in found.items():
        same = sum(one == other for one, other in zip(tokens, expected, strict=True))
        right = same == len(lanes)
        log.check(f"lockstep in float32 as on the CPU, {name}", right, f"{same} of {len(lanes)} lanes")


def _cpu_weights(model: Any) -> dict[str, torch.Tensor]:
    """Random weights that are the same on every device, large enough for logits that differ."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(weight.shape, generator=generator) * 0.3
        if weight.ndim > 1
        else weight.detach().cpu()
        for name, weight in model.state_dict().items()
    }


# --------------------------------------------------------------------------------------------------
# training


def _rows(lengths: Sequence[int], vocabulary: int = 3072) -> list[TokenRow]:
    generator = torch.Generator().manual_seed(1)
    rows: list[TokenRow] = []
    for length in lengths:
        ids = torch.randint(3, vocabulary, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "labels": [-100, -100, *ids[2:]]})
    return rows


def _trainer(
    bench: Bench,
    folder: Path,
    rows: Sequence[TokenRow],
    *,
    dtype: str = "float32",
    vocabulary: int = 3072,
    **changes: object,
) -> LabTrainer:
    """A run's trainer over a small model with the same random weights each time."""
    settings = {
        "quantization": "none", "max_length": 64, "lora_dropout": 0.0, "gradient_accumulation_steps": 1,
        "per_device_train_batch_size": len(rows), "max_steps": 4, "logging_steps": 1, "warmup_steps": 0,
        "compute_dtype": dtype, "gradient_checkpointing": False, "learning_rate": 1e-3,
        "optim": "adamw_torch",
    }  # fmt: skip
    recipe = bench.recipe(MODEL, "starter", **{**settings, **changes})
    values = bench.resolved(recipe)
    shape = replace(bench.shape(MODEL), **_SMALL, vocabulary=vocabulary)  # type: ignore[arg-type]
    base = calibrate.random_model(shape, recipe, values, bench.facts)
    base.load_state_dict({name: each * 0.1 for name, each in _cpu_weights(base).items()}, strict=False)
    made = build_trainer(
        recipe,
        base,
        AutoTokenizer.from_pretrained(MODEL_DIR),
        EncodedRows(rows, rows),
        values,
        folder=folder,
        device=bench.facts.type,
        hooks=TrainerHooks(),
    )
    made.args.eval_strategy = made.args.save_strategy = "no"
    return made


def _logged(trainer: LabTrainer, name: str = "loss") -> list[float]:
    return [float(each[name]) for each in trainer.state.log_history if name in each]


def _packed(bench: Bench, log: PartLog, folder: Path) -> None:
    rows = _rows(LENGTHS)
    half = str(bench.half).removeprefix("torch.")
    alone: dict[str, dict[str, float]] = {}  # figures by the type that is computed in
    # torch's kernel for bounds of documents takes 16 bits only
    for attention, dtype, tolerance in (
        ("mask", "float32", 1e-4),
        ("varlen", half if bench.is_cuda else "float32", 1e-2 if bench.is_cuda else 1e-4),
    ):
        name = f"packed documents as documents alone, {attention}"
        if dtype not in alone:
            trainer = _trainer(bench, folder, rows, dtype=dtype, max_steps=1)
            trainer.train()
            alone[dtype] = {figure: _logged(trainer, figure)[0] for figure in FIGURES}
        changes: dict[str, Any] = {"packing": True, "packed_attention": attention, "max_steps": 1}
        packed = _trainer(bench, folder, rows, dtype=dtype, per_device_train_batch_size=1, **changes)
        packed.train()
        for figure, expected in alone[dtype].items():
            log.close(f"{name}: {figure}", _logged(packed, figure)[0], expected, tolerance)


def _fused_head(bench: Bench, log: PartLog, folder: Path) -> None:
    vocabulary = bench.pick(VOCABULARY, 3072)
    rows = _rows(LENGTHS, vocabulary)
    trainer = _trainer(bench, folder, rows, vocabulary=vocabulary)
    plain: list[torch.Tensor] = []
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row["input_ids"]], device=bench.device)
            logits = trainer.model(input_ids=ids).logits[0, 1:-1].float()
            plain.append(torch.nn.functional.cross_entropy(logits, ids[0, 2:], reduction="none"))
    expected = float(torch.cat(plain).double().mean())
    log.close("fused output layer as logits", trainer.validation_loss(), expected, 1e-4)


def _kl(bench: Bench, log: PartLog, _folder: Path) -> None:
    vocabulary, width, count = bench.pick(VOCABULARY, 3072), bench.pick(896, 64), bench.pick(64, 8)
    generator = torch.Generator().manual_seed(2)

    def draw(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator).to(bench.device)

    states, base_states = draw(count, width), draw(count, width)
    now, base = (losses.OutputHead(draw(vocabulary, width) / width**0.5, None, 1.0, None) for _ in range(2))
    found = losses.kl_from_base(states, now, base_states, base)
    ours, theirs = ((s @ h.weight.T).log_softmax(-1) for s, h in ((states, now), (base_states, base)))
    expected = torch.nn.functional.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1)
    # matrix products of some cards keep 10 bits of the mantissa
    log.close("KL from the base as logits", float(found.mean()), float(expected.mean()), 2e-3)


def _four_bit(bench: Bench, log: PartLog, _folder: Path) -> None:
    import bitsandbytes.functional as four_bit
    from bitsandbytes.nn import Linear4bit

    width, height = bench.pick((896, 4864), (64, 96))
    layer = Linear4bit(width, height, bias=False, compute_dtype=bench.half, quant_type="nf4").to(bench.device)
    packed: Any = layer.weight
    weight = four_bit.dequantize_4bit(packed.data, packed.quant_state).float()
    for count in bench.pick(FOUR_BIT_ROWS, FOUR_BIT_ROWS[:3]):
        states = torch.randn(count, width, device=bench.device, dtype=bench.half)
        with torch.no_grad():
            found, expected = layer(states).float(), states.float() @ weight.T
        off = float((found - expected).norm() / expected.norm())
        log.check(f"product in 4 bits, {count} rows", off <= 0.02, f"off by {off:.2g} of the norm")


def _half(bench: Bench, log: PartLog, folder: Path) -> None:
    """float16 with its loss scaling against float32; the CPU has bfloat16 only."""
    half = "float16" if bench.is_cuda else "bfloat16"
    exact, rough = (_trainer(bench, folder, _rows(LENGTHS), dtype=dtype) for dtype in ("float32", half))
    for each in (exact, rough):
        each.train()
    for step, (found, expected) in enumerate(zip(_logged(rough), _logged(exact), strict=True), 1):
        log.close(f"training in {half}: loss of step {step}", found, expected, 0.02)


def _resume(bench: Bench, log: PartLog, folder: Path) -> None:
    settings: dict[str, Any] = {"save_steps": 2, "per_device_train_batch_size": 1}
    whole = _trainer(bench, folder, _rows(LENGTHS), **settings)
    whole.args.save_strategy, whole.args.save_steps = "steps", 2
    whole.train()
    rest = _trainer(bench, folder, _rows(LENGTHS), **settings)
    rest.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    log.check("resuming: step", rest.state.global_step == 4, f"ended at {rest.state.global_step}")
    for step in (3, 4):
        log.close(f"resuming: loss of step {step}", _logged(rest)[step - 1], _logged(whole)[step - 1], 1e-5)


def _out_of_memory(bench: Bench, log: PartLog, folder: Path) -> None:
    """A step that does not fit is repeated in smaller parts, with the same losses."""
    length, count, vocabulary = bench.pick((512, 32, VOCABULARY), (48, 8, 3072))
    rows = _rows([length] * count, vocabulary)
    settings: dict[str, Any] = {"max_steps": 2, "max_length": length, "vocabulary": vocabulary}
    free = _trainer(bench, folder, rows, **settings)
    bench.free_memory()
    before = bench.peak_bytes()
    counted = LimitedStorages()
    if bench.is_cuda:
        free.train()
        needed = bench.peak_bytes()
    else:
        with counted:
            free.train()
        before, needed = 0, counted.peak_bytes
    wanted = _logged(free)
    del free  # the second model takes its place
    bench.free_memory()
    small = _trainer(bench, folder, rows, **settings)
    start = small.ladder.state
    limit = before + int((needed - before) * 0.7)
    if bench.is_cuda:
        bench.free_memory()
        total = torch.cuda.get_device_properties(0).total_memory
        # what is reserved now counts, and blocks are cut from segments of 2 MiB or more
        torch.cuda.set_per_process_memory_fraction(min(1.0, (limit + (16 << 20)) / total))
        try:
            small.train()
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    else:
        with LimitedStorages(limit):
            small.train()
    rung = f"{size(needed)} needed, {size(limit)} allowed"
    log.check("running out of memory: a rung was taken", small.ladder.state != start, rung)
    for step, (found, expected) in enumerate(zip(_logged(small), wanted, strict=True), 1):
        log.close(f"running out of memory: loss of step {step}", found, expected, 1e-4)


def telemetry(bench: Bench, log: PartLog) -> None:
    """The driver's figures beside torch's."""
    cards = gpu.sample()
    if not bench.is_cuda:
        return log.missing("telemetry", "there is no card to compare with")
    uuid = str(getattr(torch.cuda.get_device_properties(0), "uuid", ""))
    mine = [card for card in cards if uuid and uuid in str(card.uuid)] or cards[:1]
    log.check("telemetry: the card is listed", bool(mine), f"{len(cards)} cards, {uuid}")
    if not mine:
        return
    card = mine[0]
    free, total = torch.cuda.mem_get_info()
    used = card.memory_used_bytes
    log.check("telemetry: name", card.name == torch.cuda.get_device_name(), f"{card.name}")
    if used is not None:
        log.check(
            "telemetry: used memory",
            abs(used - (total - free)) < 0.02 * total,
            f"{size(used)}, torch says {size(total - free)}",
        )
    for name in ("power_w", "temperature_c", "utilization_percent", "energy_j", "clock_mhz"):
        value = getattr(card, name, None)
        if value is None or not math.isfinite(float(value)):
            log.missing(f"telemetry: {name}", "the driver does not report it")
        else:
            log.figure(f"telemetry: {name}", float(value), "")
