"""What the card can do at most: bytes and multiplications a second, and how long a launch takes."""

from __future__ import annotations

import torch

from tests.gpu.bench import Bench, PartLog

LAUNCHES = 1_000


def run(bench: Bench, log: PartLog) -> None:
    """Runs the part."""
    for name, case in (("copy", _copy), ("matrix product", _product), ("launches", _launches)):
        with log.case(name):
            case(bench, log)
        bench.free_memory()


def _copy(bench: Bench, log: PartLog) -> None:
    source = torch.empty(bench.pick(1 << 30, 1 << 20), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    seconds = bench.seconds(lambda: target.copy_(source), repeat=20, warm_up=3)
    # a copy reads and writes every byte
    bench.ceilings["bytes_per_s"] = 2 * source.numel() / seconds
    log.figure("copy", bench.ceilings["bytes_per_s"] / 1e9, "GB/s")


def _product(bench: Bench, log: PartLog) -> None:
    size = bench.pick(8192, 64)
    left = torch.randn(size, size, device=bench.device, dtype=bench.half)
    seconds = bench.seconds(lambda: left @ left, repeat=10, warm_up=3)
    bench.ceilings["flops_per_s"] = 2 * size**3 / seconds
    log.figure(f"matrix product, {bench.half}", bench.ceilings["flops_per_s"] / 1e12, "TFLOP/s")


def _launches(bench: Bench, log: PartLog) -> None:
    one = torch.zeros(1, device=bench.device)
    launches = bench.pick(LAUNCHES, 10)

    def many() -> None:
        for _ in range(launches):
            one.add_(1)

    log.figure("launch, eager", bench.seconds(many, repeat=3) / launches * 1e6, "µs")
    if not bench.is_cuda:
        return log.missing("launch in a graph", "there is no card")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        many()
    log.figure("launch in a graph", bench.seconds(graph.replay, repeat=3) / launches * 1e6, "µs")
