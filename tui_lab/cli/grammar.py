"""The grammar of the command line: commands, options and help. Every start of the command line builds it, so
neither this module nor what it imports loads a library. A command names its function as module.function of
:mod:`tui_lab.cli`; the module is imported when the command runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from tui_lab import __version__
from tui_lab.cli.model_commands import add_export, add_learn, add_model_commands, add_search, add_serve
from tui_lab.cli.options import (
    CommandGroup,
    Parser,
    add_accept_option,
    add_cpu_option,
    add_data_argument,
    add_lab_options,
    add_recipe_options,
    add_runs_dir_option,
    add_set_option,
    seconds,
)

Handler = Callable[[argparse.Namespace], int]

#: As in :mod:`tui_lab.runs.queue.sweep`, which is not imported here.
SWEEP_CRITERIA = ("validation", "acquisition", "retention", "time")


def handler(name: str) -> Handler:
    """The function of a command: it takes the parsed arguments and returns the exit code."""
    module, _, function = name.partition(".")
    found: Handler = getattr(import_module(f"tui_lab.cli.{module}"), function)
    return found


def parser(commands: bool = True) -> Parser:
    """The whole grammar. ``handler`` of the parsed arguments names the command's function. Without
    ``commands`` it is built in a third of the time: enough for opening the lab."""
    top = Parser(
        prog="tui-lab",
        description="A terminal lab for small language models. Without a command it opens the lab.",
        examples="""\
  tui-lab                                  opens the lab
  tui-lab train                            the default: the bundled model learns to talk like a pirate
  tui-lab train --model Qwen/Qwen2.5-0.5B --preset starter --data rows.jsonl --set lora_r=32
  tui-lab train --data mine.jsonl:0.75 --data general.jsonl:0.25      trains on a mixture
  tui-lab data preview rows.jsonl          shows rows as the model sees them
  tui-lab runs                             lists the runs; `tui-lab watch latest` follows the newest""",
    )
    top.set_defaults(handler="lab.open_lab")
    top.add_argument("--version", action="version", version=f"tui-lab {__version__}")
    add_lab_options(top)
    add_cpu_option(top)
    add_runs_dir_option(top)
    if not commands:
        top.set_defaults(command=None)
        return top
    group = CommandGroup(top, "commands", required=False)
    _add_run_commands(group)
    _add_show_commands(group)
    _add_queue_commands(group)
    add_model_commands(group)
    add_export(group)
    add_serve(group)
    add_learn(group)
    add_search(group)
    _add_lab_commands(group)
    _add_completion(group)
    return top


def _add_run_commands(commands: CommandGroup) -> None:
    train = commands.add("train", "train.train", "fine-tune a model and follow the run", runs_dir=True)
    add_recipe_options(train)
    train.count("--num-processes", "processes that share each step, one per GPU")
    train.option("--accelerate-config", "FILE", "accelerate's config file (FSDP, DeepSpeed, machines)", None)
    train.option(
        "--report-to", "NAMES", "also report to tensorboard, wandb or trackio (comma-separated)", None
    )
    train.flag("--queue", "add it to the queue: see `tui-lab queue`")
    train.flag("--dry-run", "show what would be trained, how and why; start nothing")
    watch = commands.add("watch", "train.watch", "follow a run that was started before", run=True)
    resume = commands.add("resume", "train.resume", "continue a run that was stopped or crashed", run=True)
    add_set_option(resume, "change a recipe value from here on; its effect is printed (repeatable)")
    add_cpu_option(resume)
    add_accept_option(resume)
    for sub in (train, resume):
        sub.flag("--detach", "start the run and return at once")
    for sub in (train, watch, resume):
        sub.flag("--plain", "print plain sentences, for screen readers")
        sub.option("--every", "S", "with --plain: seconds between sentences (default 10)", 10.0, seconds)
    logs = commands.add("logs", "logs.logs", "show what a run wrote: worker.log and its events", run=True)
    logs.flag("--follow", "keep printing until the run ends")
    logs.count("--lines", "the last N of each (0: all; default 20)", 20)
    for name, help in (
        ("stop", "end a run after the current step and save what it learned"),
        ("pause", "pause a run after the current step"),
        ("continue", "continue a paused run"),
        ("checkpoint", "save a checkpoint of a run now"),
        ("skip", "skip a run's measurement before or after the training"),
    ):
        steered = commands.add(name, "train.steer", help, run=True)
        steered.option("--wait", "S", "seconds to wait for the run's answer (default 15)", 15.0, seconds)

    _add_runs(commands)
    report = commands.add(
        "report",
        "report.run",
        "write a report of a run (steps, cost, acquisition, retention) as Markdown and as one HTML page",
        runs_dir=True,
        examples="""\
  tui-lab report latest                            report.md and report.html in the run's folder
  tui-lab report latest --format html --out ~/talk a page without external files
  tui-lab report latest --json                     the same facts for a program
  tui-lab report --search latest                   of the run that a search chose
