"""Exit codes, the parser class and the options that several commands share. Every start of the command line
imports this module, so it imports no library."""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

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


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the layout of examples where it fits, and has a wide column for the names of options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = super()._fill_text(text, width, indent).splitlines()
        return "\n".join(lines if max(map(len, lines), default=0) <= width else _narrow(lines, width))


#: A line of an example: the command, and behind three blanks or more what it does; the latter alone goes on.
_EXAMPLE = re.compile(r"(?P<command>  \S.*?)?\s{3,}(?P<about>\S.*)")


def _narrow(lines: Sequence[str], width: int) -> list[str]:
    """Lines of at most ``width`` cells: what an example does stands below its command, and prose is wrapped
    as paragraphs."""
    found: list[str] = []
    texts: list[tuple[str, str]] = []  # indent and text, wrapped when the next one begins

    def wrap() -> None:
        for indent, text in texts:
            found.extend(textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent))
        texts.clear()

    for line in lines:
        example = _EXAMPLE.fullmatch(line)
        if example and not (example["command"] and len(line) <= width):
            if example["command"]:
                wrap()
                found.append(example["command"])
            more = f"{texts[-1][1]} {example['about']}" if texts else example["about"]
            texts[:] = [("      ", more)]
        elif line.strip() and not line.startswith(" "):
            more = f"{texts[-1][1]} {line}" if texts and not texts[-1][0] else line
            if texts and texts[-1][0]:
                wrap()
            texts[:] = [("", more)]
            if line.endswith(":"):
                wrap()
        else:
            wrap()
            found.append(line)
    wrap()
    return found


class UsageError(LabError):
    """A command line that the grammar does not allow. ``hint``: a second line that helps to mend it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


_SETTING = re.compile(r"[a-z_]+=")


class Parser(argparse.ArgumentParser):
    """A parser whose help ends with examples and exit codes. Its subparsers are of this class too.

    Mistakes raise UsageError. An unknown option or command is answered with the one that was probably
    meant, before anything else is checked."""

    #: The subcommands by name.
    commands: Mapping[str, Parser] = {}

    def __init__(self, *, examples: str = "", **options: Any) -> None:
        epilog = f"examples:\n{examples}\n\n{EXIT_CODES}" if examples else EXIT_CODES
        options.setdefault("allow_abbrev", False)  # --run is not --runs-dir
        super().__init__(epilog=epilog, formatter_class=_HelpFormatter, **options)
        #: The options by their names, and the arguments in their order.
        self.options: dict[str, argparse.Action] = {}
        self.arguments: list[argparse.Action] = []
        for action in self._actions:  # argparse adds --help before there are options
            self.options |= dict.fromkeys(action.option_strings, action)

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        action = super().add_argument(*names, **options)
        if names != ("-h", "--help"):
            self.options |= dict.fromkeys(action.option_strings, action)
            self.arguments += [action] * (not action.option_strings)
        return action

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = self._with_each_setting(sys.argv[1:] if args is None else args)
        is_value = False
        for at, word in enumerate(words):
            name, equals, _ = word.partition("=")
            if word == "--" or (self.commands and not is_value and not word.startswith("-")):
                break  # a command reads the rest
            # a word with a space is a value for argparse too
            if word.startswith("--") and " " not in word and name not in self.options:
                self._refuse_option(word, next(iter(words[at + 1 :]), ""))
            nargs = self.options[name].nargs if name in self.options else 0
            if nargs == argparse.REMAINDER:
                break
            is_value = nargs != 0 and not equals
        return super().parse_known_args(words, namespace)

    def _with_each_setting(self, args: Sequence[str]) -> list[str]:
        """The words with ``--set a=1 b=2`` written as ``--set a=1 --set b=2``."""
        words: list[str] = []
        follows = False
        for at, word in enumerate(args):
            if word == "--":
                return [*words, *args[at:]]
            if follows and _SETTING.match(word) and words[-1] != "--set":
                words.append("--set")
            elif word.startswith("-"):
                follows = word.partition("=")[0] == "--set" and "--set" in self.options
            words.append(word)
        return words

    def _refuse_option(self, word: str, following: str) -> NoReturn:
        from tui_lab.cli.suggestions import option_instead

        name, equals, value = word.partition("=")
        value = value if equals else "" if following.startswith("-") else following
        owner = next((key for key, sub in self.commands.items() if name in sub.options), "")
        instead = option_instead(name, value, self.options)
        if owner and not instead.endswith("`"):
            instead = f": write it after a command, as in `{self.prog} {owner} {name}`"
        self.error(f"there is no option {name}{instead}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if self.commands and action.choices is self.commands and value not in self.commands:
            from tui_lab.cli.suggestions import command_instead

            self.error(f"there is no command {value}{command_instead(value, self.commands)}")
        super()._check_value(action, value)

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        command = self.prog.partition(" ")[2]
        hint = f"`{self.prog} --help` {'explains the command' if command else 'lists the commands'}"
        if "required" in message:
            hint = self.format_usage().rstrip()
        raise UsageError(f"{command}: {message}" if command else message, hint)

    def flag(self, name: str, help: str) -> None:
        """An option without a value."""
        self.add_argument(name, action="store_true", help=help)

    def option(
        self, name: str, metavar: str, help: str, default: object = "", type: Callable[[str], object] = str
    ) -> None:
        """An option with one value."""
        self.add_argument(name, metavar=metavar, help=help, default=default, type=type)

    def count(self, name: str, help: str, default: int | None = None, metavar: str = "N") -> None:
        """An option with a whole number."""
        self.option(name, metavar, help, default, whole_number)

    def many(self, name: str, metavar: str, help: str, dest: str | None = None) -> None:
        """An option that can be repeated; its values are a list."""
        self.add_argument(name, action="append", default=[], metavar=metavar, help=help, dest=dest)

    def choice(self, name: str, choices: tuple[str, ...], default: str, help: str) -> None:
        """An option with one of a few values."""
        self.add_argument(name, choices=choices, default=default, help=help)


class _OutputFormat(argparse.Action):
    """``-o json`` is ``--json``."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values == "json")


