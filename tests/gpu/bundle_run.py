"""Runs the checks and measurements of a bundle: ``python3 run.py --out gpu-results``. Needs no network and no
installation: wheels are unpacked beside this file, those of ``wheels/extra`` only where the machine has no
such library. Other options are those of ``python -m tests.gpu``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: The lab's own limits for libraries that must be on the machine.
NEEDED = ("torch>=2.9", "accelerate>=1.12", "psutil>=6", "numpy>=1.26", "jinja2>=3.1")
#: In the sentence about a library that is not there; one of another version may still work.
MISSING = " is missing "


def has(name: str) -> bool:
    """Whether this machine has a library."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def wanted(folder: Path, is_here: Callable[[str], bool] = has) -> list[Path]:
    """The wheels to unpack."""
    pinned = sorted((folder / "pinned").glob("*.whl"))
    extra = sorted((folder / "extra").glob("*.whl"))
    return pinned + [wheel for wheel in extra if not is_here(wheel.name.partition("-")[0])]


def unpack(wheels: Iterable[Path], site: Path) -> None:
    """Unpacks wheels into one folder for Python's path."""
    for wheel in wheels:
        if not any(site.glob(f"{wheel.name.partition('-')[0]}-*.dist-info")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)


def unmet(site: Path) -> list[str]:
    """What the unpacked libraries need and the machine does not have, as sentences."""
    from packaging.requirements import Requirement

    requirements = {(text, "the lab") for text in NEEDED}
    for found in distributions(path=[str(site)]):
        requirements |= {(text, found.metadata["Name"]) for text in found.requires or ()}
    problems = []
    for text, by in sorted(requirements):
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        there = _version(needed.name, site)
        if there is None:
            problems.append(f"{needed.name}{MISSING}({by} needs {text})")
        elif not needed.specifier.contains(there, prereleases=True):
            problems.append(f"{needed.name} is {there}, and {by} needs {text}")
    return problems


def _version(name: str, site: Path) -> str | None:
    """The version of a library that will be used: the unpacked one comes first."""
    name = re.sub(r"[-_.]+", "-", name)
    for found in Distribution.discover(name=name, path=[str(site)]):
        return found.version
    return version(name) if has(name) else None


def main() -> int:
    """Unpacks, checks, and runs; the exit code of ``python -m tests.gpu``."""
    site = HERE / "site"
    unpack(wanted(HERE / "wheels"), site)
    sys.path.insert(0, str(site))
    problems = unmet(site)
    if others := [each for each in problems if MISSING not in each]:
        print("these versions were not tested together:", *others, sep="\n  ", file=sys.stderr)
    if problems := [each for each in problems if MISSING in each and not each.startswith("typer ")]:
        print(
            "this machine lacks libraries that do not fit into the bundle:",
            *problems,
            sep="\n  ",
            file=sys.stderr,
        )
        return 1
    path = [str(site), str(HERE / "code"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, "-m", "tests.gpu", *sys.argv[1:]]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
