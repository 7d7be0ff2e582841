"""Runs the benchmarks: ``python -m tests.benchmarks [name …]``. Finds every ``bench_*.py`` beside it, prints
the versions and the machine, then what each measures. A benchmark has ``run() -> Iterator[Figure]``."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.benchmarks.figures import Figure

VERSIONED = ("textual", "plotext", "torch", "transformers", "trl", "peft", "bitsandbytes")


def versions() -> str:
    """What is measured, in a line."""
    found = [f"python {platform.python_version()}"]
    for name in VERSIONED:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def machine() -> str:
    """Where it is measured. A busy machine makes slow figures: the load says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{platform.system()} {platform.machine()}, {cores} cores{load}"


def names() -> list[str]:
    return sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def line(figure: Figure) -> str:
    limit = f"   (at most {figure.limit:g} {figure.unit})" if figure.limit is not None else ""
    late = "   OVER" if figure.limit is not None and figure.value > figure.limit else ""
    return f"  {figure.name:<58} {figure.value:>10.4g} {figure.unit}{limit}{late}"


def main(wanted: list[str]) -> int:
    unknown = [name for name in wanted if name not in names()]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    print(versions())
    print(machine())
    over = 0
    for name in wanted or names():
        began = time.perf_counter()
        print(f"\n{name}")
        for figure in importlib.import_module(f"tests.benchmarks.bench_{name}").run():
            print(line(figure), flush=True)
            over += figure.limit is not None and figure.value > figure.limit
        print(f"  ({time.perf_counter() - began:.0f} s)")
    if over:
        print(f"\n{over} over their limit")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
