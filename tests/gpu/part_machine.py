"""The machine: versions, whether torch can use the card, and what a run needs there."""

from __future__ import annotations

import importlib.util
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from tests.gpu.bench import Bench, PartLog
from tui_lab.hardware import cuda_support, gpu, gpu_trial

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
    has_varlen = importlib.util.find_spec("torch.nn.attention.varlen") is not None
    log.check("torch has attention over rows of different lengths (varlen)", has_varlen)
    if not bench.is_cuda:
        return log.missing("Triton, 4 bits and arithmetic on the card", "there is no card")
    with log.case("torch can use the card"):
        problem = cuda_support.problem_here()
        log.check("torch can use the card", problem is None, problem.cause if problem else "")
        major, minor = torch.cuda.get_device_capability()
        log.figure("compute capability", major + minor / 10, "")
        log.figure("memory", torch.cuda.get_device_properties(0).total_memory / 2**30, "GiB")
    with log.case("trials"):
        trial = gpu_trial.try_everything()
        for name, reason in (
            ("Triton", trial.triton),
            ("4 bits", trial.nf4),
            (trial.dtype, trial.arithmetic),
        ):
            log.check(f"trial of {name}", not reason, reason)
        log.figure("free memory", trial.free_bytes / 2**30, "GiB")
