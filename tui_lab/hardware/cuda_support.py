"""Whether torch can compute on the NVIDIA GPUs that the driver shows, and if not, why and what to do. Where
it cannot, no process of the lab computes on the CPU instead: it refuses, unless the CPU was chosen.

Before torch is imported the driver is compared with the installed build of torch; afterwards torch itself is
asked (:func:`torch_device`)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.hardware import gpu, nvidia_hardware, torch_index
from tui_lab.hardware.telemetry import visible_gpus

#: The variable that selects the GPUs of a process.
GPUS_ENV = "CUDA_VISIBLE_DEVICES"
#: Its values that hide every GPU on purpose.
_HIDE = ("", "-1", "none")
ON_CPU = "`--cpu` (device = 'cpu' in a recipe) computes on the CPU instead"

DeviceType = Literal["cuda", "mps", "cpu"]


class TorchBuild(NamedTuple):
    """The installed torch; ``cuda``: the CUDA version that it was built for, None without CUDA."""

    version: str
    cuda: str | None


class TorchView(NamedTuple):
    """What torch reports once it is imported. ``architectures``: as ``torch.cuda.get_arch_list`` has them;
    ``reason``: why CUDA is not available."""

    available: bool
    architectures: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Problem:
    """Why torch cannot use the GPU, and what to do."""

    cause: str
    remedy: str

    @property
    def text(self) -> str:
        """Both, and how to compute on the CPU, as one sentence."""
        return f"{self.cause}: {self.remedy}; {ON_CPU}"


@dataclass(frozen=True)
class Machine:
    """The GPUs and the driver as NVML shows them. ``lost``: why a GPU or the driver does not answer."""

    cards: Sequence[gpu.Gpu] = ()
    driver: gpu.Driver | None = None
    lost: str = ""


def survey() -> Machine:
    """This machine now. Queries the driver."""
    monitor = gpu.GpuMonitor()
    cards = monitor.read()
    lost = monitor.problem if monitor.problem in gpu.LOST_CODES.values() else ""
    return Machine(cards, gpu.driver(), lost)


def is_hidden(environment: Mapping[str, str]) -> bool:
    """Whether the environment hides every GPU on purpose."""
    return environment.get(GPUS_ENV, "0").strip().lower() in _HIDE


def hide_gpus() -> None:
    """Makes this process, before it imports torch, and its children compute on the CPU."""
    os.environ[GPUS_ENV] = ""


@lru_cache(maxsize=1)
def installed_torch() -> TorchBuild | None:
    """The installed torch, without importing it; None where it is not found."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    version = re.search(r"^__version__\s*=\s*'([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b[^=\n]*=\s*'([^']+)'", text, re.MULTILINE)
    return TorchBuild(version[1], cuda[1] if cuda else None) if version else None


def has_kernels(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether code for ``architectures`` (sm_86, sm_90a, compute_120 …) runs on a card: kernels run on later
    minor versions of their generation, intermediate code on everything later. Without any: unknown, True."""
    known = False
    for name in architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if found is None:
            continue
        known = True
        built = int(found[2]), int(found[3])
        if found[4] == "a":
            runs = built == capability
        elif found[1] == "compute":
            runs = built <= capability
        else:
            runs = built[0] == capability[0] and built[1] <= capability[1]
        if runs:
            return True
    return not known


def find_problem(
    machine: Machine, environment: Mapping[str, str], build: TorchBuild | None, view: TorchView | None = None
) -> Problem | None:
    """Why a process with this environment cannot compute on the first GPU that it is shown; None where it
    can, where there is no GPU, and where GPUs are hidden on purpose. ``view``: None before torch is
    imported."""
    if is_hidden(environment):
        return None
    if not machine.cards:
        if not machine.lost or (view is not None and view.available):
            return None
        return Problem(
            f"the GPU cannot be used: {machine.lost}",
            "`nvidia-smi` must show it again, which may take a restart of the machine",
        )
    shown = visible_gpus(machine.cards, environment)
    if not shown:
        return _invisible(machine, environment)
    return _build_problem(shown[0], machine.driver, build, view)


def _invisible(machine: Machine, environment: Mapping[str, str]) -> Problem:
    named = sanitize(environment.get(GPUS_ENV, ""))[:60]
    many = plural(len(machine.cards), "GPU")
    return Problem(
        f"{GPUS_ENV} = {named!r} names no GPU of this machine, which has {many}, counted from 0",
        "correct it or unset it",
    )


def _build_problem(
    card: gpu.Gpu, driver: gpu.Driver | None, build: TorchBuild | None, view: TorchView | None
) -> Problem | None:
    name, capability = card.name, card.compute_capability
    cuda = driver.cuda if driver else None
    index = torch_index.fitting(cuda, [capability] if capability else [])
    install = f"`make setup TORCH_INDEX={index.name}` installs it" if index.name else ""
    if build is not None and build.cuda is None:
        fitting = install or (index.reason if index.name is None else "install torch's default build")
        return Problem(
            f"torch {build.version} was built without CUDA and cannot use the {name}",
            f"it needs a build for CUDA ({fitting})",
        )
    if build is not None and build.cuda and cuda and _major(build.cuda) > cuda[0]:
        version = f" {driver.version}" if driver and driver.version else ""
        older = f"or use torch for CUDA {cuda[0]} ({install})" if install else ""
        return Problem(
            f"the NVIDIA driver{version} supports CUDA up to {cuda[0]}.{cuda[1]} and torch {build.version} "
            f"was built for CUDA {build.cuda}, so that torch cannot use the {name}",
            f"update the driver to {torch_index.DEFAULT_DRIVER} or later {older}".rstrip(),
        )
    if capability is not None and not _has_kernels(capability, build, view):
        is_default = build is None or _major(build.cuda or "") >= torch_index.DEFAULT_CUDA
        if install:
            remedy = f"use a build of torch that has ({install})"
        elif index.name == "" and not is_default:
            remedy = "install torch's default build, which has (`make clean setup`)"
        else:
            remedy = "use a newer card"
        return Problem(
            f"this torch has no kernels for the {name} (compute capability {capability[0]}.{capability[1]})",
            remedy,
        )
    if view is not None and not view.available:
        reason = f" ({view.reason})" if view.reason else ""
        return Problem(
            f"the driver shows the {name}, but torch cannot use it{reason}",
            "see whether `nvidia-smi` works, whether this user or container may open /dev/nvidia*, and "
            "whether the card is in exclusive use",
        )
    return None


def _has_kernels(capability: tuple[int, int], build: TorchBuild | None, view: TorchView | None) -> bool:
    if view is not None and view.architectures:
        return has_kernels(capability, view.architectures)
    if build is None or build.cuda is None:
        return True
    # before torch is imported: the builds for CUDA 13 begin at Turing, those before CUDA 12.8 end with Hopper
    if _major(build.cuda) >= torch_index.DEFAULT_CUDA:
        return capability >= torch_index.DEFAULT_CAPABILITY
    version = torch_index.version_of(build.cuda) or (0, 0)
    return version >= torch_index.BLACKWELL_CUDA or capability < torch_index.BLACKWELL_CAPABILITY


def _major(version: str) -> int:
    text = version.partition(".")[0]
    return int(text) if text.isdecimal() else 0


def problem_here(machine: Machine | None = None) -> Problem | None:
    """Why a run of this machine could not use its GPU, without torch. Queries the driver."""
    return find_problem(machine or survey(), os.environ, installed_torch())


def without_gpu_reason(environment: Mapping[str, str]) -> str:
    """Why a process that computes on the CPU does: "no GPU was found", or what there is of one."""
    if is_hidden(environment):
        return f"{GPUS_ENV} hides every GPU"
    return _missing_driver() or "no GPU was found"


@lru_cache(maxsize=1)
def _missing_driver() -> str:
    return nvidia_hardware.missing_driver()[0]


# --------------------------------------------------------------------------------------------------
# with torch


def torch_device() -> DeviceType:
    """The kind of device that this process computes on: cuda, mps or cpu. Raises LabError where the driver
    shows a GPU that torch cannot use and that is not hidden."""
    import torch

    build = TorchBuild(torch.__version__, torch.version.cuda)
    if torch.cuda.is_available():
        capability = torch.cuda.get_device_capability()
        if has_kernels(capability, torch.cuda.get_arch_list()):
            return "cuda"
    if is_hidden(os.environ):
        return "mps" if torch.backends.mps.is_available() else "cpu"
    problem = find_problem(survey(), os.environ, build, _view())
    if problem is not None:
        raise LabError(problem.text)
    if torch.cuda.is_available():  # a card without kernels that NVML does not show
        capability = torch.cuda.get_device_capability()
        name = sanitize(torch.cuda.get_device_name())
        raise LabError(
            f"this torch has no kernels for the {name} (compute capability {capability[0]}.{capability[1]}): "
            f"use a newer card or another build of torch; {ON_CPU}"
        )
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _view() -> TorchView:
    import torch

    if torch.cuda.is_available():
        return TorchView(True, tuple(torch.cuda.get_arch_list()))
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # torch gives the reason only here
        return TorchView(False, (), first_line(error)[:200])
    return TorchView(False)
