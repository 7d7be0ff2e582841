"""Options and exit codes that several commands share."""

from __future__ import annotations

import argparse
import os

from tui_lab.core.errors import LabError

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


#: As shells count: 128 and the signal's number.
EXIT_INTERRUPTED, EXIT_PIPE = 130, 141


EXIT_CODES = """exit codes:
  0    done: the run finished or was stopped as asked, every check passed
  1    the run failed or crashed, a command was not answered, a check failed
  2    the input is wrong (one sentence on stderr); nothing was started
  130  interrupted with Ctrl+C: a run that was started goes on unless it was stopped
  141  the reader of the output went away; a run that was started goes on"""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the layout of examples, and leaves room for long options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def lab_options(parser: argparse.ArgumentParser) -> None:
    """How the lab looks, for each command that opens it. What is not given is left to the settings."""
    parser.add_argument("--theme", default="", metavar="NAME", help="the lab's colours")
    parser.add_argument("--plots", default="", metavar="KIND", help="braille, block or ascii")
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--ascii", action=switch, default=None, help="write nothing but ASCII")
    parser.add_argument("--color", action=switch, default=None, help="use colours (NO_COLOR does without)")
    parser.add_argument("--slow-link", action=switch, default=None, help="send less over the line")
    parser.add_argument("--mouse", action=switch, default=None, help="take the mouse")


def recipe_options(parser: argparse.ArgumentParser) -> None:
    """What makes a recipe, for each command that starts runs."""
    parser.add_argument("--model", metavar="NAME", help="pocket, a catalog name, a folder or a hub id")
    parser.add_argument("--preset", default="", metavar="NAME", help="a preset's name or a TOML file")
    parser.add_argument(
        "--data", metavar="NAME", help="pirate, json, support, a file, a folder or a hub name"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="one recipe value on top of the preset (again for more; `tui-lab presets --keys` lists them)",
    )  # fmt: skip
    parser.add_argument("--allow-large", action="store_true", help="let models over 3 B parameters through")
    parser.add_argument("--name", default="", help="a name for the run's folder")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 86_400:
        raise ValueError(text)
    return number


# argparse names the type in its message
_count.__name__, _seconds.__name__ = "whole number", "number of seconds"


def refuse_lines_only() -> None:
    """Raises LabError where the terminal says that it can do nothing but print lines."""
    term = os.environ.get("TERM", "")
    if term in ("dumb", "unknown"):
        raise LabError(
            f"nothing can be drawn on this terminal (TERM={term}): set TERM, such as TERM=xterm-256color, "
            "or do without (`tui-lab train --plain`, `tui-lab watch --plain`)"
        )
