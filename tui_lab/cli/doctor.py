"""``tui-lab doctor``: what this machine can do, and what to mend."""

from __future__ import annotations

import argparse
import sys

from tui_lab import doctor as checks
from tui_lab.cli.options import EXIT_FAILED, EXIT_OK
from tui_lab.cli.output import Answer, as_json, columns
from tui_lab.doctor.check import DoctorCheck


class DoctorReport(Answer, tag="doctor", kw_only=True, frozen=True):
    """Every finding (under ``checks`` too, as in earlier versions), and what to do. ``exit_code``: 1 if
    training is not possible."""

    items: list[DoctorCheck]
    checks: list[DoctorCheck]
    to_do: list[str]
    exit_code: int


def run(args: argparse.Namespace) -> int:
    """``tui-lab doctor``: prints each finding at once."""
    from tui_lab.ui.user_files import CHECKS

    found = []
    width = columns(sys.stdout) if sys.stdout.isatty() else 0
    for check in checks.iter_checks(args.online, args.runs_dir, CHECKS):
        found.append(check)
        if not args.json:
            print(checks.line(check, width), flush=True)
    code = EXIT_FAILED if checks.exit_code(found) else EXIT_OK
    if args.json:
        as_json(DoctorReport(items=found, checks=found, to_do=checks.to_do(found), exit_code=code))
    else:
        print(f"\n{checks.summary(found, width)}")
    return code
