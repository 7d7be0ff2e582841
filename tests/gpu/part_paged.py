"""Paged AdamW, last: it takes managed memory, which a machine may refuse with the end of the process."""

from __future__ import annotations

import bitsandbytes
import torch

from tests.gpu.bench import Bench, PartLog

#: Its two moments in float32 take 10 MB.
NUMBERS = 1_250_000
STEPS = 3


def run(bench: Bench, log: PartLog) -> None:
    """Runs the part."""
    with log.case("paged AdamW"):
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(bench.pick(NUMBERS, 1_000), generator=generator)
        paged, plain = (torch.nn.Parameter(start.clone().to(bench.device)) for _ in range(2))
        optimizers = (
            bitsandbytes.optim.PagedAdamW32bit([paged], lr=1e-3, weight_decay=0.0),
            torch.optim.AdamW([plain], lr=1e-3, weight_decay=0.0),
        )
        for _ in range(STEPS):
            for weight, optimizer in zip((paged, plain), optimizers, strict=True):
                weight.grad = weight.detach().clone()
                optimizer.step()
        bench.synchronize()
        off = float((paged - plain).detach().abs().max())
        log.check("paged AdamW moves the weights as AdamW does", off < 1e-5, f"off by {off:.2g}")
        moved = float((paged.detach().cpu() - start).abs().mean())
        log.check("paged AdamW moves the weights", moved > 1e-3, f"{moved:.2g}")
