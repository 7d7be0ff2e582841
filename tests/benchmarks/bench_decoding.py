"""The six classic lanes in lockstep against six sequential ``generate`` calls on the same random-weight
models, in one process. transformers 5 has no contrastive search any more, so the sixth call is the
algorithm of 4.55 over transformers' own cache. CPU seconds stand beside the wall clock because another
program on the same cores spoils the one and hardly the other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from tests.benchmarks.figures import Figure
from tui_lab.decoding.engine import Lockstep
from tui_lab.decoding.engine import decode_all as decode
from tui_lab.decoding.records import DecodingRequest
from tui_lab.decoding.strategies import PRESETS, Beam, Contrastive, Lane, Sample

#: What the project promises on two cores: at least 2.5 times as fast.
LIMIT = 1 / 2.5
#: name, sizes, prompt tokens, new tokens. Chosen so that all four together take about two CPU minutes.
CASES: list[tuple[str, dict[str, int], int, int]] = [
    (
        "24 layers of 32 (bound by launches)",
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 24, "vocab_size": 2048},
        64,
        64,
    ),
    (
        "25 M, 32 k words",
        {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 7, "vocab_size": 32_000},
        64,
        64,
    ),
    (
        "25 M, 32 k words, long prompt",
        {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 7, "vocab_size": 32_000},
        1500,
        32,
    ),
    (
        "135 M, 49 k words",
        {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "vocab_size": 49_152},
        16,
        24,
    ),
]


def model_of(sizes: dict[str, int]) -> Any:
    torch.manual_seed(0)
    heads = max(1, sizes["hidden_size"] // 64)
    config = LlamaConfig(
        **sizes,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 3),
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=None,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def contrastive_alone(model: Any, ids: torch.Tensor, new: int, strategy: Contrastive) -> None:
    """Contrastive search as transformers 4.55 runs it: its own prefill, k rows a step."""
    k, alpha = strategy.top_k, strategy.penalty_alpha
    cache = DynamicCache(config=model.config)
    out = model.model(ids, past_key_values=cache, use_cache=True)
    context, logits = out.last_hidden_state, model.lm_head(out.last_hidden_state[:, -1])
    cache.batch_repeat_interleave(k)
    for _ in range(new):
        probability, tokens = logits.softmax(-1).topk(k)
        out = model.model(tokens.view(k, 1), past_key_values=cache, use_cache=True)
        states = out.last_hidden_state
        past = context / context.norm(dim=2, keepdim=True)
        own = states / states.norm(dim=2, keepdim=True)
        penalty = (past.expand(k, -1, -1) @ own.transpose(1, 2)).squeeze(-1).max(-1).values
        best = int(((1 - alpha) * probability[0] - alpha * penalty).argmax())
        cache.batch_select_indices(torch.full((k,), best))
        context = torch.cat((context, states[best : best + 1]), dim=1)
        logits = model.lm_head(states[best])


def one_by_one(model: Any, ids: torch.Tensor, new: int, lanes: tuple[Lane, ...]) -> None:
    """Each lane as a call of its own."""
    for lane in lanes:
        s = lane.strategy
        settings: dict[str, Any] = {"do_sample": False}
        if isinstance(s, Contrastive):
            contrastive_alone(model, ids, new, s)
            continue
        if isinstance(s, Beam):
            settings["num_beams"] = s.num_beams
        if isinstance(s, Sample):
            torch.manual_seed(lane.seed or 0)
            settings = {"do_sample": True, "temperature": s.temperature, "top_k": s.top_k, "top_p": s.top_p}
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, pad_token_id=0, **settings
        )


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and on the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        work()
    return time.perf_counter() - wall, time.process_time() - cpu


def run() -> Iterator[Figure]:
    lanes = PRESETS["six classics"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # On a busy machine threads wait for each other at every barrier, and what is measured is the other
    # programs: there one thread is the fair comparison.
    busy = hasattr(os, "getloadavg") and os.getloadavg()[0] > cores / 2
    torch.set_num_threads(1 if busy else cores)
    yield Figure("threads that torch uses", torch.get_num_threads(), "")
    for name, sizes, length, new in CASES:
        model = model_of(sizes)
        ids = torch.randint(0, sizes["vocab_size"], (1, length), generator=torch.Generator().manual_seed(1))
        request = DecodingRequest(tuple(ids[0].tolist()), lanes, new)

        def together(request: DecodingRequest = request, model: Any = model) -> object:
            return decode([Lockstep(model, request, lambda tokens: "")])

        def apart(model: Any = model, ids: torch.Tensor = ids, new: int = new) -> object:
            return one_by_one(model, ids, new, lanes)

        def warm(model: Any = model, ids: torch.Tensor = ids) -> object:
            decode(
                [Lockstep(model, DecodingRequest(tuple(ids[0, :8].tolist()), lanes, 2), lambda tokens: "")]
            )
            return one_by_one(model, ids[:, :8], 2, lanes)

        timed(warm)
        lockstep, sequential = timed(together), timed(apart)
        case = f"{name}, {length} + {new} tokens"
        yield Figure(f"{case}: six calls", sequential[0], "s")
        yield Figure(f"{case}: six calls, CPU", sequential[1], "s CPU")
        yield Figure(f"{case}: lockstep", lockstep[0], "s")
        yield Figure(f"{case}: lockstep, CPU", lockstep[1], "s CPU")
        yield Figure(f"{case}: times as fast (wall)", sequential[0] / lockstep[0], "×")
        yield Figure(f"{case}: lockstep's share of the CPU time", lockstep[1] / sequential[1], "", LIMIT)
