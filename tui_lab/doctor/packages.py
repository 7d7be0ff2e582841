"""Python and the libraries: their versions, and whether torch and bitsandbytes work. Those two are tried in a
short child process, so that a broken installation is a finding and not a crash of the report."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata

import msgspec

from tui_lab.core.format import plural, size
from tui_lab.core.sanitize import sanitize
from tui_lab.doctor.check import CheckState, ChildFailed, DoctorCheck, run_child
from tui_lab.hardware import gpu
from tui_lab.hardware.cuda_support import ON_CPU, Machine, TorchBuild, TorchView, find_problem
from tui_lab.hardware.gpu import BF16_CAPABILITY
from tui_lab.hardware.gpu_trial import COMPILER_ADVICE, GpuTrial
from tui_lab.hardware.telemetry import visible_gpus

#: Importing torch from a cold disk takes tens of seconds; longer than this is a hang.
CHILD_TIMEOUT_S = 180
#: A context of CUDA and a small model need about this much.
LOW_GPU_BYTES = 2 << 30
#: Without these no run can start; bitsandbytes is needed only for NF4 and the 8-bit optimisers.
NEEDED = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
_WITHOUT_BITSANDBYTES = "use quantization = 'none' and another optimiser, or reinstall it"
WANTED = ("bitsandbytes", "textual", "plotext", "nvidia-ml-py", "psutil", "pydantic")


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> DoctorCheck:
    text = f"{'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version < (3, 11):
        return DoctorCheck("Python", "fail", text, "install Python 3.11 or later")
    return DoctorCheck("Python", "ok", text)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _bounds() -> dict[str, str]:
    """Package to the version range of this installation of tui-lab; empty in a checkout that is not
    installed."""
    try:
        lines = metadata.requires("tui-lab") or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for line in lines:
        match = re.match(r"([A-Za-z0-9_.-]+)\s*([^;]*)", line)
        if match and "extra ==" not in line:
            found[match[1].lower()] = match[2].strip()
    return found


def check_packages() -> DoctorCheck:
    """The versions of the libraries, against those that this release supports."""
    versions = {name: _version(name) for name in (*NEEDED, *WANTED)}
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = [name for name in NEEDED if not versions[name]]
    if missing:
        return DoctorCheck(
            "packages", "fail", f"{', '.join(missing)} missing; {found}", "reinstall tui-lab: `make setup`"
        )
    from packaging.specifiers import SpecifierSet

    bounds = _bounds()
    odd = [
        f"{name} {version} (supported: {bounds[name]})"
        for name, version in versions.items()
        if version and bounds.get(name) and not SpecifierSet(bounds[name]).contains(version, prereleases=True)
    ]
    absent = [name for name in WANTED if not versions[name]]
    if odd or absent:
        what = [*odd, *(f"{name} missing" for name in absent)]
        return DoctorCheck(
            "packages", "warn", f"{', '.join(what)}; {found}", "install the versions of constraints.txt"
        )
    return DoctorCheck("packages", "ok", found)


_TORCH_CHILD = """
import json, torch
cuda, reason = torch.cuda.is_available(), ""
count = torch.cuda.device_count() if cuda else 0
try:
    torch.cuda.init()
except Exception as error:
    reason = (str(error).strip().splitlines() or [""])[0]
print(json.dumps({"version": torch.__version__, "cuda_build": torch.version.cuda, "cuda": cuda,
    "devices": [torch.cuda.get_device_name(i) for i in range(count)],
    "capabilities": [torch.cuda.get_device_capability(i) for i in range(count)],
    "architectures": torch.cuda.get_arch_list() if cuda else [], "reason": reason,
    "threads": torch.get_num_threads()}))
"""
#: Tries what a run needs on the GPU.
_TRIAL_CHILD = """
from tui_lab.core.records import to_json
from tui_lab.hardware.gpu_trial import try_everything
print(to_json(try_everything()))
"""

# quantises to 4 bits, checks the size and the error of the dequantised values
_BNB_CHILD = """
import json, torch
import bitsandbytes as bnb
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
done = {"version": bnb.__version__}
for device in ["cpu"] + (["cuda"] if torch.cuda.is_available() else []):
    torch.manual_seed(0)
    weights = torch.randn(64, 64, device=device)
    packed, state = quantize_4bit(weights, quant_type="nf4", compress_statistics=True)
    error = (dequantize_4bit(packed, state) - weights).abs().mean().item()
    done[device] = packed.numel() * packed.element_size() == 64 * 64 // 2 and error < 0.15
