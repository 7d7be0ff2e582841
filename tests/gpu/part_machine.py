"""The machine: versions, whether torch has code for the card, Triton, a layer in 4 bits."""

from __future__ import annotations

import importlib.util
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from tests.gpu.bench import Bench, PartLog
from tui_lab.hardware import gpu

LIBRARIES = (
    "torch", "triton", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets",
    "huggingface_hub", "tokenizers", "safetensors", "pyarrow", "liger-kernel",
)  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of Python, the driver and the libraries; "missing" for those that are not here."""
    found = {"python": platform.python_version()}
    if (driver := gpu.driver()) is not None:
        found["driver"] = str(driver.version)
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def run(bench: Bench, log: PartLog) -> None:
    """Runs the part."""
    with log.case("torch's code for this card"):
        _architecture(bench, log)
    with log.case("Triton kernel"):
        _triton(bench, log)
    with log.case("layer in 4 bits"):
        _four_bit(bench, log)
    has_varlen = importlib.util.find_spec("torch.nn.attention.varlen") is not None
    log.check("torch has attention over rows of different lengths (varlen)", has_varlen)


def _architecture(bench: Bench, log: PartLog) -> None:
    if not bench.is_cuda:
        return log.missing("torch's code for this card", "there is no card")
    major, minor = torch.cuda.get_device_capability()
    built = torch.cuda.get_arch_list()
    # code of a family runs on its later members: sm_80 on 8.6
    fits = any(_runs(name, major, minor) for name in built)
    log.check("torch's code for this card", fits, f"sm_{major}{minor}, built for {' '.join(built)}")


def _runs(name: str, major: int, minor: int) -> bool:
    number = name.removeprefix("sm_")
    return name.startswith("sm_") and number.isdecimal() and (
        int(number[:-1]) == major and int(number[-1]) <= minor
    )  # fmt: skip


def _triton(bench: Bench, log: PartLog) -> None:
    if not bench.is_cuda or importlib.util.find_spec("triton") is None:
        return log.missing(
            "Triton kernel", "Triton needs a card" if not bench.is_cuda else "it is not installed"
        )
    from tests.gpu import triton_kernel

    values = torch.randn(1000, device=bench.device)
    seconds = bench.seconds(lambda: triton_kernel.add_one(values), warm_up=0)
    log.figure("first Triton kernel, with compiling", seconds, "s")
    same = torch.equal(triton_kernel.add_one(values), values + 1)
    log.check("Triton kernel", same, "adds 1 to 1,000 numbers")


def _four_bit(bench: Bench, log: PartLog) -> None:
    from bitsandbytes.nn import Linear4bit

    layer = Linear4bit(256, 128, bias=False, compute_dtype=bench.half, quant_type="nf4").to(bench.device)
    states = torch.randn(4, 256, device=bench.device, dtype=bench.half)
    log.check("layer in 4 bits", bool(torch.isfinite(layer(states)).all()), str(bench.half))
