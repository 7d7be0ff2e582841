"""Makes a folder that runs ``make gpu`` on a machine without a network: ``make gpu-bundle``.

    python -m tests.gpu.bundle --out gpu-bundle

It holds the lab, the parts, and wheels for Python 3.12 on Linux x86-64 of what such a machine lacks; torch
with CUDA 13, pyarrow and other large libraries must be there (``run.py`` checks that and names what is
missing). Of bitsandbytes only the library for CUDA 13.0 is kept. The folder is at most 64 MiB.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.core.format import size

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 64 << 20
#: Wheels whose version must be the one that the lab is tested with, and wheels that are used where the
#: machine has no such library.
PINNED = ("transformers", "trl", "peft", "datasets", "bitsandbytes")
EXTRA = (
    "msgspec", "pydantic", "pydantic_core", "annotated-types", "typing-inspection", "typing_extensions",
    "platformdirs", "tomli_w", "tomlkit", "nvidia-ml-py", "psutil", "packaging", "dill", "multiprocess",
    "xxhash", "jinja2", "markupsafe", "accelerate", "fsspec", "pandas", "python-dateutil", "tzdata",
)  # fmt: skip
#: Only these libraries of bitsandbytes are kept.
KEPT_LIBRARIES = ("libbitsandbytes_cuda130.so", "libbitsandbytes_cpu.so")
#: What of the tests the parts need.
_TESTS = (
    "__init__.py", "gpu", "benchmarks/__init__.py", "benchmarks/bench_decoding.py", "benchmarks/figures.py",
    "benchmarks/memory_table.py", "benchmarks/results/memory_probe.json", "training/__init__.py",
    "training/measured_memory.py",
)  # fmt: skip
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "test_*.py", "conftest.py")
PIP = (
    "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
    "--python-version", "3.12", "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_24_x86_64",
    "--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu.bundle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=ROOT / "gpu-bundle")
    args = parser.parse_args(arguments)
    try:
        make(args.out)
    except LabError as error:
        print(f"gpu-bundle: {error}", file=sys.stderr)
        return 1
    print(
        f"{args.out} has {size(folder_bytes(args.out))}. Copy it to the machine with the card, and there run:"
    )
    print(f"python3 {args.out.name}/run.py --out gpu-results")
    return 0


def make(out: Path) -> None:
    """Fills the folder anew. Raises LabError."""
    if out.exists() and not (out / "run.py").is_file() and any(out.iterdir()):
        raise LabError(f"{out} is no bundle; name a folder that is empty or does not exist")
    shutil.rmtree(out, ignore_errors=True)
    copy_code(out / "code")
    shutil.copyfile(Path(__file__).with_name("bundle_run.py"), out / "run.py")
    for kind, names in (("pinned", PINNED), ("extra", EXTRA)):
        download(names, out / "wheels" / kind)
    [whole] = (out / "wheels" / "pinned").glob("bitsandbytes-*.whl")
    strip(whole)
    if (found := folder_bytes(out)) > MOST_BYTES:
        raise LabError(f"{out} has {size(found)}, and {size(MOST_BYTES)} may travel: leave out wheels")


def copy_code(target: Path) -> None:
    """Copies the lab, its presets, and what the parts need of the tests."""
    for name in ("tui_lab", "presets"):
        shutil.copytree(ROOT / name, target / name, ignore=_LEFT_OUT)
    for name in _TESTS:
        source, copy = ROOT / "tests" / name, target / "tests" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=_LEFT_OUT)
        else:
            shutil.copyfile(source, copy)


def download(names: tuple[str, ...], folder: Path) -> None:
    """Downloads wheels in the tested versions. Raises LabError."""
    folder.mkdir(parents=True)
    versions = pinned_versions((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    wanted = [f"{name}=={versions[_key(name)]}" for name in names]
    done = subprocess.run(
        [sys.executable, "-m", *PIP, "--dest", str(folder), *wanted],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise LabError(f"pip cannot download the wheels: {lines[-1]}")


def pinned_versions(constraints: str) -> dict[str, str]:
    """The version of each library by its name in lower case with hyphens."""
    pairs = (line.partition("==") for line in constraints.splitlines() if "==" in line)
    return {_key(name): found.split(";")[0].strip() for name, _, found in pairs}


def _key(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def strip(wheel: Path) -> None:
    """Removes the compiled libraries of bitsandbytes that are not in :data:`KEPT_LIBRARIES`. Raises LabError
    where none of them is there."""
    kept: list[str] = []
    smaller = wheel.with_suffix(".stripped")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            name = entry.filename.rpartition("/")[2]
            if not name.startswith("libbitsandbytes_") or name in KEPT_LIBRARIES:
                kept.append(name)
                new.writestr(entry, old.read(entry))
    smaller.replace(wheel)
    if KEPT_LIBRARIES[0] not in kept:
        raise LabError(f"{wheel.name} has no {KEPT_LIBRARIES[0]}: adjust KEPT_LIBRARIES")


def folder_bytes(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
