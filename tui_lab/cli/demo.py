"""``tui-lab demo``: plays the whole story of the lab by itself. Every start of the command line reads the
grammar, so what the command needs is imported when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

_EXAMPLES = """examples:
  tui-lab demo                     about three minutes: two runs really train, on two CPU cores
  tui-lab demo --replay            about a minute, from a recording: nothing is trained
  tui-lab demo --keep my-demo      keeps its runs in that folder
  tui-lab --theme lab-light demo   options for the look come before the command
Space pauses the demo, ← and → change the chapter, Q quits; any other key pauses it and goes to the lab.
Neither network nor GPU is needed. On a slow machine --replay is the quicker way."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the grammar."""
    made: argparse.ArgumentParser = subparsers.add_parser(
        "demo",
        help="play a demo: setup, train, playground, retention",
        description="Play a demo of the whole lab, with captions: setup, train, playground, retention.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run="cli.demo:run")
    made.add_argument(
        "--replay", action="store_true", help="play a recording that ships with the lab, in about a minute"
    )
    made.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the demo's runs there (else they are removed)"
    )
    made.add_argument(
        "--patient", action="store_true", help="has no effect any more: the demo always waits for its runs"
    )
    return made


def run(args: argparse.Namespace) -> int:
    """Carries the command out; the exit code. Raises LabError."""
    from tui_lab.core.errors import LabError

    if args.replay and (args.keep or args.patient):
        raise LabError("--replay trains nothing: there is nothing to keep and nothing to wait for")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LabError("the demo needs a terminal")
    from tui_lab.cli.options import refuse_lines_only

    refuse_lines_only()
    from tui_lab.ui.demo.app import main

    loaded = args.loaded
    return main(
        loaded.settings,
        loaded.problems,
        loaded.sources,
        live=not args.replay,
        keep=args.keep,
    )
