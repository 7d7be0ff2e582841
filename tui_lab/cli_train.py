"""The commands that start, follow and steer runs: train, watch, resume, stop, pause, continue, checkpoint.

Whatever can be known to be wrong is refused before a folder is made. A started run belongs to nobody's
terminal: following it is reading its event log, and Ctrl+C ends the following, not the run.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from tui_lab import catalog, cli_plain, units
from tui_lab.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from tui_lab.cli_forecast import before_a_run
from tui_lab.cli_progress import Display, display_for, json_line, number, short
from tui_lab.errors import LabError
from tui_lab.presets import DEFAULT_PRESET, load_preset, make_recipe
from tui_lab.recipes import FIELDS, Recipe, RecipeError, parse_value
from tui_lab.resolution import Resolution, resolve
from tui_lab.room import chosen
from tui_lab.runs import changes, checkpoints, commands, folder, last_words, launch
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.state import ENDED, RunState, Watcher
from tui_lab.safe_text import visible

POLL_S = 0.1
#: A second Ctrl+C within this time stops the run instead of leaving it alone.
SECOND_CHANCE_S = 3.0
#: Larger data files are left to the run to read; smaller ones are read before anything is made.
READ_FIRST_BYTES = 64 << 20

# --------------------------------------------------------------------------------------------------
# from words to a recipe


def overrides_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the options say on top of the preset. Unknown keys stay, so that the check names them all."""
    overrides = settings_of(args)
    for key in ("model", "data", "num_processes", "accelerate_config", "report_to"):
        if getattr(args, key, None) is not None:
            overrides[key] = getattr(args, key)
    if args.allow_large:
        overrides["allow_large"] = True
    return overrides


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What ``--set`` says. Unknown keys stay, so that the check names them all."""
    settings: dict[str, Any] = {}
    for text in args.settings:
        key, equals, raw = text.partition("=")
        key, raw = key.strip(), raw.strip()
        if not equals or not key:
            raise LabError(f"--set {text}: write it as key=value, such as --set learning_rate=1e-4")
        settings[key] = parse_value(key, raw) if key in FIELDS else raw
    return settings


def prepare(args: argparse.Namespace) -> tuple[Recipe, catalog.Entry, Resolution]:
    """The recipe, its model and what it comes to here. Raises LabError with every mistake at once."""
    preset = args.preset or DEFAULT_PRESET
    values = {**load_preset(preset).values, **(overrides := overrides_of(args))}
    refused: list[str] = []
    recipe = entry = resolution = None
    try:
        recipe = make_recipe(preset, **overrides)
    except RecipeError as error:
        refused += [problem.message for problem in error.problems]
    try:
        large = values.get("allow_large") is True
        entry = catalog.find(str(values.get("model", FIELDS["model"].default)), allow_large=large)
    except LabError as error:
        refused.append(str(error))
    if recipe and entry:
        try:
            resolution = resolve(recipe, chosen().device, entry)
        except LabError as error:
            refused.append(str(error))
    try:
        check_data(
            str(values.get("data", FIELDS["data"].default)),
            recipe.data_format if recipe else "auto",
            recipe.max_rows if recipe else 0,
        )
    except LabError as error:
        refused.append(str(error))
    if recipe and recipe.chat_template and not Path(recipe.chat_template).expanduser().is_file():
        refused.append(f"chat_template = {recipe.chat_template!r}: there is no such file")
    if refused or recipe is None or entry is None or resolution is None:
        many = f"{len(refused)} mistakes, nothing was started\n  - "
        raise LabError(refused[0] if len(refused) == 1 else many + "\n  - ".join(refused))
    return recipe, entry, resolution


def check_data(data: str, data_format: str, max_rows: int) -> None:
    """Reads small local data whole, so that a damaged row is named before anything is made; what is large
    or needs the datasets library is read by the run itself. Raises LabError."""
    from tui_lab.data import bundled, files, formats

    path = Path(data).expanduser()
    if data in bundled.NAMES:
        return
    if path.is_file():
        if path.suffix.lower() != ".parquet" and path.stat().st_size <= READ_FIRST_BYTES:
            formats.read(data, data_format, max_rows)
    elif not path.is_dir() and not files.HUB_NAME.match(data):
        formats.read(data, data_format, max_rows)  # raises, with the nearest name


# --------------------------------------------------------------------------------------------------
# starting


def train(args: argparse.Namespace) -> int:
    """``tui-lab train``."""
    if args.queue or args.sweep:
        from tui_lab import cli_queue

        return cli_queue.add(args)
    recipe, entry, resolution = prepare(args)
    if args.dry_run:
        return _dry_run(args, recipe, entry, resolution)
    run = folder.create(recipe, args.runs_dir, args.name)
    launch.start(run)
    if args.detach:
        return _left_alone(run, args.json)
    if not args.json:
        print(
            f"run {run.id}: {recipe.preset} on {visible(entry.label)}, data {short(recipe.data)}", flush=True
        )
        for line in before_a_run(recipe, entry, resolution)[0]:
            print(cli_plain.spoken(line) if args.plain else f"  {line}", flush=True)
    return follow(run, args.json, every_s=_calm(args))


def _dry_run(args: argparse.Namespace, recipe: Recipe, entry: catalog.Entry, resolution: Resolution) -> int:
    from tui_lab.shapes import trainable_count

    trainable = None
    if entry.shape is not None:
        trainable = trainable_count(entry.shape, recipe)
    lines, outlook = before_a_run(recipe, entry, resolution)
    if args.json:
        print(
            json_line(
                {
                    "kind": "dry_run",
                    "recipe": recipe.model_dump(),
                    "parameters": entry.parameters,
                    "trainable": trainable,
                    "choices": [
                        {"field": c.field, "value": c.value, "reason": c.reason} for c in resolution.reasons
                    ],
                    "warnings": resolution.warnings,
                    "forecast": outlook,
                }
            )
        )
        return EXIT_OK
    print(f"{recipe.preset} on {visible(entry.label)}, data {short(recipe.data)}; nothing was started")
    if trainable and entry.parameters:
        print(
            f"  trains {trainable:,} of {entry.parameters:,} parameters ({trainable / entry.parameters:.2%})"
        )
    for line in lines:
        print(f"  {line}")
    for choice in resolution.reasons:
        value = ", ".join(map(str, choice.value)) if isinstance(choice.value, list) else choice.value
        print(f"  {choice.field}{f' = {short(value)}' if value != '' else ''}: {short(choice.reason)}")
    for warning in resolution.warnings:
        print(f"  warning: {short(warning)}")
    return EXIT_OK


def _left_alone(run: Run, as_json: bool) -> int:
    if as_json:
        print(json_line({"kind": "result", "run": run.id, "path": str(run.path), "state": "starting"}))
    else:
        print(run.id)
        print(f"it runs in {run.path}; `tui-lab watch {run.id}` follows it", file=sys.stderr)
    return EXIT_OK


def resume(args: argparse.Namespace) -> int:
    """``tui-lab resume``: goes on from the newest checkpoint."""
    run = folder.open_run(args.name, args.runs_dir)
    watcher = Watcher(run)
    state = watcher.read_all()
    if watcher.recipe is None:
        raise LabError(watcher.problem)
    recipe = folder.absolute_paths(watcher.recipe.changed(**settings_of(args)))
    longer = _wants_more(watcher.recipe, recipe)
    if state.end.get("state") == "finished" and not longer:
        raise LabError(
            f"run {run.id}: it has finished; there is nothing to go on with "
            "(--set max_steps=… or num_train_epochs=… above what it had goes on further)"
        )
    found = changes.compare(watcher.recipe, recipe)
    if found:
        resolve(recipe, chosen().device, catalog.find(recipe.model, allow_large=recipe.allow_large))
    if checkpoints.find(run.checkpoints_path).chosen is not None:
        changes.refuse(found)
    for change in found:
        print(short(change.words()), file=sys.stderr)
    launch.start(run, recipe if found else None)
    if args.detach:
        return _left_alone(run, args.json)
    return follow(run, args.json, watcher, _calm(args))


def _wants_more(before: Recipe, after: Recipe) -> bool:
    """Whether a recipe was changed to train for longer."""
    if before.max_steps and after.max_steps:
        return after.max_steps > before.max_steps
    return not before.max_steps and after.num_train_epochs > before.num_train_epochs


def watch(args: argparse.Namespace) -> int:
    """``tui-lab watch``: from the first event of the run to its end, or to Ctrl+C."""
    run = folder.open_run(args.name, args.runs_dir)
    if args.plain and not args.json:
        print(f"Following the run {visible(run.id)}.", flush=True)
    return follow(run, args.json, every_s=_calm(args))


# --------------------------------------------------------------------------------------------------
# following


class Interrupts:
    """Counts Ctrl+C instead of breaking off wherever the program is."""

    def __init__(self) -> None:
        self.count = 0
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


def _calm(args: argparse.Namespace) -> float | None:
    """Seconds between two groups of sentences; None where no sentences are wanted: neither asked for, nor all
    that the terminal can do."""
    lines_only = sys.stdout.isatty() and os.environ.get("TERM") == "dumb"
    return args.every if args.plain or lines_only else None


def follow(run: Run, as_json: bool, watcher: Watcher | None = None, every_s: float | None = None) -> int:
    """Shows a run until it ends; the exit code. A ``watcher`` that has read the log already (a resume)
    keeps its state, and only what comes now is shown. ``every_s``: in plain sentences, so far apart."""
    attempt_before, end_before = (watcher.state.attempt, watcher.state.end) if watcher else (0, {})
    watcher = watcher or Watcher(run)
    with Interrupts() as interrupts, display_for(as_json, every_s) as display:
        detached = _until_end(run, watcher, display, interrupts, attempt_before)
        if not detached:
            _until_gone(run)
        liveness = _liveness(watcher)
    if end_before and liveness in ENDED and watcher.state.end == end_before:
        liveness = "crashed"  # the end is still that of the attempt before: the new one never said a word
    plain = every_s is not None
    return _tell_end(run, watcher, liveness, as_json, plain, detached, interrupted=interrupts.count > 0)


def _liveness(watcher: Watcher) -> str:
    state = watcher.liveness
    # nobody holds its lock and it never said a word: it died before it could
    return "crashed" if state == "created" and not is_locked(watcher.run) else state


def _until_end(
    run: Run, watcher: Watcher, display: Display, interrupts: Interrupts, attempt_before: int
) -> bool:
    """Whether the follower was sent away before the end."""
    heard, leave_at = 0, float("inf")
    stopping = False
    while True:
        events = watcher.take(max_records=500, max_s=0.1)
        for event in events:
            display.event(event, watcher.state)
        liveness = _liveness(watcher)
        display.tick(watcher.state, liveness)
        # the end of the attempt before counts only when no new one is coming
        ended = liveness in ENDED and (watcher.state.attempt > attempt_before or not is_locked(run))
        if ended and not events:
            if not (events := watcher.take()):
                return False
            for event in events:
                display.event(event, watcher.state)
        if interrupts.count > heard:
            heard = interrupts.count
            if stopping:
                display.note(f"left alone; `tui-lab watch {run.id}` follows it")
                return True
            if leave_at == float("inf"):
                leave_at = time.monotonic() + SECOND_CHANCE_S
                display.note(_farewell(run))
            if heard > 1:
                stopping, leave_at = True, float("inf")
                commands.send(run, "stop")
                display.note(
                    "stopping after the step in hand and saving; Ctrl+C again leaves without waiting"
                )
        if time.monotonic() > leave_at and not stopping:
            return True
        if not events:
            time.sleep(POLL_S)


def _until_gone(run: Run) -> None:
    """After its last word a run writes its report: what is asked of it next should find that, and not a run
    that still goes on."""
    deadline = time.monotonic() + folder.LEAVING_PATIENCE_S
    while is_locked(run) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _farewell(run: Run) -> str:
    return (
        f"detached: the run goes on. `tui-lab watch {run.id}` or the lab (`tui-lab`) shows it, "
        f"`tui-lab stop {run.id}` ends it. Ctrl+C again within {SECOND_CHANCE_S:.0f} s stops it now."
    )


def result_of(run: Run, watcher: Watcher, liveness: str) -> dict[str, Any]:
    """What a script wants to know of a run."""
    state, end = watcher.state, watcher.state.end
    saved = state.saved.get("path")
    return {
        "kind": "result",
        "run": run.id,
        "path": str(run.path),
        "state": liveness,
        "step": end.get("step", state.step),
        "total_steps": state.total_steps,
        "seconds": end.get("seconds"),
        "train_loss": end.get("train_loss", state.loss.values[-1] if state.loss.values else None),
        "validation_loss": end.get(
            "validation_loss", state.validation.values[-1] if state.validation.values else None
        ),
        "acquisition": end.get("acquisition") or {},
        "peak_memory": end.get("peak_memory") or state.peak_memory,
        "flops_per_token": end.get("flops_per_token"),
        "mfu": end.get("mfu"),
        "energy_j": end.get("energy_j", state.telemetry.energy_j),
        "saved": str(run.path / str(saved)) if saved else None,
        "message": str(end.get("message") or ""),
    }


def _tell_end(
    run: Run,
    watcher: Watcher,
    liveness: str,
    as_json: bool,
    plain: bool,
    detached: bool,
    interrupted: bool,
) -> int:
    result = result_of(run, watcher, liveness)
    if liveness == "crashed":
        words = [visible(line) for line in run.last_words()]
        result["message"] = visible(last_words.sentence(run, watcher.state))
        print(f"tui-lab: run {run.id} crashed: {result['message']}", file=sys.stderr)
        for line in words:
            print(f"  {line}", file=sys.stderr)
        if not run.recipe_path.exists():
            return EXIT_FAILED  # there is nothing to go on with
        print(f"`tui-lab resume {run.id}` goes on from its newest checkpoint.", file=sys.stderr)
    elif liveness == "failed":
        print(f"tui-lab: run {run.id} failed: {visible(result['message'])}", file=sys.stderr)
    if as_json:
        print(json_line(result), flush=True)
    elif plain and liveness in ENDED:
        for sentence in cli_plain.summary(result, watcher.state):
            print(sentence, flush=True)
    elif liveness in ("finished", "stopped"):
        _tell_result(result, watcher)
    if interrupted and (detached or liveness == "stopped"):
        return EXIT_INTERRUPTED
    return EXIT_FAILED if liveness in ("failed", "crashed") else EXIT_OK


def _tell_result(result: dict[str, Any], watcher: Watcher) -> None:
    state = watcher.state
    print(f"{result['state']} at step {result['step']} after {units.duration(result['seconds'])}")
    if result["message"]:
        print(f"  {short(result['message'])}")
    first = state.validation.values[0] if len(state.validation.values) > 1 else None
    change = f"{number(first)} → " if first is not None else ""
    print(f"  loss {number(result['train_loss'])}, validation {change}{number(result['validation_loss'])}")
    gained = result["acquisition"]
    if isinstance(gained, dict) and gained.get("name"):
        before, after = number(gained.get("start"), 3), number(gained.get("end"), 3)
        print(f"  score ({short(gained['name'])}): {before} → {after}")
    if spent := _spent(state, str(result["state"])):
        print(f"  {spent}")
    if saved := result["saved"]:
        near = Path(saved).is_relative_to(Path.cwd())
        print(f"  {visible(os.path.relpath(saved) if near else saved)}")


def _spent(state: RunState, liveness: str) -> str:
    """Money, energy and MFU, as far as they are known; a setting that is no number is said on stderr."""
    from tui_lab import costs
    from tui_lab.runs import spending

    try:
        tariff = costs.prices()
    except LabError as error:
        print(f"tui-lab: {error}", file=sys.stderr)
        tariff = costs.Prices()
    return visible(spending.words(spending.spent(state, liveness, tariff), tariff, True))


# --------------------------------------------------------------------------------------------------
# steering


def ask(args: argparse.Namespace) -> int:
    """``tui-lab stop|pause|continue|checkpoint RUN``: asks, and waits for the run's answer."""
    run = folder.open_run(args.name, args.runs_dir)
    watcher = Watcher(run)
    watcher.read_all()
    if not is_locked(run):
        raise LabError(f"run {run.id}: it is not running ({_liveness(watcher)})")
    command_id = commands.send(run, args.command)
    deadline = time.monotonic() + args.wait
    outcome = None
    while outcome is None:
        for event in watcher.take():
            if event.get("kind") == "command" and event.get("id") == command_id:
                outcome = str(event.get("outcome") or "done")
        if outcome is None and (time.monotonic() > deadline or not is_locked(run)):
            break
        time.sleep(POLL_S)
    answered = outcome is not None
    if args.json:
        print(json_line({"run": run.id, "command": args.command, "answered": answered, "outcome": outcome}))
    elif answered:
        print(short(outcome))
    elif not is_locked(run):
        print(f"run {run.id} ended before it answered ({_liveness(watcher)})", file=sys.stderr)
    else:
        busy = f" (now: {short(watcher.state.phase)})" if watcher.state.phase else ""
        print(
            f"asked; run {run.id} has not answered yet: it does after the step in hand{busy}", file=sys.stderr
        )
    return EXIT_OK if answered else EXIT_FAILED
