"""Which build of torch fits the NVIDIA driver of this machine. ``python -m tui_lab.hardware.torch_index`` is
for ``make setup``, before anything is installed: it uses the standard library only, prints the index to
install torch from (nothing for the default one), and says why on stderr."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from typing import NamedTuple

URL = "https://download.pytorch.org/whl/"
#: The default build of torch is for CUDA 13, whose oldest driver is this one.
DEFAULT_CUDA, DEFAULT_DRIVER = 13, 580
#: The oldest compute capability of that build: it has no kernels for Volta, Pascal and older cards.
DEFAULT_CAPABILITY = (7, 5)
#: The build for older drivers (every CUDA 12) and older cards: compute capability 5.0 to 9.0.
OLDER_INDEX, OLDER_CUDA = "cu126", 12
#: Blackwell and later have no kernels there. The last build for CUDA 12 that has is torch 2.11 of this index
#: (7.5 to 12.0; torch 2.12 dropped it). By the support matrix in pytorch's RELEASE.md of 2.12; not tried.
BLACKWELL_INDEX, BLACKWELL_CAPABILITY, BLACKWELL_CUDA = "cu128", (10, 0), (12, 8)
_TIMEOUT_S = 20

Version = tuple[int, int]


class TorchIndex(NamedTuple):
    """``name``: of the index, "" for the default one, None where no build fits; ``reason``: a sentence, ""
    for the default one."""

    name: str | None
    reason: str = ""


def fitting(cuda: Version | None, capabilities: Iterable[Version] = ()) -> TorchIndex:
    """The index for a driver that supports CUDA up to ``cuda`` (None: unknown) and for cards of these
    compute capabilities."""
    capabilities = list(capabilities)
    oldest, newest = min(capabilities, default=None), max(capabilities, default=None)
    is_newer = newest is not None and newest >= BLACKWELL_CAPABILITY
    if cuda is not None and cuda[0] < OLDER_CUDA:
        return TorchIndex(
            None,
            f"the NVIDIA driver supports CUDA up to {_text(cuda)}, and no build of torch that tui-lab works "
            f"with runs on it: update the driver to {DEFAULT_DRIVER} or later",
        )
    if cuda is not None and cuda[0] < DEFAULT_CUDA:
        name = BLACKWELL_INDEX if is_newer else OLDER_INDEX
        last = " (torch 2.11, the last; a newer driver gets a newer torch)" if is_newer else ""
        return TorchIndex(
            name,
            f"the NVIDIA driver supports CUDA up to {_text(cuda)} and torch's default build needs "
            f"{DEFAULT_CUDA}.0 (driver {DEFAULT_DRIVER} or later): the build {name} fits{last}",
        )
    if oldest is not None and oldest < DEFAULT_CAPABILITY and not is_newer:
        return TorchIndex(
            OLDER_INDEX,
            f"torch's default build has no kernels for compute capability {_text(oldest)} "
            f"(it begins at {_text(DEFAULT_CAPABILITY)}): the build {OLDER_INDEX} has",
        )
    return TorchIndex("")


def address(name: str) -> str:
    """The URL of an index: of torch's own by its short name (cu126, cpu), or ``name`` itself."""
    return name if "/" in name else URL + name


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


# --------------------------------------------------------------------------------------------------
# for make


def _ask(*options: str) -> str:
    """What nvidia-smi prints; "" without a working driver."""
    try:
        found = subprocess.run(
            ["nvidia-smi", *options], capture_output=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if found.returncode else found.stdout.decode("utf-8", "replace")


def version_of(text: str) -> Version | None:
    """The first version in a text, major and minor; None without one."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def of_this_machine() -> TorchIndex:
    """The index that fits the driver and the cards that nvidia-smi shows."""
    header = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+\.\d+)", _ask())
    if header is None:
        return TorchIndex("")  # no driver: the default
    lines = _ask("--query-gpu=compute_cap", "--format=csv,noheader").splitlines()
    capabilities = [version for line in lines if (version := version_of(line))]
    return fitting(version_of(header[1]), capabilities)


def main(arguments: list[str]) -> int:
    """Prints the URL of the index; ``arguments``: the index that the user wants, if any. 1 where no build
    fits."""
    wanted = arguments[0].strip() if arguments else ""
    if wanted:
        print(address(wanted))  # noqa: T201
        return 0
    found = of_this_machine()
    if found.reason:
        print(f"torch: {found.reason}", file=sys.stderr)  # noqa: T201
    if found.name is None:
        print("For a CPU only: make setup TORCH_INDEX=cpu", file=sys.stderr)  # noqa: T201
        return 1
    if found.name:
        print(address(found.name))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
