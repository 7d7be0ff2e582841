"""The grammar of the command line: commands, options and help. Every start of the command line builds it, so
neither this module nor what it imports loads a library; see :mod:`tui_lab.cli.commands` for the code."""

from __future__ import annotations

import argparse
from pathlib import Path

from tui_lab import __version__
from tui_lab.cli.grammar_models import add_model_commands
from tui_lab.cli.options import (
    EXIT_CODES,
    CommandGroup,
    HelpFormatter,
    add_detach_option,
    add_lab_options,
    add_recipe_options,
    add_run_argument,
    add_runs_dir_option,
    add_set_option,
    add_sweep_option,
    seconds,
    whole_number,
)

EXAMPLES = """examples:
  tui-lab                                  opens the lab
  tui-lab train                            the default: the bundled model learns to talk like a pirate
  tui-lab train --model Qwen/Qwen2.5-0.5B --preset starter --data rows.jsonl --set lora_r=32
  tui-lab data preview rows.jsonl          shows rows as the model sees them
  tui-lab runs                             lists the runs; `tui-lab watch latest` follows the newest"""


def parser() -> argparse.ArgumentParser:
    """The whole grammar. ``handler`` of the parsed arguments names the command's function."""
    top = argparse.ArgumentParser(
        prog="tui-lab",
        description="A terminal lab for small language models. Without a command it opens the lab.",
        epilog=f"{EXAMPLES}\n\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
    )
    top.set_defaults(handler="lab")
    top.add_argument("--version", action="version", version=f"tui-lab {__version__}")
    add_lab_options(top)
    add_runs_dir_option(top, subcommand=False)
    commands = CommandGroup(top, "commands", required=False)
    _add_run_commands(commands)
    _add_show_commands(commands)
    _add_queue_commands(commands)
    add_model_commands(commands)
    _add_lab_commands(commands)
    return top


def _add_run_commands(commands: CommandGroup) -> None:
    train = commands.add("train", "fine-tune a model and follow the run", runs=True)
    add_recipe_options(train)
    train.add_argument(
        "--num-processes", type=whole_number, metavar="N", help="processes that share each step, one per GPU"
    )
    train.add_argument(
        "--accelerate-config", metavar="FILE", help="accelerate's own config file (FSDP, DeepSpeed, machines)"
    )
    train.add_argument(
        "--report-to", metavar="NAMES", help="also report to tensorboard, wandb or trackio (comma-separated)"
    )
    add_sweep_option(train)
    train.add_argument("--queue", action="store_true", help="add it to the queue: see `tui-lab queue`")
    add_detach_option(train)
    train.add_argument(
        "--dry-run", action="store_true", help="show what would be trained, how and why; start nothing"
    )

    watch = commands.add("watch", "follow a run that was started before", runs=True)
    resume = commands.add("resume", "continue a run that was stopped or crashed", runs=True)
    add_detach_option(resume)
    add_set_option(resume, "change a recipe value from here on; its effect is printed (repeatable)")
    logs = commands.add("logs", "show what a run wrote: worker.log and its events", runs=True)
    logs.add_argument("--follow", action="store_true", help="keep printing until the run ends")
    logs.add_argument(
        "--lines", type=whole_number, default=20, metavar="N", help="the last N of each (0: all; default 20)"
    )
    for sub in (train, watch, resume):
        sub.add_argument("--plain", action="store_true", help="print plain sentences, for screen readers")
        sub.add_argument(
            "--every", type=seconds, default=10.0, metavar="S",
            help="with --plain: seconds between sentences (default 10)",
        )  # fmt: skip
    steering = {
        "stop": "end a run after the current step and save what it learned",
        "pause": "pause a run after the current step",
        "continue": "continue a paused run",
        "checkpoint": "save a checkpoint of a run now",
    }
    steered = [commands.add(name, help, handler="steer", runs=True) for name, help in steering.items()]
    for sub in steered:
        sub.add_argument(
            "--wait", type=seconds, default=15.0, metavar="S",
            help="seconds to wait for the run's answer (default 15)",
        )  # fmt: skip
    for sub in (watch, resume, logs, *steered):
        add_run_argument(sub)

    runs = commands.add("runs", "list the runs, newest first", runs=True)
    runs.add_argument(
        "--limit", type=whole_number, default=20, metavar="N", help="at most N (0: all; default 20)"
    )
    report = commands.add(
        "report",
        "write what a run did, cost, learned and kept as Markdown and as one HTML page",
        runs=True,
        examples="""\
  tui-lab report latest                            report.md and report.html in the run's folder
  tui-lab report latest --format html --out ~/talk a page without external files
  tui-lab report latest --json                     the same facts for a program
A run writes its report when it ends; this command adds retention that was measured since.""",
    )
    add_run_argument(report)
    report.add_argument("--out", type=Path, metavar="FOLDER", help="the target (default: the run's folder)")
    report.add_argument(
        "--format", choices=("md", "html", "both"), default="both", help="what is written (default both)"
    )