def wants_json(words: Sequence[str]) -> bool:
    """Whether a command line, valid or not, asks for JSON."""
    words = [*words, ""][: list(words).index("--") + 1 if "--" in words else None]
    pairs = itertools.pairwise(words)
    return any(
        word in ("--json", "-ojson", "-o=json") or (word, after) == ("-o", "json") for word, after in pairs
    )


class CommandGroup:
    """Adds subcommands that share options and the layout of their help."""

    def __init__(self, parser: Parser, title: str, *, required: bool = True) -> None:
        metavar = title.removesuffix("s").upper()
        self._subparsers = parser.add_subparsers(
            title=title, metavar=metavar, required=required, dest=metavar.lower()
        )
        parser.commands = self._subparsers.choices

    def add(
        self,
        name: str,
        handler: str,
        help: str,
        *,
        examples: str = "",
        json: bool = True,
        runs_dir: bool = False,
        run: bool = False,
    ) -> Parser:
        """A command. ``handler`` is its function in :mod:`tui_lab.cli`, as module.function; ``json``,
        ``runs_dir`` and ``run`` give it -o json, --runs-dir, and an argument RUN with --runs-dir."""
        description = f"{help[0].upper()}{help[1:]}."
        made: Parser = self._subparsers.add_parser(
            name, help=help, description=description, examples=examples
        )
        made.set_defaults(handler=handler)
        if json:
            made.flag("--json", "the same as -o json")
            made.add_argument(
                "-o",
                action=_OutputFormat,
                dest="json",
                default=argparse.SUPPRESS,
                choices=("text", "json"),
                help="text (default), or JSON for programs (docs/json.md)",
            )
        if runs_dir or run:
            add_runs_dir_option(made, default=argparse.SUPPRESS)  # keeps a value given before the command
        if run:
            made.add_argument("name", metavar="RUN", help="a run's id, a part of it, its folder, or `latest`")
        return made


def add_runs_dir_option(parser: Parser, default: str | None = None) -> None:
    parser.option("--runs-dir", "FOLDER", "the folder of the runs", default, Path)


def add_set_option(parser: Parser, help: str) -> None:
    parser.many("--set", "KEY=VALUE", help, dest="settings")


def add_allow_large_option(parser: Parser) -> None:
    parser.flag("--allow-large", "accept models over 3 B parameters")


