"""Exit codes, and the options that several commands share. Every start of the command line imports this
module, so it imports no other library."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tui_lab.core.errors import LabError

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
#: As shells count: 128 plus the number of the signal.
EXIT_INTERRUPTED, EXIT_PIPE = 130, 141
EXIT_CODES = """exit codes:
  0    success: the run finished or was stopped on request, every check passed
  1    the run failed or crashed, a command was not answered, a check failed
  2    invalid input (one sentence on stderr); nothing was started
  130  interrupted with Ctrl+C: a started run continues unless it was stopped
  141  the reader of the output closed it; a started run continues"""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the layout of examples and leaves room for long options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def whole_number(text: str) -> int:
    """The type of counts. Raises ValueError below 0."""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def seconds(text: str) -> float:
    """The type of times in seconds, from 0 to a day. Raises ValueError."""
    number = float(text)
    if not 0 <= number <= 86_400:
        raise ValueError(text)
    return number


# argparse names the type in its message
whole_number.__name__, seconds.__name__ = "whole number", "number of seconds"


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def add_runs_dir_option(parser: argparse.ArgumentParser, subcommand: bool = True) -> None:
    """``--runs-dir``, before the command and after it; the option of a subcommand overrides the other."""
    parser.add_argument(
        "--runs-dir", type=Path, metavar="FOLDER", help="the folder of the runs",
        default=argparse.SUPPRESS if subcommand else None,
    )  # fmt: skip


class CommandGroup:
    """Adds subcommands that share options and the layout of their help."""

    def __init__(self, parser: argparse.ArgumentParser, title: str, *, required: bool = True) -> None:
        metavar = title.removesuffix("s").upper()
        self._subparsers = parser.add_subparsers(
            title=title, metavar=metavar, required=required, dest=metavar.lower()
        )

    def add(
        self,
        name: str,
        help: str,
        *,
        handler: str = "",
        examples: str = "",
        json: bool = True,
        runs: bool = False,
    ) -> argparse.ArgumentParser:
        """A command. ``handler`` is its key in :mod:`tui_lab.cli.commands` (default: its name), ``json`` and
        ``runs`` give it --json and --runs-dir."""
        epilog = f"examples:\n{examples}\n\n{EXIT_CODES}" if examples else EXIT_CODES
        made: argparse.ArgumentParser = self._subparsers.add_parser(
            name,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=epilog,
            formatter_class=HelpFormatter,
        )
        made.set_defaults(handler=handler or name)
        if json:
            add_json_option(made)
        if runs:
            add_runs_dir_option(made)
        return made


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="RUN", help="a run's id, a part of it, its folder, or `latest`")


def add_set_option(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help=help)


def add_allow_large_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--allow-large", action="store_true", help="accept models over 3 B parameters")


def add_detach_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--detach", action="store_true", help="start the run and return at once")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The model that is loaded, and its precision."""
    parser.add_argument(
        "--model", default="", metavar="NAME",
        help="pocket (default), a catalog name, a run, a folder or a hub id",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"],
        help="precision of the weights",
    )  # fmt: skip
    add_allow_large_option(parser)


def add_sweep_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sweep", nargs="+", action="extend", default=[], metavar="KEY=V,V",
        help="one run for every combination of these values, through the queue",
    )  # fmt: skip


def add_lab_options(parser: argparse.ArgumentParser) -> None:
    """Options that are settings too. An option that is not given is left to the settings."""
    parser.add_argument("--theme", default="", metavar="NAME", help="the lab's colours")
    parser.add_argument("--plots", default="", metavar="KIND", help="braille, block or ascii")
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--ascii", action=switch, default=None, help="write only ASCII")
    parser.add_argument("--color", action=switch, default=None, help="use colours (NO_COLOR: none)")
    parser.add_argument("--slow-link", action=switch, default=None, help="send less over the line")
    parser.add_argument("--mouse", action=switch, default=None, help="react to the mouse")


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """The parts of a recipe, for each command that starts runs."""
    parser.add_argument("--model", metavar="NAME", help="pocket, a catalog name, a folder or a hub id")
    parser.add_argument("--preset", default="", metavar="NAME", help="a preset's name or a TOML file")
    parser.add_argument(
        "--data", metavar="NAME", help="pirate, json, support, a file, a folder or a hub name"
    )
    add_set_option(
        parser, "a recipe value that overrides the preset (repeatable; `tui-lab presets --keys` lists them)"
    )
    add_allow_large_option(parser)
    parser.add_argument("--name", default="", help="a name for the run's folder")


def check_terminal_can_draw() -> None:
    """Raises LabError where TERM says that the terminal can only print lines."""
    term = os.environ.get("TERM", "")
    if term in ("dumb", "unknown"):
        raise LabError(
            f"this terminal cannot draw (TERM={term}): set TERM, such as TERM=xterm-256color, "
            "or use plain text (`tui-lab train --plain`, `tui-lab watch --plain`)"
        )
