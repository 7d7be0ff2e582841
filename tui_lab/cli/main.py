"""The command line: every command's words, options and exit codes. Imports nothing heavy: what a command
needs is imported when it runs, so that ``tui-lab --version`` and ``--help`` answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab import __version__
from tui_lab.cli import demo, export, forecast, generate_args, queue, replay, report, retention, strength
from tui_lab.cli import settings as cli_settings
from tui_lab.cli.options import (
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PIPE,
    EXIT_USAGE,
    _count,
    _Help,
    _seconds,
    lab_options,
    recipe_options,
    refuse_lines_only,
)
from tui_lab.core.errors import LabError

if TYPE_CHECKING:
    from tui_lab.core.settings import Loaded


#: Options that are settings, too.
LAB_OPTIONS = ("theme", "plots", "ascii", "color", "slow_link", "mouse", "runs_dir")


EXAMPLES = """examples:
  tui-lab                                  opens the lab
  tui-lab train                            the default: the bundled model learns to talk like a pirate
  tui-lab train --model Qwen/Qwen2.5-0.5B --preset starter --data rows.jsonl --set lora_r=32
  tui-lab data preview rows.jsonl          shows rows as the model sees them
  tui-lab runs                             lists the runs; `tui-lab watch latest` follows the newest"""


def parser() -> argparse.ArgumentParser:
    """The whole grammar. Each command's ``run`` names the module and the function that carry it out."""
    top = argparse.ArgumentParser(
        prog="tui-lab",
        description="A terminal lab for small language models. Without a command it opens the lab.",
        epilog=f"{EXAMPLES}\n\n{EXIT_CODES}",
        formatter_class=_Help,
    )
    top.add_argument("--version", action="version", version=f"tui-lab {__version__}")
    lab_options(top)
    # also given to every command that reads runs: there it says the same
    top.add_argument("--runs-dir", type=Path, metavar="FOLDER", help="where runs are kept")
    commands = top.add_subparsers(title="commands", dest="command", metavar="COMMAND")

    def command(
        name: str, where: str, help: str, runs: bool = False, json: bool = True
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=EXIT_CODES,
            formatter_class=_Help,
        )
        sub.set_defaults(run=where)
        if json:
            sub.add_argument("--json", action="store_true", help="machine-readable output")
        if runs:
            sub.add_argument(
                "--runs-dir",
                type=Path,
                metavar="FOLDER",
                default=argparse.SUPPRESS,
                help="where runs are kept",
            )
        return sub

    train = command("train", "cli.train:train", "fine-tune a model and follow the run", runs=True)
    recipe_options(train)
    train.add_argument(
        "--num-processes", type=_count, metavar="N", help="processes that share each step, one a GPU"
    )
    train.add_argument(
        "--accelerate-config", metavar="FILE", help="accelerate's own config file (FSDP, DeepSpeed, machines)"
    )
    train.add_argument(
        "--report-to", metavar="NAMES", help="also report to tensorboard, wandb or trackio (with commas)"
    )
    queue.sweep_option(train)
    train.add_argument("--queue", action="store_true", help="let it wait its turn: see `tui-lab queue`")
    train.add_argument("--detach", action="store_true", help="start the run and return at once")
    train.add_argument("--dry-run", action="store_true", help="say what would be trained and how, and why")

    watch = command("watch", "cli.train:watch", "follow a run that was started before", runs=True)
    resume = command("resume", "cli.train:resume", "go on with a run that was stopped or died", runs=True)
    resume.add_argument("--detach", action="store_true", help="start the run and return at once")
    resume.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="change a recipe value from here on; what it means is said (again for more)",
    )  # fmt: skip
    logs = command("logs", "cli.logs:logs", "what a run wrote: worker.log and its events", runs=True)
    logs.add_argument("--follow", action="store_true", help="go on with what comes, until the run ends")
    logs.add_argument(
        "--lines", type=_count, default=20, metavar="N", help="the last so many of each (0: all; default 20)"
    )
    for sub in (train, watch, resume):
        sub.add_argument(
            "--plain", action="store_true", help="tell it in plain sentences, for screen readers"
        )
        sub.add_argument(
            "--every",
            type=_seconds,
            default=10.0,
            metavar="S",
            help="with --plain: seconds between them (10)",
        )
    named = [watch, resume, logs]
    for name, help in (
        ("stop", "end a run after the step in hand and save what was learned"),
        ("pause", "hold a run after the step in hand"),
        ("continue", "let a paused run go on"),
        ("checkpoint", "have a run save a checkpoint now"),
    ):
        ask = command(name, "cli.train:ask", help, runs=True)
        ask.add_argument(
            "--wait", type=_seconds, default=15.0, metavar="S",
            help="how long to wait for the run's answer (default 15)",
        )  # fmt: skip
        named.append(ask)
    for sub in named:
        sub.add_argument("name", metavar="RUN", help="a run's id, a part of it, its folder, or `latest`")

    runs = command("runs", "cli.show:runs", "list the runs, newest first", runs=True)
    runs.add_argument(
        "--limit", type=_count, default=20, metavar="N", help="at most so many (0: all; default 20)"
    )

    models = command("models", "cli.show:models", "list the models that can be tuned")
    models.add_argument("--all", action="store_true", help="also those that are refused, with the reason")

    presets = command(
        "presets", "cli.show:presets", "list presets, show one with its comments, or explain all keys"
    )
    presets.add_argument("name", nargs="?", metavar="NAME", help="show this preset")
    presets.add_argument(
        "--keys", action="store_true", help="every recipe key with its range and what it does"
    )

    data = commands.add_parser("data", help="look at data sets", formatter_class=_Help)
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True)
    preview = actions.add_parser(
        "preview", help="show rows as the model sees them, and what is trained", epilog=EXIT_CODES,
        description="Show rows as the model sees them, and what of them is trained.", formatter_class=_Help,
    )  # fmt: skip
    preview.set_defaults(run="cli.show:data_preview")
    preview.add_argument("data", metavar="FILE", help="a file, a folder, a bundled set or a hub name")
    preview.add_argument("--model", default="pocket", metavar="NAME", help="whose tokenizer (default pocket)")
    preview.add_argument("--format", default="auto", metavar="NAME", help="the rows' format (default auto)")
    preview.add_argument("--rows", type=_count, default=3, metavar="N", help="rows to show (default 3)")
    preview.add_argument("--max-length", type=_count, default=1024, metavar="N", help="tokens a row at most")
    preview.add_argument("--json", action="store_true", help="machine-readable output")

    generate_args.add_parser(commands)
    queue.add_parser(commands, recipe_options)
    export.add_parser(commands)
    forecast.add_parser(commands)
    strength.add_parser(commands)
    demo.add_parser(commands)
    replay.add_parser(commands)
    report.add_parser(commands)
    retention.add_parser(commands)
    cli_settings.add_parser(commands)

    command("locate", "cli.show:locate", "say where everything lies", runs=True)
    doctor = command("doctor", "cli.show:doctor", "check what this machine can do", runs=True)
    doctor.add_argument("--online", action="store_true", help="also ask the hub whether it answers")
    return top


