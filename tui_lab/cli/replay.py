"""``tui-lab replay``: opens the lab on a recorded run that plays as if it were live. Every start of the
command line reads the grammar, so what the command needs is imported when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

_EXAMPLES = """examples:
  tui-lab replay latest                    ten times as fast as it was
  tui-lab replay latest --speed 100 --from 200
on Tune: space holds the replay, + and - change its speed, x ends it
gaps of over 30 s in the recording are cut; nothing of the run is written"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the grammar."""
    made: argparse.ArgumentParser = subparsers.add_parser(
        "replay",
        help="play a run that has ended through the lab, as if it were live",
        description="Play a run that has ended, or crashed, through the lab as if it were live.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run="cli.replay:run")
    made.add_argument("name", metavar="RUN", help="a run's id, a part of it, its folder, or `latest`")
    made.add_argument(
        "--speed", type=float, default=10.0, metavar="X", help="times as fast as the run was (default 10)"
    )
    made.add_argument(
        "--from", type=int, default=0, metavar="STEP", dest="from_step", help="begin at this step"
    )
    made.add_argument(
        "--runs-dir", type=Path, metavar="FOLDER", default=argparse.SUPPRESS, help="where runs are kept"
    )
    return made


def run(args: argparse.Namespace) -> int:
    """Carries the command out; the exit code. Raises LabError."""
    from tui_lab.core.errors import LabError
    from tui_lab.runs import replay

    directory = getattr(args, "runs_dir", None)
    found = replay.find(args.name, directory)
    replay.check_speed(args.speed)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LabError(
            "a replay needs a terminal; `tui-lab report` and `tui-lab logs` tell of a run without one"
        )
    from tui_lab.cli.options import refuse_lines_only

    refuse_lines_only()
    from tui_lab.ui.app import main as lab
    from tui_lab.ui.terminal.signals import in_order

    with in_order(), replay.Replay(found, args.speed, args.from_step) as playing:
        loaded = args.loaded
        return lab(loaded.settings, loaded.problems, playing, loaded.sources)
