"""Runs the parts within the time there is: JSON after each part, late parts skipped, a table at the end."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.gpu.records import GpuReport, PartReport
from tui_lab.core.files import write_atomically
from tui_lab.core.records import from_json, to_json
from tui_lab.core.subprocesses import temporary_environment

#: A part is not begun with less than this share of its budget left.
LEAST_SHARE = 0.35
RESULT = "gpu.json"
#: A part that takes longer than so many times its budget, plus seconds, hangs; the process ends in it.
LIMIT_SHARE, LIMIT_S = 1.5, 10.0


def read(out: Path) -> GpuReport:
    """The report in a folder. Raises LabError, and OSError where there is none."""
    return from_json((out / RESULT).read_bytes(), GpuReport, "the report of a card")


def write(report: GpuReport, out: Path) -> None:
    """Writes the report into its folder."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / RESULT, to_json(report) + "\n")


@contextlib.contextmanager
def private_folders() -> Iterator[Path]:
    """A folder for checkpoints; settings, caches and calibrations of the lab are inside, too."""
    names = ("TUI_LAB_DATA_DIR", "TUI_LAB_CACHE_DIR", "TUI_LAB_STATE_DIR", "TUI_LAB_CONFIG_DIR")
    work = Path(tempfile.mkdtemp(prefix="tui-lab-gpu-"))
    try:
        with temporary_environment({name: str(work / name.lower()) for name in names}):
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run_parts(
    report: GpuReport,
    out: Path,
    run: Callable[[PartReport, float], None],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    watch: Callable[[float], None] = lambda _: None,
) -> None:
    """Runs what waits. ``run(part, ends_s)`` fills in a part and begins nothing after ``ends_s``;
    ``seconds``: for all parts together. The time that a part leaves goes to the next ones. ``watch`` is told
    before each part after how many seconds the process has to end in it."""
    ends_s = clock() + seconds
    before_s = report.seconds
    for part in report.parts:
        if part.state != "waiting":
            continue
        began_s = clock()
        if ends_s - began_s < LEAST_SHARE * part.budget_s:
            part.state, part.error = "skipped", "there was no time left"
        else:
            part.state = "running"
            write(report, out)  # names the part that was running, should the process end in it
            print(f"{part.name} …", file=sys.stderr, flush=True)
            watch(min(LIMIT_SHARE * part.budget_s, ends_s - began_s) + LIMIT_S)
            try:
                run(part, min(began_s + part.budget_s, ends_s))
            except Exception as error:
                traceback.print_exc()
                part.error = f"{type(error).__name__}: {str(error).strip()[:500]}"
            failed = bool(part.error) or not all(check.ok for check in part.checks)
            part.state = "failed" if failed else "ok"
        part.seconds = round(clock() - began_s, 2)
        report.seconds = round(before_s + seconds - (ends_s - clock()), 2)
        write(report, out)


def end_crashed_part(report: GpuReport, reason: str) -> bool:
    """Writes ``reason`` into the part in which a process ended; whether others still wait. Parts wait only
    for a process of their own: without a part that was running nothing would be different."""
    crashed = [part for part in report.parts if part.state == "running"]
    for part in crashed:
        part.state, part.error = "failed", reason
    return bool(crashed) and any(part.state == "waiting" for part in report.parts)


# --------------------------------------------------------------------------------------------------
# the table


def table(report: GpuReport) -> str:
    """The report as text: figures by part, then what is wrong and what is missing."""
    lines = [f"{report.device}{' (a rehearsal: its figures mean nothing)' if report.rehearsal else ''}", ""]
    lines += [f"{name} {found}" for name, found in report.versions.items()]
    for part in report.parts:
        good = sum(check.ok for check in part.checks)
        lines += ["", f"{part.name}: {part.state}, {part.seconds:.0f} of {part.budget_s:.0f} s, "
                  f"{good} of {len(part.checks)} checks"]  # fmt: skip
        lines += _columns([(each.name, f"{each.value:.4g}", each.unit) for each in part.figures])
        lines += [f"  WRONG  {check.name}: {check.detail}" for check in part.checks if not check.ok]
        lines += [f"  {part.error}"] if part.error else []
        lines += [f"  not done: {each.name}: {each.why}" for each in part.missing]
    verdict = "everything that ran is right" if report.is_ok else "something is wrong"
    return "\n".join([*lines, "", f"{verdict}; {report.seconds:.0f} s"])


def _columns(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    if not rows:
        return []
    width, digits = (max(len(row[at]) for row in rows) for at in (0, 1))
    return [f"  {name:<{width}}  {value:>{digits}} {unit}".rstrip() for name, value, unit in rows]
