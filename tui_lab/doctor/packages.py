"""Python and the libraries: their versions, and whether torch and bitsandbytes work. Those two are tried in a
short child process, so that a broken installation is a finding and not a crash of the report."""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata

import msgspec

from tui_lab.core.format import plural
from tui_lab.core.sanitize import sanitize
from tui_lab.doctor.check import ChildFailed, DoctorCheck, run_child
from tui_lab.hardware import gpu

#: Importing torch from a cold disk takes tens of seconds; longer than this is a hang.
CHILD_TIMEOUT_S = 180
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
cuda = torch.cuda.is_available()
print(json.dumps({"version": torch.__version__, "cuda_build": torch.version.cuda, "cuda": cuda,
    "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
    "bf16": bool(cuda and torch.cuda.is_bf16_supported()), "threads": torch.get_num_threads()}))
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
    bf16: bool = False
    threads: int = 1


class BitsandbytesAnswer(msgspec.Struct):
    """Whether NF4 works on the CPU and on the GPU; None where it was not tried."""

    version: str
    cpu: bool | None = None
    cuda: bool | None = None


def check_torch(cards: list[gpu.Gpu], driver: gpu.Driver | None) -> DoctorCheck:
    """Imports torch and compares its CUDA build with the driver."""
    try:
        return judge_torch(run_child(_TORCH_CHILD, TorchAnswer, CHILD_TIMEOUT_S), cards, driver)
    except ChildFailed as error:
        return DoctorCheck("torch", "fail", f"cannot be used: {error}", "reinstall tui-lab: `make setup`")


def judge_torch(answer: TorchAnswer, cards: list[gpu.Gpu], driver: gpu.Driver | None) -> DoctorCheck:
    """torch's CUDA build against the driver."""
    build = answer.cuda_build
    text = f"{sanitize(answer.version)}, " + (f"built for CUDA {build}" if build else "built without CUDA")
    if answer.cuda:
        devices = ", ".join(sanitize(name) for name in answer.devices)
        return DoctorCheck("torch", "ok", f"{text}, uses {devices} ({'bf16' if answer.bf16 else 'no bf16'})")
    text += f", on the CPU with {plural(answer.threads, 'thread')}"
    if not cards:
        return DoctorCheck("torch", "ok", text)
    if not build:
        return DoctorCheck(
            "torch", "warn", text, "this torch cannot use the GPU: install a CUDA build of torch"
        )
    # within one major version newer builds run on older drivers
    if driver and driver.cuda and int(str(build).partition(".")[0]) > driver.cuda[0]:
        runs = f"{driver.cuda[0]}.{driver.cuda[1]}"
        advice = (
            f"the driver runs CUDA up to {runs}, torch was built for {build}: "
            f"update the driver, or install torch built for CUDA {runs} or older"
        )
        return DoctorCheck("torch", "warn", f"{text}; driver for CUDA {runs}", advice)
    advice = "torch does not see the GPU: check CUDA_VISIBLE_DEVICES and the permissions of the container"
    return DoctorCheck("torch", "warn", text, advice)


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
