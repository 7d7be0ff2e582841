"""Python and the libraries that do the work: their versions, and whether torch and bitsandbytes can be used.
Those two are asked in a short child process, so that a broken installation of either is a line of the report
and not a crash of it."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from tui_lab.core.sanitize import sanitize
from tui_lab.doctor.check import Check, child
from tui_lab.hardware import gpu

#: Importing torch from a cold disk takes tens of seconds; longer than this is a hang.
CHILD_TIMEOUT_S = 180
#: Without these no run can start; bitsandbytes is needed only for NF4 and the 8-bit optimisers.
NEEDED = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
WANTED = ("bitsandbytes", "textual", "plotext", "nvidia-ml-py", "psutil", "pydantic")


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    text = f"{'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version < (3, 11):
        return Check("Python", "fail", text, "install Python 3.11 or later")
    return Check("Python", "ok", text)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _bounds() -> dict[str, str]:
    """Package → the versions that this installation of tui-lab asks for; empty in a bare checkout."""
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


def check_packages() -> Check:
    """Versions of the libraries that do the work, against those that this release was made for."""
    versions = {name: _version(name) for name in (*NEEDED, *WANTED)}
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = [name for name in NEEDED if not versions[name]]
    if missing:
        return Check(
            "packages",
            "fail",
            f"{', '.join(missing)} missing; {found}",
            "install tui-lab again: `make setup`",
        )
    from packaging.specifiers import SpecifierSet

    bounds = _bounds()
    odd = [
        f"{name} {version} (made for {bounds[name]})"
        for name, version in versions.items()
        if version and bounds.get(name) and not SpecifierSet(bounds[name]).contains(version, prereleases=True)
    ]
    absent = [name for name in WANTED if not versions[name]]
    if odd or absent:
        what = [*odd, *(f"{name} missing" for name in absent)]
        return Check(
            "packages", "warn", f"{', '.join(what)}; {found}", "install the versions of constraints.txt"
        )
    return Check("packages", "ok", found)


_TORCH_CHILD = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({"version": torch.__version__, "cuda_build": torch.version.cuda, "cuda": cuda,
    "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
    "bf16": bool(cuda and torch.cuda.is_bf16_supported()), "threads": torch.get_num_threads()}))
"""

# really 4-bit: quantise, look at the bytes, come back close
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


def ask_torch() -> dict[str, Any]:
    """Version, CUDA build, devices; in a child, since importing torch takes seconds and can crash."""
    return child(_TORCH_CHILD, CHILD_TIMEOUT_S)


def ask_bitsandbytes() -> dict[str, Any]:
    """Whether NF4 really packs and unpacks, on the CPU and on the GPU."""
    return child(_BNB_CHILD, CHILD_TIMEOUT_S)


def check_torch(answer: Mapping[str, Any], cards: list[gpu.Gpu], driver: gpu.Driver | None) -> Check:
    """torch's CUDA build against the driver."""
    if "error" in answer:
        return Check(
            "torch", "fail", f"cannot be used: {answer['error']}", "install tui-lab again: `make setup`"
        )
    build = answer.get("cuda_build")
    text = f"{answer.get('version')}, " + (f"built for CUDA {build}" if build else "built without CUDA")
    if answer.get("cuda"):
        devices = ", ".join(sanitize(str(name)) for name in answer.get("devices", []))
        bf16 = "bf16" if answer.get("bf16") else "no bf16"
        return Check("torch", "ok", f"{text}, uses {devices} ({bf16})")
    threads = answer.get("threads")
    text += f", on the CPU with {threads} thread{'s' * (threads != 1)}"
    if not cards:
        return Check("torch", "ok", text)
    if not build:
        return Check(
            "torch", "warn", text, "there is a GPU that this torch cannot use: install a CUDA build of torch"
        )
    # within one major version newer builds run on older drivers
    if driver and driver.cuda and int(str(build).partition(".")[0]) > driver.cuda[0]:
        runs = f"{driver.cuda[0]}.{driver.cuda[1]}"
        advice = (
            f"the driver runs CUDA up to {runs}, torch was built for {build}: "
            f"update the driver, or install torch built for CUDA {runs} or older"
        )
        return Check("torch", "warn", f"{text}; driver for CUDA {runs}", advice)
    advice = "torch does not see the GPU: look at CUDA_VISIBLE_DEVICES and at the container's rights"
    return Check("torch", "warn", text, advice)


def check_bitsandbytes(answer: Mapping[str, Any]) -> Check:
    without = "use quantization = 'none' and a plain optimiser, or install it again"
    if "error" in answer:
        return Check("bitsandbytes", "warn", f"cannot be used: {answer['error']}", without)
    devices = [name for name in ("cpu", "cuda") if name in answer]
    bad = [name for name in devices if not answer[name]]
    if bad or not devices:
        return Check(
            "bitsandbytes", "warn", f"{answer.get('version')}, NF4 is wrong on {', '.join(bad)}", without
        )
    return Check("bitsandbytes", "ok", f"{answer.get('version')}, NF4 works on {' and '.join(devices)}")
