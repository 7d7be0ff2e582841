"""``tui-lab demo``: plays a demo of the whole lab."""

from __future__ import annotations

import argparse
import sys

from tui_lab.cli.options import check_terminal_can_draw
from tui_lab.core.errors import LabError


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    if args.replay and (args.keep or args.patient):
        raise LabError("--replay trains nothing: leave out --keep and --patient")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LabError("the demo needs a terminal")

    check_terminal_can_draw()
    from tui_lab.ui.demo.app import main

    loaded = args.loaded
    return main(
        loaded.settings,
        loaded.problems,
        loaded.sources,
        live=not args.replay,
        keep=args.keep,
    )
