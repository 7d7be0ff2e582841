"""Completion: what fits at the end of a line, and the scripts in the shells that are installed, with real
tabs."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.helpers import lab
from tui_lab.cli import completion
from tui_lab.cli.completion import Completion, candidates, reply, split
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.recipe import FIELDS
from tui_lab.runs import folder, removal
from tui_lab.runs.folder import Run
from tui_lab.runs.queue import queue

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(runs_dir: Path) -> Run:
    return folder.create(make_recipe(), runs_dir, "mine")


def words(line: str) -> list[str]:
    return [each.word for each in candidates(split(line))]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("tr", ["train"]),
        ("queue st", ["start", "stop"]),
        ("train --mo", ["--model"]),
        ("train --model poc", ["pocket"]),
        ("train --model=poc", ["--model=pocket"]),
        ("train --preset star", ["starter"]),
        ("train --data suppo", ["support"]),
        ("data preview suppo", ["support"]),
        ("train --set lora_", ["lora_r=", "lora_alpha=", "lora_dropout="]),
        (
            "train --set quantization=",
            ["quantization=none", "quantization=nf4", "quantization=int8", "quantization=fp8"],
        ),
        ("train --set packing=t", ["packing=true"]),
        ("train --set model=poc", ["model=pocket"]),
        ("train --set=packing=f", ["--set=packing=false"]),
        ("train --sweep lora_r=8,16 learning_r", ["learning_rate="]),
        ("train --cpu --set quantization=nf", ["quantization=nf4"]),
        ("export latest --as m", ["merged", "modelfile"]),
        ("export latest --as s", []),
        ("presets start", ["starter"]),
        ("retention --suite every", ["everyday"]),
        ("settings theme=lab-li", ["theme=lab-light"]),
        ("settings plots=block the", ["theme="]),
        ("--theme lab-li", ["lab-light"]),
        ("runs -o j", ["json"]),
        ("completion z", ["zsh"]),
        ("explode ", []),
        ("train --no-such-option x", []),
    ],
)
def test_what_fits(line: str, found: list[str]) -> None:
    assert words(line) == found


def test_every_recipe_key_command_and_option_is_offered() -> None:
    assert [word.rstrip("=") for word in words("train --set ")] == list(FIELDS)
    assert {"train", "watch", "queue", "completion"} <= set(words(""))
    assert {"--detach", "--json", "-o", "--help"} <= set(words("train -"))
    assert all(each.about for each in candidates([""]))


def test_runs_by_name_also_of_another_folder(run: Run, tmp_path: Path) -> None:
    assert words("watch ") == [*words("watch la"), run.id] == ["latest", run.id]
    other = folder.create(make_recipe(), tmp_path / "other", "two")
    for line in (f"--runs-dir {tmp_path}/other watch ", f"watch --runs-dir={tmp_path}/other "):
        assert words(line) == ["latest", other.id]
    assert words("watch latest ") == []


def test_runs_of_the_trash_and_of_the_queue(run: Run) -> None:
    assert words("runs restore ") == words("queue remove ") == []
    removal.delete(run)
    assert words("runs restore ") == ["latest", run.id] and words("runs delete ") == ["latest"]
    [queued] = queue.add([make_recipe()])
    assert words("queue remove ") == [queued.id]


def test_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("rows.jsonl", "my rows.csv", ".hidden", "odd\nname"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert words("train --data r") == ["rows.jsonl"]
    assert words("train --data 'my r") == words(r"train --data my\ r") == ["my rows.csv"]
    assert words("train --data .h") == [".hidden"]
    assert words(f"data preview {tmp_path}/de") == [f"{tmp_path}/deep/"]
    assert words("export latest --as adapter --out ") == ["deep/"]
    assert "odd" not in lab("completion", "bash", "--reply", "tui-lab train --data o").stdout
    assert lab("completion", "bash", "--reply", "tui-lab train --data /no/such/").stdout == "words\n"


def test_a_reply_of_each_shell() -> None:
    found = [Completion("lora_r=", "LoRA rank r"), Completion("lora_alpha=", "LoRA alpha")]
    assert reply(found, "lora", "zsh") == ["nospace", "lora_r=\tLoRA rank r", "lora_alpha=\tLoRA alpha"]
    # bash begins a new word after "="
    assert reply([Completion("--model=pocket", "small")], "--model=p", "bash") == ["words", "pocket\tsmall"]
    assert reply([Completion("--model=pocket")], "--model=p", "fish") == ["words", "--model=pocket"]
    assert reply([Completion("a/", completion.FILE)], "", "bash") == ["nospace files", "a/"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", [""]),
        ("tui-lab ", ["tui-lab", ""]),
        ("tui-lab a", ["tui-lab", "a"]),
        ("tui-lab 'a b", ["tui-lab", "a b"]),
        ('tui-lab "a\'b" c#d', ["tui-lab", "a'b", "c#d"]),
    ],
)
def test_a_line_that_is_being_typed(line: str, found: list[str]) -> None:
    assert split(line) == found


def test_no_library_is_loaded_while_a_line_is_typed() -> None:
    code = (
        "import sys; from tui_lab.cli.main import main\n"
        "main(['completion', 'bash', '--reply', 'tui-lab watch '])\n"
        "print(sorted({'torch', 'textual', 'rich.console'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


# --------------------------------------------------------------------------------------------------
# in the shells

STARTS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
LOADS = {
    "bash": 'eval "$(tui-lab completion bash)"',
    "zsh": 'autoload -Uz compinit; compinit -u -D; eval "$(tui-lab completion zsh)"',
    "fish": "tui-lab completion fish | source",
}


#: What shells and their line editors write to control the terminal.
CONTROL = re.compile(r"\x1b\[[0-9;?=>]*[A-Za-z]|\x1b[=>()][0B]?|\x1b\][^\x07]*(\x07|\x1b\\\\)|\r")


class Shell:
    """An interactive shell on a terminal. Its tui-lab completes, and writes what else it is called with to
    a file."""

    def __init__(self, name: str, home: Path) -> None:
        self.calls = home / "calls"
        command = home / "bin" / "tui-lab"
        command.parent.mkdir()
        command.write_text(
            f"""#!/bin/sh
