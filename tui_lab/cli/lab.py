"""``tui-lab`` without a command: the full-screen lab."""

from __future__ import annotations

import argparse
import sys

from tui_lab.cli.options import EXIT_OK, check_terminal_can_draw
from tui_lab.core.errors import LabError


def open_lab(args: argparse.Namespace) -> int:
    """Opens the lab; the exit code. Raises LabError where there is no terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LabError("the lab needs a terminal; without one use the commands that `tui-lab --help` lists")
    check_terminal_can_draw()
    from tui_lab.ui.app import main as lab

    loaded = args.loaded
    return lab(loaded.settings, loaded.problems, sources=loaded.sources) or EXIT_OK