A run writes its report when it ends; this command adds retention that was measured since.""",
    )
    report.add_argument(
        "name", metavar="RUN", nargs="?", default="", help="a run's id, a part of it, its folder, or `latest`"
    )
    add_accept_option(report)
    report.option("--search", "ID", "of the run that a search chose: its id, a part of it, or latest")
    report.option("--out", "FOLDER", "the target (default: the run's folder)", None, Path)
    report.choice("--format", ("md", "html", "both"), "both", "what is written (default both)")


def _add_runs(commands: CommandGroup) -> None:
    runs = commands.add(
        "runs",
        "show.runs",
        "list the runs, newest first; delete and restore them",
        runs_dir=True,
        examples="""\
  tui-lab runs                             the newest 20
  tui-lab runs delete 145831               moves a run into the trash, for 30 days
  tui-lab runs restore latest              takes the last one that was deleted out of it
  tui-lab runs trash --empty               frees the disk space now""",
    )
    runs.count("--limit", "at most N (0: all; default 20)", 20)
    actions = CommandGroup(runs, "actions", required=False)
    delete = actions.add("delete", "trash.delete", "move runs into the trash", runs_dir=True)
    delete.add_argument("names", nargs="+", metavar="RUN", help="a run's id, a part of it, or its folder")
    restore = actions.add("restore", "trash.restore", "take runs out of the trash", runs_dir=True)
    restore.add_argument(
        "names", nargs="+", metavar="DELETED", help="a deleted run's id, a part of it, or `latest`"
    )
    trash = actions.add("trash", "trash.trash", "list the deleted runs, or remove them", runs_dir=True)
    trash.flag("--empty", "remove all of them from the disk; this cannot be undone")


def _add_show_commands(commands: CommandGroup) -> None:
    models = commands.add("models", "show.models", "list the models that can be fine-tuned")
    models.flag("--all", "also models that are refused, with the reason")
    presets = commands.add(
        "presets", "show.presets", "list presets, show one with its comments, or explain all keys"
    )
    presets.add_argument("name", nargs="?", metavar="PRESET", help="show this preset")
    presets.flag("--keys", "every recipe key with its range and meaning")

    votes = commands.add(
        "votes",
        "votes.run",
        "list the votes of blind comparisons, or write them as pairs to train on",
        runs_dir=True,
        examples="""\
  tui-lab votes --out pairs.jsonl                  the preferred answer is the chosen one
  tui-lab train --preset dpo --data pairs.jsonl    trains on them""",
    )
    votes.option("--run", "RUN", "only the votes on this run")
    votes.option("--out", "FILE.jsonl", "write the pairs of all these votes into a file", None)
    votes.flag("--force", "replace the file")

    imported = commands.add(
        "import",
        "import_recipe.run",
        "turn a recipe of axolotl, LLaMA-Factory, Unsloth or trl into a preset",
        examples="""\
  tui-lab import axolotl.yml              writes a preset of that name, and lists what became of each key
  tui-lab import train.py --out mine.toml the keywords of a script for Unsloth or trl; it is not run""",
    )
    imported.add_argument("file", metavar="FILE", help="a YAML file, or a Python script")
    imported.option("--out", "PRESET.toml", "the target (default: a preset of the same name)", None)
    imported.choice("--tool", ("axolotl", "llamafactory", "trl"), "", "whose recipe (default: by its keys)")
    imported.flag("--force", "replace a preset of that name")

    data = commands.add("data", "data.preview", "inspect data sets", json=False)
    preview = CommandGroup(data, "actions").add(
        "preview", "data.preview", "show rows as the model sees them, with the trained tokens marked"
    )
    add_data_argument(preview)
    preview.option("--model", "NAME", "whose tokenizer (default pocket)", "pocket")
    preview.option("--format", "NAME", "the rows' format (default auto)", "auto")
    preview.option("--columns", "NAME=COLUMN,…", "which column is which, as question=prompt,answer=reply", "")
    preview.option("--chat-template", "FILE", "a Jinja file in place of the model's template")
    preview.choice("--thinking", ("auto", "on", "off"), "auto", "ask with thinking on, off or as each row")
    preview.count("--rows", "rows to show (default 3)", 3)
    preview.count("--max-length", "tokens per row at most", 1024)
    commands.add("locate", "show.locate", "show where everything is stored", runs_dir=True)
    doctor = commands.add("doctor", "doctor.run", "check what this machine can do", runs_dir=True)
    doctor.flag("--online", "also check that the hub answers")


def _add_queue_commands(commands: CommandGroup) -> None:
    queue = commands.add(
        "queue",
        "queue.list_queue",
        "start runs one after another, or on several GPUs",
        json=False,
        examples="""\
  tui-lab queue add --preset starter --model Qwen/Qwen2.5-0.5B --data rows.jsonl
  tui-lab queue add --sweep learning_rate=1e-4,2e-4 lora_r=8,16
  tui-lab queue list
  tui-lab queue stop                       holds the queue; the current run continues
  tui-lab queue start                      starts it again, also after a restart of the machine
  tui-lab queue start --devices 0,1        a run on each of two GPUs
  tui-lab queue start --on slurm --partition gpu --time 240