[ "$1" = completion ] && exec {sys.executable} -m tui_lab "$@"
for word in "$@"; do printf '%s|' "$word"; done >> {self.calls}; echo >> {self.calls}
"""
        )
        command.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "TERM": "xterm",
        }
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            os.chdir(home)
            os.execvpe(STARTS[name][0], STARTS[name], environment)
        self._read: list[str] = []

    def called_with(self, typed: str) -> list[str]:
        """Types a line, tabs included; the words that tui-lab is called with."""
        before = self.calls.read_text().splitlines() if self.calls.exists() else []
        os.write(self._terminal, typed.encode() + b"\n")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self._drain()
            calls = self.calls.read_text().splitlines() if self.calls.exists() else []
            if len(calls) > len(before):
                return calls[-1].split("|")[:-1]
        pytest.fail(f"{typed!r} called nothing: {CONTROL.sub('', ''.join(self._read))!r}")

    def _drain(self) -> None:
        """Reads what the shell writes; fish asks what the terminal is, and waits for the answer."""
        if not select.select([self._terminal], [], [], 0.05)[0]:
            return
        text = os.read(self._terminal, 65536).decode("utf-8", "replace")
        self._read.append(text)
        if "\x1b[c" in text or "\x1b[0c" in text:
            os.write(self._terminal, b"\x1b[?62;c")

    def close(self) -> None:
        os.close(self._terminal)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.mark.parametrize("name", STARTS)
def test_tabs_complete_commands_options_and_values(name: str, tmp_path: Path, run: Run) -> None:
    """The completed line is run, so what the shell made of it is what the command gets."""
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    home = tmp_path / "home"
    (home / "some rows").mkdir(parents=True)
    (home / "some rows" / "a.jsonl").touch()
    shell = Shell(name, home)
    try:
        shell.called_with(f"{LOADS[name]}; tui-lab loaded")
        assert shell.called_with("tui-lab loc\t--jso\t") == ["locate", "--json"]
        assert shell.called_with("tui-lab que\tli\t--runs-d\t.") == ["queue", "list", "--runs-dir", "."]
        assert shell.called_with(f"tui-lab watch {run.id[:-1]}\t") == ["watch", run.id]
        line = "tui-lab train --set packing=tru\t --set lora_al\t4 --preset=starte\t --data som\ta\t"
        assert shell.called_with(line) == [
            *("train", "--set", "packing=true", "--set", "lora_alpha=4", "--preset=starter"),
            *("--data", "some rows/a.jsonl"),
        ]
    finally:
        shell.close()
