"""Decoding speed: six lanes in lockstep against six ``generate`` calls, the slowest lane alone, and the limit
that the card's memory sets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch

from tests.benchmarks.bench_decoding import one_by_one
from tests.gpu.bench import Bench, PartLog
from tui_lab.decoding.engine import Lockstep, decode_all
from tui_lab.decoding.graph_cache import GraphCache
from tui_lab.decoding.graphs import StepMode
from tui_lab.decoding.records import DecodingRequest, LaneResult
from tui_lab.decoding.speed import speed_of
from tui_lab.decoding.strategies import PRESETS, Lane
from tui_lab.hardware import memory_budget
from tui_lab.training.types import Model

MODELS = (("Qwen/Qwen2.5-0.5B", "0.5B"), ("Qwen/Qwen2.5-1.5B", "1.5B"))
LANES = PRESETS["six classics"]
PROMPT_TOKENS, NEW_TOKENS = 64, 128


def run(bench: Bench, log: PartLog) -> None:
    """Runs the part."""
    for name, label in bench.pick(MODELS, MODELS[:1]):
        for four_bit in (False, True):
            case = f"{label}, {'NF4' if four_bit else '16 bits'}"
            if log.has_time(case):
                with log.case(case):
                    _measure(bench, log, case, bench.model(name, four_bit))
            bench.free_memory()


def _measure(bench: Bench, log: PartLog, case: str, model: Model) -> None:
    new = bench.pick(NEW_TOKENS, 4)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 3000, (1, bench.pick(PROMPT_TOKENS, 8)), generator=generator).to(bench.device)
    request = DecodingRequest(tuple(ids[0].tolist()), LANES, new)

    kept = GraphCache(lambda: memory_budget.free_bytes(bench.facts.type))  # as in the playground
    eager, best = StepMode(), None if bench.is_cuda else StepMode(fixed=True)

    def lockstep(lanes: tuple[Lane, ...] = LANES, mode: StepMode | None = best) -> Lockstep:
        engine = Lockstep(model, replace(request, lanes=lanes), lambda tokens: "", mode=mode)
        engine.graphs = kept
        return engine

    def decode(lanes: tuple[Lane, ...]) -> None:
        decode_all([lockstep(lanes)])

    def calls(lanes: tuple[Lane, ...]) -> Callable[[], None]:
        return lambda: one_by_one(model, ids, new, lanes)

    with torch.inference_mode():
        one_call = bench.seconds(calls(LANES[:1]))
        six_calls = bench.seconds(calls(LANES), warm_up=0)
        together = bench.seconds(partial(decode, LANES))
        step_by_step = bench.seconds(lambda: decode_all([lockstep(mode=eager)]))
        alone = {lane.strategy.name: bench.seconds(partial(decode, (lane,))) for lane in LANES}
    slowest = max(alone, key=lambda name: alone[name])
    log.figure(f"{case}: generate", new / one_call, "tok/s")
    log.figure(f"{case}: six calls", six_calls, "s")
    log.figure(f"{case}: six lanes", together, "s")
    log.figure(f"{case}: six lanes, no graph", step_by_step, "s")
    log.figure(f"{case}: times as fast as six calls", six_calls / together, "×")
    log.figure(f"{case}: six lanes by {slowest} alone", together / alone[slowest], "×")
    log.check(f"{case}: not slower than six calls", bench.small or together <= six_calls, f"{together:.2f} s")
    engine = lockstep()
    _speed(bench, log, case, engine, decode_all([engine]))
    _synchronisations(bench, log, case, partial(decode, LANES), new)


def _speed(
    bench: Bench, log: PartLog, case: str, engine: Lockstep, results: Mapping[int, LaneResult]
) -> None:
    """Steps without the prompt. A step reads every weight and every key once: its bytes by the speed of the
    copy are the share of the limit."""
    limit = bench.ceilings.get("bytes_per_s")
    speed = speed_of([engine.work], results.values(), limit)
    log.figure(f"{case}: steps", speed.steps_per_s, "steps/s")
    log.figure(f"{case}: all lanes", speed.tok_per_s, "tok/s")
    if speed.bandwidth_share is None:
        log.missing(f"{case}: share of bandwidth", "the part ceilings was not run")
    else:
        log.figure(f"{case}: share of bandwidth", speed.bandwidth_share, "")
    log.figure(f"{case}: captured steps", speed.captured_steps / max(1, speed.steps), "")
    if speed.reason or not bench.is_cuda:
        log.missing(f"{case}: steps as CUDA graphs", speed.reason or "there is no card")


def _synchronisations(bench: Bench, log: PartLog, case: str, work: Callable[[], object], steps: int) -> None:
    """How often the processor waits for the card."""
    if not bench.is_cuda:
        return log.missing(f"{case}: synchronisations", "there is no card to wait for")
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchroniz" in str(each.message) for each in seen)
    log.figure(f"{case}: synchronisations a step", waits / steps, "")
