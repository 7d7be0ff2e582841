"""``tui-lab replay``: opens the lab on a finished run that plays as if it were live."""

from __future__ import annotations

import argparse
import sys

from tui_lab.cli.options import check_terminal_can_draw
from tui_lab.core.errors import LabError
from tui_lab.runs import replay


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    directory = args.runs_dir
    found = replay.find(args.name, directory)
    replay.check_speed(args.speed)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LabError(
            "a replay needs a terminal; `tui-lab report` and `tui-lab logs` show a run without one"
        )

    check_terminal_can_draw()
    from tui_lab.ui.app import main as lab
    from tui_lab.ui.terminal.signals import handle_signals

    with handle_signals(), replay.Replay(found, args.speed, args.from_step) as playing:
        loaded = args.loaded
        return lab(loaded.settings, loaded.problems, playing, loaded.sources)