def add_accept_option(parser: Parser) -> None:
    parser.flag("--accept-changes", "go on though weights, template or data have changed since the run")


def add_cpu_option(parser: Parser) -> None:
    # without a default: a command keeps a value that was given before it
    parser.add_argument(
        "--cpu",
        action="store_true",
        default=argparse.SUPPRESS,
        help="compute on the CPU although there is a GPU",
    )


def add_model_options(parser: Parser) -> None:
    """The model that is loaded, and its precision."""
    parser.option("--model", "NAME", "pocket (default), a catalog name, a run, a folder or a hub id")
    parser.choice("--dtype", ("auto", "float32", "bfloat16", "float16"), "auto", "precision of the weights")
    add_allow_large_option(parser)
    add_cpu_option(parser)


def add_lab_options(parser: Parser) -> None:
    """Options that are settings too. An option that is not given is left to the settings."""
    parser.option("--theme", "NAME", "the lab's colours")
    parser.option("--plots", "KIND", "braille, block or ascii")
    for name, help in (
        ("--ascii", "write only ASCII"),
        ("--color", "use colours (NO_COLOR: none)"),
        ("--slow-link", "send less over the line"),
        ("--mouse", "react to the mouse"),
    ):
        parser.add_argument(name, action=argparse.BooleanOptionalAction, help=help)


class _Data(argparse.Action):
    """Joins the values of an option or argument that names data: several are a mixture."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        value: object,
        _option: str | None = None,
    ) -> None:
        from tui_lab.recipes import mixture

        given: list[str] = vars(namespace).setdefault("data_names", [])
        given += map(str, value) if isinstance(value, list) else [str(value)]
        try:
            setattr(namespace, self.dest, mixture.from_options(given))
        except LabError as error:
            parser.error(str(error))


def add_data_option(parser: Parser, help: str) -> None:
    """``--data``, which can be repeated."""
    parser.add_argument("--data", metavar="NAME", help=help, default=None, action=_Data)


def add_data_argument(parser: Parser) -> None:
    """The data of a preview, and how it is mixed."""
    parser.add_argument(
        "data", metavar="FILE", nargs="+", action=_Data,
        help="a file, a folder, a bundled set or a hub id; several, each as NAME:WEIGHT, are a mixture",
    )  # fmt: skip
    parser.choice("--by", ("rows", "tokens"), "rows", "what the weights of a mixture are shares of")
    parser.choice("--sampling", ("down", "up"), "down", "leave rows of larger sets out, or repeat rows")


def add_recipe_options(parser: Parser) -> None:
    """The parts of a recipe, for each command that starts runs."""
    parser.option("--model", "NAME", "pocket, a catalog name, a folder or a hub id", None)
    parser.option("--preset", "NAME", "a preset's name or a TOML file")
    add_data_option(
        parser,
        "pirate, json, support, a file, a folder or a hub id; repeatable as NAME:WEIGHT for a mixture",
    )
    parser.add_argument(
        "--from", metavar="RUN", dest="from_run", default="",
        help="go on from what another run learned; retention is measured against the first base",
    )  # fmt: skip
    parser.flag("--new-adapter", "with --from: keep that run's adapter as it is, train a new one beside it")
    parser.option(
        "--columns", "NAME=COLUMN,…", "which column is which, as question=prompt,answer=reply", None
    )
    add_set_option(
        parser, "a recipe value that overrides the preset (repeatable; `tui-lab presets --keys` lists them)"
    )
    add_allow_large_option(parser)
    add_cpu_option(parser)
    parser.add_argument("--name", default="", help="a name for the run's folder")
    parser.add_argument(
        "--sweep", nargs="+", action="extend", default=[], metavar="KEY=V,V",
        help="one run for every combination of these values, through the queue",
    )  # fmt: skip


def check_terminal_can_draw() -> None:
    """Raises LabError where TERM says that the terminal can only print lines."""
    term = os.environ.get("TERM", "")
    if term in ("dumb", "unknown"):
        raise LabError(
            f"this terminal cannot draw (TERM={term}): set TERM, such as TERM=xterm-256color, "
            "or use plain text (`tui-lab train --plain`, `tui-lab watch --plain`)"
        )
