"""Checks and measures the lab on a GPU within the time there is: ``make gpu``.

    python -m tests.gpu --seconds 540 --out DIR        on a card
    python -m tests.gpu --cpu-rehearsal --out DIR      every part with tiny shapes on the CPU

Models have random weights in the shapes of the catalog; no network is needed. ``DIR/gpu.json`` is written
after each part. Exit code: 0 when everything that ran is right, 1 when something is wrong, 2 without a card.

The parts run in a child process. One that ends early (a fault in a kernel, a hang) fails its part, and
another child runs the rest.
"""

from __future__ import annotations

import argparse
import faulthandler
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.gpu import runner
from tests.gpu.parts import PARTS
from tests.gpu.records import GpuReport, PartReport
from tui_lab.core.errors import LabError
from tui_lab.core.subprocesses import child_environment
from tui_lab.hardware.device import DeviceFacts

EXIT_OK, EXIT_WRONG, EXIT_NO_CARD = 0, 1, 2
#: The child is ended so many seconds after the time it was given, and by itself in a part that hangs.
GRACE_S = 20.0
#: A part may take so many times as long on a CPU, which may be busy.
REHEARSAL_PATIENCE = 10


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=540.0, help="for all parts (default: 540)")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="the folder of gpu.json")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="only these")
    parser.add_argument("--cpu-rehearsal", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.child:
        return _child(args.out, args.seconds)
    if not args.cpu_rehearsal and (problem := why_no_card()):
        print(f"there is nothing to measure: {problem}", file=sys.stderr)
        return EXIT_NO_CARD
    report = new_report(args.cpu_rehearsal, args.parts or [])
    runner.write(report, args.out)
    return _supervise(args.out, args.seconds)


def why_no_card() -> str:
    """Why torch cannot compute on a card here; "" where it can."""
    import torch

    from tui_lab.hardware import cuda_support

    if torch.cuda.is_available():
        return ""
    if (problem := cuda_support.problem_here()) is not None:
        return f"{problem.cause}; {problem.remedy}"
    return "this machine has no NVIDIA card; --cpu-rehearsal runs every part with tiny shapes on the CPU"


def new_report(rehearsal: bool, only: list[str]) -> GpuReport:
    """A report in which every part waits."""
    import torch

    from tests.gpu.part_machine import versions

    chosen = [part for part in PARTS if not only or part.name in only]
    return GpuReport(
        device="the CPU" if rehearsal else torch.cuda.get_device_name(),
        rehearsal=rehearsal,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        parts=[PartReport(name=part.name, budget_s=part.budget_s) for part in chosen],
    )


def _supervise(out: Path, seconds: float) -> int:
    """Runs children until no part waits. Prints the table; the exit code by the checks."""
    ends_s = time.monotonic() + seconds
    while True:
        left_s = max(0.0, ends_s - time.monotonic())
        command = [sys.executable, "-m", "tests.gpu", "--child", "--out", str(out), "--seconds", str(left_s)]
        # the environment of the lab's own children, and never a request to the hub
        environment = {**child_environment(), "HF_HUB_OFFLINE": "1"}
        code = subprocess.run(command, check=False, env=environment).returncode
        report = runner.read(out)
        reason = (
            f"its process ended with signal {-code}"
            if code < 0
            else f"its process ended with code {code}, as one does that takes too long"
        )
        again = runner.end_crashed_part(report, reason)
        runner.write(report, out)
        if not again:
            break
    print(runner.table(report))
    if code and report.is_ok:
        print(f"the measuring process ended with code {code} before its first part", file=sys.stderr)
        return EXIT_WRONG
    return EXIT_OK if report.is_ok else EXIT_WRONG


def _child(out: Path, seconds: float) -> int:
    """Runs the waiting parts in this process."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(seconds + GRACE_S, exit=True)
    try:
        report = runner.read(out)
        patience = REHEARSAL_PATIENCE if report.rehearsal else 1

        def end_after(limit_s: float) -> None:
            """Also ends a part that hangs, so that the next process runs the others."""
            faulthandler.dump_traceback_later(patience * limit_s, exit=True)

        rehearse_or_measure(report, out, seconds, end_after)
    except LabError as error:
        print(error, file=sys.stderr)
        return EXIT_WRONG
    finally:
        faulthandler.cancel_dump_traceback_later()
    return EXIT_OK


def rehearse_or_measure(
    report: GpuReport, out: Path, seconds: float, watch: Callable[[float], None] = lambda _: None
) -> None:
    """Runs the waiting parts of a report in this process; ``watch``: see :func:`.runner.run_parts`. Raises
    LabError."""
    import datasets
    import torch
    import transformers

    from tests.gpu.bench import Bench, PartLog
    from tui_lab.models.loading import quiet_libraries
    from tui_lab.training import device

    memory = psutil.virtual_memory().total
    on_cpu = DeviceFacts("cpu", "the CPU", memory, bf16=False, threads=torch.get_num_threads())
    facts = on_cpu if report.rehearsal else device.detect()
    by_name = {part.name: part for part in PARTS}
    with runner.private_folders() as work, quiet_libraries():
        transformers.logging.set_verbosity_error()
        datasets.disable_progress_bars()
        bench = Bench(facts, report.rehearsal, work, {})

        def run(part: PartReport, ends_s: float) -> None:
            by_name[part.name].run(bench, PartLog(part, ends_s))
            bench.free_memory()

        runner.run_parts(report, out, run, seconds, watch=watch)


if __name__ == "__main__":
    sys.exit(main())
