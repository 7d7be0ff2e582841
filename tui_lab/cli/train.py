"""The commands that start, follow and control runs: train, watch, resume, stop, pause, continue, checkpoint.

Invalid input is refused before a run folder is created. A run does not depend on the terminal: following it
means reading its event log, and Ctrl+C ends the follower, not the run."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tui_lab.cli import plain as cli_plain
from tui_lab.cli import queue
from tui_lab.cli.follow import POLL_S, follow, run_status, short
from tui_lab.cli.forecast import run_forecast
from tui_lab.cli.forecast_answers import RunForecast
from tui_lab.cli.options import EXIT_FAILED, EXIT_OK
from tui_lab.cli.output import Answer, json_line, note, print_text
from tui_lab.cli.recipe_args import check_downloads, prepare, settings_of
from tui_lab.cli.results import result_of
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.hardware.memory_budget import current
from tui_lab.models import catalog
from tui_lab.models.trainable import trainable_count
from tui_lab.recipes.recipe import Recipe, with_pins
from tui_lab.recipes.resolve import Resolution, ResolvedChoice, resolve
from tui_lab.runs import changes, checkpoints, commands, folder, inputs, launch
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.schema import CommandEvent
from tui_lab.runs.state import Watcher

# --------------------------------------------------------------------------------------------------
# what is printed for programs


class DryRun(Answer, tag="dry_run", kw_only=True, frozen=True):
    """What would be trained: the whole recipe, the numbers of parameters, what the lab chose and why, and the
    forecast."""

    recipe: dict[str, object]
    parameters: int | None
    trainable: int | None
    choices: list[ResolvedChoice]
    warnings: list[str]
    forecast: RunForecast


class CommandAnswer(Answer, tag="command_answer", kw_only=True, frozen=True):
    """The answer of a run to a command; null where it has not answered in time."""

    run: str
    command: str
    answered: bool
    outcome: str | None


# --------------------------------------------------------------------------------------------------
# starting


def train(args: argparse.Namespace) -> int:
    """``tui-lab train``."""
    if args.queue or args.sweep:
        return queue.add(args)
    prepared = prepare(args)
    recipe, entry, resolution, _ = prepared
    if args.dry_run:
        return _dry_run(args, recipe, entry, resolution)
    for text in check_downloads([prepared]):
        note(text)
    run, _ = launch.create_and_start(recipe, args.runs_dir, args.name)
    if args.detach:
        return _detached(run, args.json)
    if not args.json:
        print_text(f"run {run.id}: {recipe.preset} on {sanitize(entry.label)}, data {short(recipe.data)}")
        for line in run_forecast(recipe, entry, resolution)[0]:
            print_text(cli_plain.spoken(line) if args.plain else f"  {line}")
    return follow(run, args.json, every_s=_sentence_interval_s(args))


def _dry_run(args: argparse.Namespace, recipe: Recipe, entry: catalog.Entry, resolution: Resolution) -> int:

    trainable = None
    if entry.shape is not None:
        trainable = trainable_count(entry.shape, recipe)
    lines, forecast = run_forecast(recipe, entry, resolution)
    if args.json:
        json_line(
            DryRun(
                recipe=recipe.model_dump(),
                parameters=entry.parameters,
                trainable=trainable,
                choices=resolution.reasons,
                warnings=resolution.warnings,
                forecast=forecast,
            )
        )
        return EXIT_OK
    print_text(f"{recipe.preset} on {sanitize(entry.label)}, data {short(recipe.data)}; nothing was started")
    if trainable and entry.parameters:
        print_text(
            f"  trains {trainable:,} of {entry.parameters:,} parameters ({trainable / entry.parameters:.2%})"
        )
    for line in lines:
        print_text(f"  {line}")
    for choice in resolution.reasons:
        value = ", ".join(map(str, choice.value)) if isinstance(choice.value, list) else choice.value
        print_text(f"  {choice.field}{f' = {short(value)}' if value != '' else ''}: {short(choice.reason)}")
    for warning in resolution.warnings:
        print_text(f"  warning: {short(warning)}")
    return EXIT_OK


def _detached(run: Run, as_json: bool) -> int:
    if as_json:
        json_line(result_of(run, Watcher(run), "starting"))
    else:
        print(run.id)
        note(f"the run is in {run.path}; `tui-lab watch {run.id}` follows it")
    return EXIT_OK


def resume(args: argparse.Namespace) -> int:
    """``tui-lab resume``: continues from the newest checkpoint."""
    run = folder.open_run(args.name, args.runs_dir)
    watcher = Watcher(run)
    state = watcher.read_all()
    if watcher.recipe is None:
        raise LabError(watcher.problem)
    settings = settings_of(args)
    pinned = with_pins({"pinned": watcher.recipe.pinned, **settings}, settings)
    recipe = folder.absolute_paths(watcher.recipe.changed(**pinned))
    longer = _wants_more(watcher.recipe, recipe)
    if state.end and state.end.state == "finished" and not longer:
        raise LabError(
            f"run {run.id}: it has finished; to train longer, use a larger "
            "--set max_steps=… or --set num_train_epochs=…"
        )
    device = current(recipe.device).check().device
    found = changes.compare(watcher.recipe, recipe)
    if found:
        resolve(recipe, device, catalog.find(recipe.model, allow_large=recipe.allow_large))
    if checkpoints.find(run.checkpoints_path).chosen is not None:
        changes.refuse(found)
    if state.inputs is not None:
        now = inputs.current_inputs(recipe)  # the run itself compares its rows, before it trains
        for sentence in inputs.require_unchanged(
            inputs.changed_since(state.inputs, now, recipe), f"run {run.id}"
        ):
            note(short(sentence))
    for change in found:
        note(short(changes.describe(change)))
    launch.start(run, recipe if found else None)
    if args.detach:
        return _detached(run, args.json)
    return follow(run, args.json, watcher, _sentence_interval_s(args))


def _wants_more(before: Recipe, after: Recipe) -> bool:
    """Whether the new recipe trains longer."""
    if before.max_steps and after.max_steps:
        return after.max_steps > before.max_steps
    return not before.max_steps and after.num_train_epochs > before.num_train_epochs


def watch(args: argparse.Namespace) -> int:
    """``tui-lab watch``: from the first event of the run to its end, or to Ctrl+C."""
    run = folder.open_run(args.name, args.runs_dir)
    if args.plain and not args.json:
        print(f"Following the run {sanitize(run.id)}.", flush=True)
    return follow(run, args.json, every_s=_sentence_interval_s(args))


# --------------------------------------------------------------------------------------------------
# following


def _sentence_interval_s(args: argparse.Namespace) -> float | None:
    """Seconds between two groups of sentences; None unless sentences are requested or the terminal can only
    print lines."""
    lines_only = sys.stdout.isatty() and os.environ.get("TERM") == "dumb"
    return args.every if args.plain or lines_only else None


# --------------------------------------------------------------------------------------------------
# control


def steer(args: argparse.Namespace) -> int:
    """``tui-lab stop|pause|continue|checkpoint|skip RUN``: sends a command and waits for the run's answer."""
    run = folder.open_run(args.name, args.runs_dir)
    watcher = Watcher(run)
    watcher.read_all()
    if not is_locked(run):
        raise LabError(f"run {run.id}: it is not running ({run_status(watcher)})")
    command_id = commands.send(run, args.command)
    started = watcher.state.started
    suspended = commands.suspended_note(run, started.pid if started else None)
    deadline = time.monotonic() + args.wait
    outcome = None
    while outcome is None:
        for event in watcher.read_events():
            if isinstance(event, CommandEvent) and event.id == command_id:
                outcome = event.outcome or "done"
        if outcome is None and (suspended or time.monotonic() > deadline or not is_locked(run)):
            break
        time.sleep(POLL_S)
    answered = outcome is not None
    if args.json:
        json_line(CommandAnswer(run=run.id, command=args.command, answered=answered, outcome=outcome))
    elif answered:
        print(short(outcome))
    elif not is_locked(run):
        note(f"run {run.id} ended before it answered ({run_status(watcher)})")
    elif suspended:
        note(f"sent to run {run.id}; {suspended}")
    else:
        busy = f" (now: {short(watcher.state.phase)})" if watcher.state.phase else ""
        note(f"sent; run {run.id} has not answered yet, it answers after the current step{busy}")
    return EXIT_OK if answered else EXIT_FAILED