def _add_show_commands(commands: CommandGroup) -> None:
    models = commands.add("models", "list the models that can be fine-tuned")
    models.add_argument("--all", action="store_true", help="also models that are refused, with the reason")
    presets = commands.add("presets", "list presets, show one with its comments, or explain all keys")
    presets.add_argument("name", nargs="?", metavar="NAME", help="show this preset")
    presets.add_argument("--keys", action="store_true", help="every recipe key with its range and meaning")

    data = commands.add("data", "inspect data sets", json=False)
    preview = CommandGroup(data, "actions").add(
        "preview", "show rows as the model sees them, with the trained tokens marked", handler="data preview"
    )
    preview.add_argument("data", metavar="FILE", help="a file, a folder, a bundled set or a hub name")
    preview.add_argument("--model", default="pocket", metavar="NAME", help="whose tokenizer (default pocket)")
    preview.add_argument("--format", default="auto", metavar="NAME", help="the rows' format (default auto)")
    preview.add_argument("--rows", type=whole_number, default=3, metavar="N", help="rows to show (default 3)")
    preview.add_argument(
        "--max-length", type=whole_number, default=1024, metavar="N", help="tokens per row at most"
    )
    commands.add("locate", "show where everything is stored", runs=True)
    doctor = commands.add("doctor", "check what this machine can do", runs=True)
    doctor.add_argument("--online", action="store_true", help="also check that the hub answers")


def _add_queue_commands(commands: CommandGroup) -> None:
    queue = commands.add(
        "queue",
        "run one after another on one GPU",
        json=False,
        examples="""  tui-lab queue add --preset starter --model Qwen/Qwen2.5-0.5B --data rows.jsonl
  tui-lab queue add --sweep learning_rate=1e-4,2e-4 lora_r=8,16
  tui-lab queue list
  tui-lab queue stop                       holds the queue; the current run continues
  tui-lab queue start                      starts it again, also after a restart of the machine
The queue is a process of its own: it continues without the lab and the terminal.""",
    )
    actions = CommandGroup(queue, "actions")

    def action(name: str, help: str) -> argparse.ArgumentParser:
        return actions.add(name, help, handler=f"queue {name}", runs=True)

    add = action("add", "append a run, or a whole sweep")
    add_recipe_options(add)
    add_sweep_option(add)
    add.add_argument("--hold", action="store_true", help="do not start; `queue start` does")
    action("list", "show what waits, runs and has ended")
    remove = action("remove", "remove runs; stop a current run first")
    remove.add_argument("names", nargs="*", metavar="RUN", help="a run's id or a part of it")
    remove.add_argument(
        "--ended", action="store_true", help="all that have ended; their folders are not removed"
    )
    start = action("start", "start the queue, also after a stop or a restart of the machine")
    start.add_argument(
        "--beside", action="store_true",
        help="do not wait for runs that were started outside the queue: both share the device",
    )  # fmt: skip
    action("stop", "start no more runs; the current run continues")

    sweep = commands.add("sweep", "compare the runs of a sweep and mark the best", runs=True)
    sweep.add_argument(
        "name", nargs="?", default="latest", metavar="SWEEP", help="a sweep's id or a part (default: latest)"
    )
    # as in tui_lab.runs.queue.sweep, which is not imported here
    criteria = ("validation", "acquisition", "retention", "time")
    sweep.add_argument("--by", choices=criteria, default="validation", help="the criterion (validation)")


def _add_lab_commands(commands: CommandGroup) -> None:
    demo = commands.add(
        "demo",
        "play a demo of the whole lab: setup, train, playground, retention",
        json=False,
        examples="""  tui-lab demo                     about three minutes: trains two runs on two CPU cores
  tui-lab demo --replay            about a minute, from a recording: trains nothing
  tui-lab demo --keep my-demo      stores its runs in that folder
  tui-lab --theme lab-light demo   options of the lab go before the command
Space pauses the demo, ← and → change the chapter, Q quits; any other key pauses it and goes to
the lab. Neither network nor GPU is needed. On a slow machine --replay is the quicker way.""",
    )
    demo.add_argument("--replay", action="store_true", help="play the bundled recording, in about a minute")
    demo.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the demo's runs in this folder")
    demo.add_argument(
        "--patient", action="store_true", help="has no effect any more: the demo always waits for its runs"
    )

    replay = commands.add(
        "replay",
        "play a run that has ended through the lab as if it were live",
        json=False,
        runs=True,
        examples="""  tui-lab replay latest                    ten times as fast as the run
  tui-lab replay latest --speed 100 --from 200
On the Train pane: space pauses the replay, + and - change its speed, x ends it.
Gaps of more than 30 s are cut; the run's folder is not changed.""",
    )
    add_run_argument(replay)
    replay.add_argument(
        "--speed", type=float, default=10.0, metavar="X", help="times as fast as the run (default 10)"
    )
    replay.add_argument(
        "--from", type=int, default=0, metavar="STEP", dest="from_step", help="start at this step"
    )

    settings = commands.add(
        "settings",
        "list the settings with their sources, or set some in the settings file",
        examples="""  tui-lab settings                         every setting, its value and its source
  tui-lab settings theme=lab-light         writes it to the settings file
  tui-lab settings theme=                  removes it: the default applies again
  tui-lab settings keys.train.stop=z       another key for an action
  tui-lab settings --template              a settings file that sets nothing, with comments""",
    )
    settings.add_argument(
        "changes", nargs="*", metavar="NAME=VALUE", help="set this in the file; NAME= resets it"
    )
    settings.add_argument("--template", action="store_true", help="print a settings file with comments")
