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
from tui_lab.cli.options import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PIPE, EXIT_USAGE, wants_json
from tui_lab.core.errors import LabEnded, LabError
from tui_lab.core.privacy import keep_private, without_secrets

if TYPE_CHECKING:
    from tui_lab.core.settings import Loaded

#: Of the newest error of tui-lab itself, in the folder of its state.
FAULT_LOG = "error.log"
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
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parser(commands=bool(arguments)).parse_args(arguments)
    if getattr(args, "cpu", False):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for every process that this one starts, too
    if getattr(args, "accept_changes", False):
        from tui_lab.core import changed_inputs

        changed_inputs.accept()
    args.loaded = _load_settings(args)
    if args.command:  # the lab shows the problems and obeys the setting itself
        if args.loaded.settings.color:
            os.environ.pop("NO_COLOR", None)
        else:
            os.environ["NO_COLOR"] = "1"
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


def _report_error(text: str, code: int, as_json: bool, hint: str = "") -> int:
    """Prints an error on stderr, and as a record on stdout where JSON is asked for; returns ``code``."""
    from tui_lab.core.sanitize import sanitize

    text, hint = (sanitize(without_secrets(each), keep_newlines=True) for each in (text, hint))
    print(f"tui-lab: {text}" + (f"\n{hint}" if hint else ""), file=sys.stderr)
    if as_json:
        from tui_lab.cli.output import CommandError, ErrorDetail, json_line

        try:
            json_line(CommandError(error=ErrorDetail(message=text, hint=hint, exit_code=code)))
        except OSError:  # stdout is full or closed
            _discard_output()
    return code


def _report_fault(error: Exception, as_json: bool) -> int:
    """Reports an error of tui-lab itself. Its traceback goes into a log, which the message names."""
    from traceback import format_exception

    from tui_lab import __version__
    from tui_lab.core.files import write_atomically
    from tui_lab.core.paths import state_dir

    cause = error.__cause__ if isinstance(error, LabEnded) and error.__cause__ else error
    lines = str(cause).strip().splitlines()
    what = f"{type(cause).__name__}: {lines[0] if lines else ''}".strip(": ")
    text = f"the command failed unexpectedly ({what})."
    if cause is not error:
        text = f"the lab ended unexpectedly ({what}); runs in progress continue."
    log = state_dir() / FAULT_LOG
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        report = f"tui-lab {__version__}, Python {sys.version}\n\n{''.join(format_exception(cause))}"
        write_atomically(log, without_secrets(report))
    except OSError as problem:
        text += f" {log} cannot be written ({problem.strerror})."
    else:
        text += f" {log} has the report."
    return _report_error(text, EXIT_FAILED, as_json)


def _discard_output() -> None:
    """The interpreter flushes stdout once more at its end, which would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code. Wrong input never ends in a traceback."""
    _prepare_streams()
    keep_private()
    as_json = wants_json(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            return _run_command(arguments)
        finally:
            sys.stdout.flush()
    except LabError as error:
        return _report_error(str(error), EXIT_USAGE, as_json, getattr(error, "hint", ""))
    except KeyboardInterrupt as error:
        return _report_error(str(error) or "interrupted", EXIT_INTERRUPTED, as_json)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "tui_lab":
            return _report_fault(error, as_json)
        text = f"{error.name} is not installed: reinstall tui-lab with all its dependencies"
        return _report_error(text, EXIT_FAILED, as_json)
    except BrokenPipeError:
        _discard_output()
        return EXIT_PIPE
    except OSError as error:
        text = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}".replace(
            "\n", " "
        )
        if error.filename is None:  # writing to stdout has failed
            _discard_output()
        return _report_error(text, EXIT_FAILED, as_json)
    except Exception as error:  # noqa: BLE001 (the border of the process: every fault becomes one sentence)
        return _report_fault(error, as_json)


if __name__ == "__main__":
    sys.exit(main())
