"""The entry point of the command line: reads the arguments, applies the settings, runs one command and turns
errors into one sentence and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.cli.grammar import handler, parser
from tui_lab.cli.options import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PIPE, EXIT_USAGE
from tui_lab.core.errors import LabError
from tui_lab.core.privacy import keep_private, without_secrets

if TYPE_CHECKING:
    from tui_lab.core.settings import Loaded

#: Options that are settings too.
SETTING_OPTIONS = ("theme", "plots", "ascii", "color", "slow_link", "mouse", "runs_dir")


def _load_settings(args: argparse.Namespace) -> Loaded:
    """The settings for this command, exported to the environment of the processes that it starts."""
    from tui_lab.core import settings

    given = {name: value for name, value in vars(args).items() if name in SETTING_OPTIONS}
    if given.get("runs_dir"):
        given["runs_dir"] = str(given["runs_dir"])
    loaded = settings.load(given)
    if loaded.settings.runs_dir:
        from tui_lab.core.paths import absolute

        absolute(Path(loaded.settings.runs_dir))  # or a folder "~name" would be made here
    settings.export_to_env(loaded.settings)
    return loaded


def _run_command(arguments: Sequence[str] | None) -> int:
    args = parser().parse_args(arguments)
    if getattr(args, "cpu", False):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for every process that this one starts, too
    if getattr(args, "accept_changes", False):
        from tui_lab.runs import inputs

        inputs.accept()
    args.loaded = _load_settings(args)
    if args.command:  # the lab shows the problems itself
        for problem in args.loaded.problems:
            print(f"tui-lab: {problem}", file=sys.stderr)
    return handler(args.handler)(args)


def _prepare_streams() -> None:
    """Replaces closed streams by the null device, and escapes what the encoding cannot express."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 (until the end)
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _report_error(text: str) -> None:
    from tui_lab.core.sanitize import sanitize

    print(f"tui-lab: {sanitize(without_secrets(text), keep_newlines=True)}", file=sys.stderr)


def _discard_output() -> None:
    """The interpreter flushes stdout once more at its end, which would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code. Wrong input never ends in a traceback."""
    _prepare_streams()
    keep_private()
    try:
        try:
            return _run_command(arguments)
        finally:
            sys.stdout.flush()
    except LabError as error:
        _report_error(str(error))
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("tui-lab: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "tui_lab":
            raise
        _report_error(f"{error.name} is not installed: reinstall tui-lab with all its dependencies")
        return EXIT_FAILED
    except BrokenPipeError:
        _discard_output()
        return EXIT_PIPE
    except OSError as error:
        _discard_output()
        _report_error(
            f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}".replace("\n", " ")
        )
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