def open_lab(args: argparse.Namespace) -> int:
    """The full-screen lab."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LabError("the lab needs a terminal; without one use the commands that `tui-lab --help` lists")
    refuse_lines_only()
    from tui_lab.ui.app import main as lab

    loaded = args.loaded
    return lab(loaded.settings, loaded.problems, sources=loaded.sources) or EXIT_OK


def _settle(args: argparse.Namespace) -> Loaded:
    """The settings that hold for this command, which whatever it starts finds in its environment."""
    from tui_lab.core import settings

    said = {name: value for name, value in vars(args).items() if name in LAB_OPTIONS}
    if said.get("runs_dir"):
        said["runs_dir"] = str(said["runs_dir"])
    loaded = settings.load(said)
    settings.export_to_env(loaded.settings)
    return loaded


def _carry_out(arguments: Sequence[str] | None) -> int:
    args = parser().parse_args(arguments)
    args.loaded = _settle(args)
    if not args.command:
        return open_lab(args)
    for problem in args.loaded.problems:  # the lab shows them itself
        print(f"tui-lab: {problem}", file=sys.stderr)
    module, function = args.run.split(":")
    found = getattr(__import__(f"tui_lab.{module}", fromlist=[function]), function)
    return int(found(args))


def _safe_streams() -> None:
    """Closed streams swallow what is written; what an encoding cannot say is escaped, never a crash."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 (until the end)
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code. People never see a traceback for what they typed."""
    _safe_streams()
    try:
        try:
            return _carry_out(arguments)
        finally:
            sys.stdout.flush()
    except LabError as error:
        from tui_lab.core.sanitize import sanitize

        print(f"tui-lab: {sanitize(str(error), keep_newlines=True)}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("tui-lab: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "tui_lab":
            raise
        print(f"tui-lab: {error.name} is not installed: install tui-lab again, whole", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        # the interpreter flushes once more at its end: give it something that takes it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except OSError as error:
        from tui_lab.core.sanitize import sanitize

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        text = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        print(f"tui-lab: {sanitize(text)}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
