"""The commands that open the full-screen lab: ``tui-lab`` without a command, ``tui-lab replay`` and
``tui-lab demo``."""

from __future__ import annotations

import argparse
import gc
import sys

from tui_lab.cli.options import EXIT_OK, check_terminal_can_draw
from tui_lab.core.errors import LabError


def _check_terminal(problem: str) -> None:
    """Raises LabError where there is no terminal (with ``problem``) or it can only print lines."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LabError(problem)
    check_terminal_can_draw()


def open_lab(args: argparse.Namespace) -> int:
    """Opens the lab; the exit code. Raises LabError where there is no terminal."""
    _check_terminal("the lab needs a terminal; without one use the commands that `tui-lab --help` lists")
    gc.disable()  # until the first frame: see ui/terminal/gc_policy.py
    from tui_lab.ui.app import main
    from tui_lab.ui.open_screens import PLAY_DEMO

    loaded = args.loaded
    while (code := main(loaded.settings, loaded.problems, sources=loaded.sources)) == PLAY_DEMO:
        from tui_lab.ui.demo.app import main as play

        if code := play(loaded.settings, loaded.problems, loaded.sources, live=False):
            return code
    return code or EXIT_OK


def replay(args: argparse.Namespace) -> int:
    """``tui-lab replay``: opens the lab on a finished run that plays as if it were live."""
    from tui_lab.runs import replay as replays

    found = replays.find(args.name, args.runs_dir)
    replays.check_speed(args.speed)
    _check_terminal("a replay needs a terminal; `tui-lab report` and `tui-lab logs` show a run without one")
    from tui_lab.ui.app import main
    from tui_lab.ui.terminal.signals import handle_signals

    loaded = args.loaded
    with handle_signals(), replays.Replay(found, args.speed, args.from_step) as playing:
        return main(loaded.settings, loaded.problems, playing, loaded.sources)


def demo(args: argparse.Namespace) -> int:
    """``tui-lab demo``: plays a demo of the whole lab."""
    if args.replay and (args.keep or args.patient):
        raise LabError("--replay trains nothing: leave out --keep and --patient")
    _check_terminal("the demo needs a terminal")
    from tui_lab.ui.demo.app import main

    loaded = args.loaded
    return main(loaded.settings, loaded.problems, loaded.sources, live=not args.replay, keep=args.keep)
