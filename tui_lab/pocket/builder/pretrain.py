"""Pre-training of the pocket model: packing, the optimisers, the schedule and the loop, with resume.

Short documents are packed into windows of 256 tokens for most of the steps and of 1,024 and 2,048 for the
last part, where long documents join. Hidden matrices are trained by Muon, the embedding and the norms by
AdamW. The documents of a block of steps depend on the seed and the block's number alone, so that a build
that was cut off goes on where it stopped. Nothing here writes to the screen: the caller passes a
`report`.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tui_lab.pocket import CONTEXT
from tui_lab.pocket.builder.corpus import Corpus
from tui_lab.pocket.builder.tokenizer import Encoder

TOKENS_A_STEP = 4096
BLOCK_STEPS = 50  # documents are made, and progress is saved, in blocks of this many steps
WARMUP = 0.02
DECAY_FROM = 0.4  # share of the steps after which the learning rate falls linearly to zero
MUON_RATE, ADAM_RATE = 0.02, 0.004
_POOL = 96  # documents among which the packer looks for one that fits


@dataclass(frozen=True)
class Plan:
    """One build: everything that decides its outcome."""

    seed: int = 1
    steps: int = 1700
    long_share: float = 0.16  # the last part, at 1,024 and 2,048 tokens

    def window(self, step: int) -> int:
        """Tokens of one window at this step; a block never mixes them."""
        block = step // BLOCK_STEPS
        blocks = max(1, -(-self.steps // BLOCK_STEPS))
        first_long = blocks - max(1, round(blocks * self.long_share))
        if block < first_long:
            return 256
        return 1024 if (block - first_long) % 2 == 0 else CONTEXT

    def rate(self, step: int) -> float:
        """Factor on the learning rates."""
        done = step / self.steps
        if done < WARMUP:
            return (step + 1) / (WARMUP * self.steps + 1)
        return 1.0 if done < DECAY_FROM else max(0.0, (1 - done) / (1 - DECAY_FROM))


@dataclass(frozen=True)
class TrainFacts:
    """What a training was, for the model card."""

    seconds: float
    steps: int
    tokens: int
    bf16_autocast: bool
    compiled: bool


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """The architecture of the shipped file; every dimension is a multiple of 64 so that NF4 blocks fit."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=5,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def batches(encoder: Encoder, plan: Plan, block: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(ids, weights), each (B, T), for the steps of one block."""
    window = plan.window(block * BLOCK_STEPS)
    corpus = Corpus(plan.seed * 1_000_003 + block)
    short, long = corpus.documents(), corpus.long_documents()
    pool: deque[tuple[list[int], list[float]]] = deque()

    def refill() -> None:
        # In long windows every sixth draw is a long document: well over half of the tokens.
        made = [next(long) if window > 256 and i % 12 == 0 else next(short) for i in range(_POOL)]
        pool.extend((ids[:window], weights[:window]) for ids, weights in encoder.encode(made))

    def fill_window() -> tuple[list[int], list[float]]:
        ids: list[int] = []
        weights: list[float] = []
        while True:
            if len(pool) < _POOL:
                refill()
            room = window - len(ids) - (1 if ids else 0)
            fitting = next((i for i in range(_POOL) if len(pool[i][0]) <= room), None)
            if fitting is None:
                rest = window - len(ids)
                return ids + [encoder.pad] * rest, weights + [0.0] * rest
            more, more_weights = pool[fitting]
            del pool[fitting]
            if ids:
                ids.append(encoder.separator)
                weights.append(0.0)
            ids.extend(more)
            weights.extend(more_weights)

    for _ in range(BLOCK_STEPS):
        rows = [fill_window() for _ in range(TOKENS_A_STEP // window)]
        yield (
            torch.from_numpy(np.array([ids for ids, _ in rows], dtype=np.int64)),
            torch.from_numpy(np.array([weights for _, weights in rows], dtype=np.float32)),
        )


def weighted_loss(logits: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy of the next token, weighted by the weight of the token to be predicted."""
    targets, weight = ids[:, 1:].reshape(-1), weights[:, 1:].reshape(-1)
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]).float(), targets, reduction="none"
    )
    return (losses * weight).sum() / weight.sum().clamp(min=1.0)


def make_optimisers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(hidden, lr=MUON_RATE, weight_decay=0.01, momentum=0.95, nesterov=True),
        torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(
    plan: Plan,
    tokenizer: PreTrainedTokenizerFast,
    progress: Path,
    report: Callable[[str], None],
    *,
    compiled: bool = True,
    limit_s: float = 0.0,
) -> tuple[LlamaForCausalLM, TrainFacts]:
    """Train from scratch, or go on from the file `progress`; gives the float32 model and the run's facts."""
    keep_freed_memory()
    encoder = Encoder(tokenizer)
    model = new_model(tokenizer, plan.seed)
    optimisers = make_optimisers(model)
    rates = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    bf16 = has_fast_bf16()
    start_block, seconds = 0, 0.0
    if progress.exists():
        state = torch.load(progress, weights_only=True)
        if state["plan"] == asdict(plan):
            model.load_state_dict(state["model"])
            for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            start_block, seconds = state["block"], state["seconds"]
            report(f"going on after step {start_block * BLOCK_STEPS}")
    forward = torch.compile(model, dynamic=False) if compiled else model
    began, tokens = time.monotonic(), 0
    for block in range(start_block, -(-plan.steps // BLOCK_STEPS)):
        losses = []
        for offset, (ids, weights) in enumerate(batches(encoder, plan, block)):
            step = block * BLOCK_STEPS + offset
            if step >= plan.steps:
                break
            for optimiser, rate in zip(optimisers, rates, strict=True):
                optimiser.param_groups[0]["lr"] = rate * plan.rate(step)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = forward(input_ids=ids, use_cache=False).logits
            loss = weighted_loss(logits, ids, weights)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            losses.append(loss.item())
            tokens += ids.numel()
        loss_mean = sum(losses) / max(1, len(losses))
        spent = time.monotonic() - began
        report(
            f"step {min((block + 1) * BLOCK_STEPS, plan.steps)}/{plan.steps}  "
            f"window {plan.window(block * BLOCK_STEPS)}  loss {loss_mean:.3f}  "
            f"{tokens / spent:.0f} tok/s  {seconds + spent:.0f} s"
        )
        _save(progress, plan, model, optimisers, block + 1, seconds + spent)
        if limit_s and seconds + spent > limit_s:
            report("the time limit is reached before the plan's end: the model is weaker than planned")
            break
    total_s = seconds + time.monotonic() - began
    steps = min(plan.steps, start_block * BLOCK_STEPS + tokens // TOKENS_A_STEP)
    return model, TrainFacts(total_s, steps, steps * TOKENS_A_STEP, bf16, compiled)


def _save(
    path: Path,
    plan: Plan,
    model: LlamaForCausalLM,
    optimisers: list[torch.optim.Optimizer],
    block: int,
    seconds: float,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    state = {
        "plan": asdict(plan),
        "model": model.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "block": block,
        "seconds": seconds,
    }
    torch.save(state, partial)
    partial.replace(path)


def has_fast_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself; elsewhere autocast would be slower than float32."""
    capability = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(capability and capability())


def keep_freed_memory() -> None:
    """Tell glibc to keep what it freed: giving big buffers back at every step cost up to half the time."""
    mmap_max, trim_threshold, top_pad = -4, -1, -2
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 256 << 20)