print(json.dumps(done))
"""


class TorchAnswer(msgspec.Struct):
    """What torch reports; ``cuda_build`` is the CUDA version that it was built for."""

    version: str
    cuda_build: str | None = None
    cuda: bool = False
    devices: list[str] = []
    capabilities: list[tuple[int, int]] = []
    architectures: tuple[str, ...] = ()
    reason: str = ""  # why CUDA is not available
    threads: int = 1


class BitsandbytesAnswer(msgspec.Struct):
    """Whether NF4 works on the CPU and on the GPU; None where it was not tried."""

    version: str
    cpu: bool | None = None
    cuda: bool | None = None


def check_torch(machine: Machine) -> DoctorCheck:
    """Imports torch and compares it with the driver and the GPUs."""
    try:
        answer = run_child(_TORCH_CHILD, TorchAnswer, CHILD_TIMEOUT_S)
    except ChildFailed as error:
        return DoctorCheck("torch", "fail", f"cannot be used: {error}", "reinstall tui-lab: `make setup`")
    return judge_torch(answer, machine, os.environ)


def judge_torch(answer: TorchAnswer, machine: Machine, environment: Mapping[str, str]) -> DoctorCheck:
    """Whether a run would use the GPU, by the same rule as a run."""
    build = answer.cuda_build
    text = f"{sanitize(answer.version)}, " + (f"built for CUDA {build}" if build else "built without CUDA")
    view = TorchView(answer.cuda, answer.architectures, sanitize(answer.reason)[:200])
    problem = find_problem(machine, environment, TorchBuild(sanitize(answer.version), build), view)
    if problem is not None:
        return DoctorCheck("torch", "fail", f"{text}; {problem.cause}", f"{problem.remedy}; {ON_CPU}")
    if answer.cuda:
        uses = [
            f"{sanitize(name)} ({'bf16' if capability >= BF16_CAPABILITY else 'no bf16'})"
            for name, capability in zip(answer.devices, answer.capabilities, strict=False)
        ]
        return DoctorCheck("torch", "ok", f"{text}, uses {', '.join(uses)}")
    return DoctorCheck("torch", "ok", f"{text}, on the CPU with {plural(answer.threads, 'thread')}")


def check_gpu_trial(cards: Sequence[gpu.Gpu]) -> DoctorCheck | None:
    """Tries a Triton kernel, a 4-bit layer and the compute type; None without a GPU that a run would use."""
    if not visible_gpus(cards, os.environ):
        return None
    try:
        return judge_gpu_trial(run_child(_TRIAL_CHILD, GpuTrial, CHILD_TIMEOUT_S))
    except ChildFailed as error:
        return DoctorCheck(
            "GPU trial", "fail", f"nothing runs on the GPU: {error}", f"see torch above; {ON_CPU}"
        )


def judge_gpu_trial(trial: GpuTrial) -> DoctorCheck:
    """What works on the GPU, and what to do about the rest."""
    free = f"{size(trial.free_bytes)} of {size(trial.total_bytes)} free"
    results = {"a Triton kernel": trial.triton, "an NF4 layer": trial.nf4, trial.dtype: trial.arithmetic}
    works = [name for name, problem in results.items() if not problem]
    text = f"{' and '.join(works)} work; {free}" if works else f"nothing works; {free}"
    wrong = [f"{name} fails: {sanitize(problem)}" for name, problem in results.items() if problem]
    advice = []
    if trial.triton:
        advice.append(f"runs work without Triton, slower; {COMPILER_ADVICE}")
    if trial.nf4:
        advice.append(f"NF4: {_WITHOUT_BITSANDBYTES}")
    if trial.arithmetic:
        advice.append(f"the GPU computes wrongly: look at `nvidia-smi`; {ON_CPU}")
    if trial.free_bytes < LOW_GPU_BYTES:
        advice.append("free memory of the GPU: `nvidia-smi` lists what uses it")
    state: CheckState = "fail" if trial.arithmetic else "warn" if advice else "ok"
    return DoctorCheck("GPU trial", state, "; ".join([*wrong, text]), "; ".join(advice))


def check_bitsandbytes() -> DoctorCheck:
    """Quantises to NF4 and back, on the CPU and on the GPU."""
    try:
        return judge_bitsandbytes(run_child(_BNB_CHILD, BitsandbytesAnswer, CHILD_TIMEOUT_S))
    except ChildFailed as error:
        return DoctorCheck("bitsandbytes", "warn", f"cannot be used: {error}", _WITHOUT_BITSANDBYTES)


def judge_bitsandbytes(answer: BitsandbytesAnswer) -> DoctorCheck:
    """The devices on which NF4 works."""
    version = sanitize(answer.version)
    works = [name for name, result in (("cpu", answer.cpu), ("cuda", answer.cuda)) if result]
    wrong = [name for name, result in (("cpu", answer.cpu), ("cuda", answer.cuda)) if result is False]
    if wrong or not works:
        text = f"{version}, NF4 gives wrong values on {', '.join(wrong) or 'every device'}"
        return DoctorCheck("bitsandbytes", "warn", text, _WITHOUT_BITSANDBYTES)
    return DoctorCheck("bitsandbytes", "ok", f"{version}, NF4 works on {' and '.join(works)}")