The queue is a process of its own: it continues without the lab and the terminal.""",
    )
    actions = CommandGroup(queue, "actions")
    add = actions.add("add", "queue.add", "append a run, or a whole sweep", runs_dir=True)
    add_recipe_options(add)
    add.flag("--hold", "do not start; `queue start` does")
    actions.add("list", "queue.list_queue", "show what waits, runs and has ended", runs_dir=True)
    remove = actions.add("remove", "queue.remove", "remove runs; stop a current run first", runs_dir=True)
    remove.add_argument("names", nargs="*", metavar="QUEUED", help="a run's id or a part of it")
    remove.flag("--ended", "all that have ended; their folders are not removed")
    start = actions.add(
        "start",
        "queue.start",
        "start the queue, also after a stop or a restart of the machine",
        runs_dir=True,
    )
    start.flag("--beside", "do not wait for runs outside the queue: both share the device")
    start.count("--workers", "runs at the same time, each on its own GPU, else on the CPU")
    start.option("--devices", "0,1", "a worker on each of these, as in CUDA_VISIBLE_DEVICES, or cpu")
    start.add_argument(
        "--on",
        choices=("here", "slurm", "local"),
        help="submit the runs as jobs (docs/machines.md), or execute them here again; kept until changed",
    )
    start.option("--partition", "NAME", "the partition of Slurm")
    start.count("--time", "the time limit of each job in minutes", metavar="MINUTES")
    start.many("--sbatch", "NAME=VALUE", "a further option of sbatch, such as account=lab")
    actions.add("stop", "queue.stop", "start no more runs; the current run continues", runs_dir=True)

    sweep = commands.add(
        "sweep", "queue.show_sweep", "compare the runs of a sweep and mark the best", runs_dir=True
    )
    sweep.add_argument(
        "name", nargs="?", default="latest", metavar="SWEEP", help="a sweep's id or a part (default: latest)"
    )
    sweep.choice("--by", SWEEP_CRITERIA, "validation", "the criterion (validation)")


def _add_completion(commands: CommandGroup) -> None:
    completion = commands.add(
        "completion",
        "completion.run",
        "print the script that completes commands, options and values in a shell",
        json=False,
        examples="""\
  eval "$(tui-lab completion bash)"        in ~/.bashrc
  eval "$(tui-lab completion zsh)"         in ~/.zshrc, after compinit
  tui-lab completion fish > ~/.config/fish/completions/tui-lab.fish""",
    )
    shells = ("bash", "zsh", "fish")
    completion.add_argument("shell", choices=shells, metavar="SHELL", help=", ".join(shells))
    # with this the script asks for the words that fit
    completion.add_argument("--reply", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _add_lab_commands(commands: CommandGroup) -> None:
    demo = commands.add(
        "demo",
        "lab.demo",
        "play a demo of the whole lab: setup, train, playground, retention",
        json=False,
        examples="""\
  tui-lab demo                     about three minutes: trains two runs on two CPU cores
  tui-lab demo --replay            about a minute, from a recording: trains nothing
  tui-lab demo --keep my-demo      stores its runs in that folder
  tui-lab --theme lab-light demo   options of the lab go before the command
Space pauses the demo, ← and → change the chapter, Q quits; any other key pauses it and goes to
the lab. Neither network nor GPU is needed. On a slow machine --replay is the quicker way.""",
    )
    demo.flag("--replay", "play the bundled recording, in about a minute")
    demo.option("--keep", "FOLDER", "keep the demo's runs in this folder", None, Path)
    demo.flag("--patient", "has no effect any more: the demo always waits for its runs")

    replay = commands.add(
        "replay",
        "lab.replay",
        "play a run that has ended through the lab as if it were live",
        json=False,
        run=True,
        examples="""\
  tui-lab replay latest                    ten times as fast as the run
  tui-lab replay latest --speed 100 --from 200
On the Train pane: space pauses the replay, + and - change its speed, x stops it.
Gaps of more than 30 s are cut; the run's folder is not changed.""",
    )
    replay.option("--speed", "X", "times as fast as the run (default 10)", 10.0, float)
    replay.add_argument(
        "--from", type=int, default=0, metavar="STEP", dest="from_step", help="start at this step"
    )

    settings = commands.add(
        "settings",
        "settings.run",
        "list the settings with their sources, or set some in the settings file",
        examples="""\
  tui-lab settings                         every setting, its value and its source
  tui-lab settings theme=lab-light         writes it to the settings file
  tui-lab settings theme=                  removes it: the default applies again
  tui-lab settings keys.train.stop=ctrl+x  another key for an action
  tui-lab settings --template              a settings file that sets nothing, with comments""",
    )
    settings.add_argument(
        "changes", nargs="*", metavar="NAME=VALUE", help="set this in the file; NAME= resets it"
    )
    settings.flag("--template", "print a settings file with comments")
    settings.flag("--prices", "print a table of cards for prices.toml, to write prices into")
