"""The grammar: every command has a function, help and the shared options; lists that it repeats are
complete."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest

from tui_lab.cli import recipe_args
from tui_lab.cli.grammar import handler, parser
from tui_lab.cli.model_commands import EXPORT_KINDS
from tui_lab.cli.options import UsageError
from tui_lab.core.errors import LabError
from tui_lab.export import records
from tui_lab.runs.queue.sweep import CRITERIA


def leaves(parent: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its full name, actions of commands included."""
    groups = [action for action in parent._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for word, sub in group.choices.items():
            yield from leaves(sub, f"{name} {word}".strip())
    if not groups:
        yield name, parent


COMMANDS = dict(leaves(parser()))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_function_help_and_exit_codes(name: str) -> None:
    command = COMMANDS[name]
    assert callable(handler(command.get_default("handler")))
    text = command.format_help()
    assert "exit codes:" in text and all(len(line) <= 110 for line in text.splitlines())
    assert all(action.help for action in command._actions)


def test_help_fits_a_narrow_terminal_and_loses_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, command in COMMANDS.items():
        monkeypatch.setenv("COLUMNS", "130")
        wide = command.format_help().split("examples:")[-1].split()
        monkeypatch.setenv("COLUMNS", "80")
        text = command.format_help()
        assert text.split("examples:")[-1].split() == wide, name
        for line in text.splitlines():
            # a command stays whole, so that it can be copied
            assert len(line) < 80 or re.match(r"  (tui-lab|[A-Z_]+=|eval|source) ?", line), (name, line)


def test_without_arguments_the_commands_need_not_be_built() -> None:
    assert vars(parser(commands=False).parse_args([])) == vars(parser().parse_args([]))


def test_the_lab_is_the_command_without_a_name() -> None:
    args = parser().parse_args([])
    assert (args.handler, args.command, args.runs_dir) == ("lab.open_lab", None, None)


@pytest.mark.parametrize("words", [["--runs-dir", "x", "runs"], ["runs", "--runs-dir", "x"]])
def test_the_folder_of_the_runs_goes_before_or_after_the_command(words: list[str]) -> None:
    assert str(parser().parse_args(words).runs_dir) == "x"


def test_lists_that_the_grammar_repeats_are_complete() -> None:
    assert tuple(records.KINDS) == EXPORT_KINDS
    by = next(action for action in COMMANDS["sweep"]._actions if action.dest == "by")
    assert by.choices is not None and set(by.choices) == set(CRITERIA)


@pytest.mark.parametrize("arguments", [["retention", "--run", "x"], ["train", "--det"], ["--the", "x"]])
def test_options_are_not_shortened(arguments: list[str]) -> None:
    """``--run`` would be ``--runs-dir``: the wrong model, or a new folder."""
    with pytest.raises(UsageError, match="there is no option"):
        parser().parse_args(arguments)


@pytest.mark.parametrize("command", [["train"], ["queue", "add"], ["forecast"]])
def test_several_data_sets_are_a_mixture(command: list[str]) -> None:
    def data(*words: str) -> object:
        return parser().parse_args([*command, *words]).data

    assert data() is None and data("--data", "owner/name:x") == "owner/name:x"
    assert data("--data", "a:0.75", "--data=b", "--data", "c:2") == "a:0.75 + b:1 + c:2"
    with pytest.raises(UsageError, match="the weight of b is 0"):
        data("--data", "a", "--data", "b:0")


def test_the_preview_takes_several_data_sets() -> None:
    assert parser().parse_args(["data", "preview", "a:3", "b:1", "--rows", "1"]).data == "a:3 + b:1"
    assert parser().parse_args(["data", "preview", "a"]).data == "a"


@pytest.mark.parametrize("data", ["pirate_pairs + pirate", "pirate"])
def test_data_of_another_form_is_refused_before_a_run_is_made(data: str) -> None:
    args = parser().parse_args(["train", "--preset", "dpo", "--data", data])
    with pytest.raises(LabError, match="needs the columns chosen and rejected; pirate has rows in the form"):
        recipe_args.prepare(args)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--set", "lora_r=8", "--set", "max_rows=9"],
        ["train", "--set", "lora_r=8", "max_rows=9"],
        ["train", "--set=lora_r=8", "max_rows=9", "--detach"],
        ["resume", "--set", "lora_r=8", "max_rows=9", "latest"],
    ],
)
def test_one_option_may_set_several_keys(words: list[str]) -> None:
    args = parser().parse_args(words)
    assert args.settings == ["lora_r=8", "max_rows=9"]
    assert words[0] == "train" or args.name == "latest"


def test_a_value_of_another_option_is_no_setting() -> None:
    args = parser().parse_args(["generate", "--prompt", "x=1"])
    assert args.prompt == "x=1"
