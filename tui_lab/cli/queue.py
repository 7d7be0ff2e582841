"""``tui-lab queue`` and ``tui-lab sweep``: runs that wait for each other, and the comparison of a sweep."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tui_lab.cli.output import as_json, table
from tui_lab.cli.recipe_args import check_data, overrides_of
from tui_lab.cli.results import (
    Queued,
    QueuedRun,
    QueueList,
    QueueStatus,
    Removed,
    SweepResult,
    queue_row,
    sweep_row,
)
from tui_lab.core.errors import LabError
from tui_lab.core.records import to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.hardware.memory_budget import current
from tui_lab.models import catalog
from tui_lab.recipes.presets import DEFAULT_PRESET, load_preset, make_recipe
from tui_lab.recipes.recipe import Recipe, RecipeError
from tui_lab.recipes.resolve import resolve
from tui_lab.runs import index
from tui_lab.runs.folder import Run
from tui_lab.runs.queue import queue, sweep
from tui_lab.runs.queue.sweep import SweepGrid, SweepValues
from tui_lab.runs.queue.sweep_table import HEADERS, RIGHT, cells

T = TypeVar("T")

# --------------------------------------------------------------------------------------------------
# adding


def prepare_all(args: argparse.Namespace, grid: SweepGrid) -> list[tuple[Recipe, SweepValues]]:
    """The recipe of every combination, with its values. Raises LabError with the mistakes of all
    combinations: a sweep is queued completely or not at all."""
    from functools import cache, partial

    preset, overrides = args.preset or DEFAULT_PRESET, overrides_of(args)
    load_preset(preset)
    mistakes: dict[str, list[str]] = {}  # sentence -> the combinations with this mistake

    def attempt(combination: str, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except RecipeError as error:
            for problem in error.problems:
                mistakes.setdefault(problem.message, []).append(combination)
        except LabError as error:
            mistakes.setdefault(str(error), []).append(combination)
        return None

    @cache  # many combinations have the same model and data
    def entry_of(model: str, large: bool) -> tuple[catalog.Entry | None, str]:
        try:
            return catalog.find(model, allow_large=large), ""
        except LabError as error:
            return None, str(error)

    @cache
    def data_problem(data: str, data_format: str, max_rows: int) -> str:
        try:
            check_data(data, data_format, max_rows)
        except LabError as error:
            return str(error)
        return ""

    for key in grid.keys() & overrides.keys():
        mistakes.setdefault(f"{key} is both set and swept: give it once", []).append("")
    made, device = [], current().device
    for values in sweep.combinations(grid):
        combination = sweep.describe(values)
        recipe = attempt(combination, partial(make_recipe, preset, **{**overrides, **values}))
        if recipe is None:
            continue
        entry, refused = entry_of(recipe.model, recipe.allow_large)
        if entry is None:
            mistakes.setdefault(refused, []).append(combination)
        else:
            attempt(combination, partial(resolve, recipe, device, entry))
        if refused := data_problem(recipe.data, recipe.data_format, recipe.max_rows):
            mistakes.setdefault(refused, []).append(combination)
        if recipe.chat_template and not Path(recipe.chat_template).expanduser().is_file():
            refused = f"chat_template = {recipe.chat_template!r}: the file does not exist"
            mistakes.setdefault(refused, []).append(combination)
        made.append((recipe, values))
    if mistakes:
        raise LabError(_mistakes(mistakes, len(sweep.combinations(grid))))
    return made


def _mistakes(found: dict[str, list[str]], many: int) -> str:
    """All mistakes in one text, each with its combinations where those are not all."""
    lines = []
    for text, combinations in found.items():
        where = [combination for combination in combinations if combination]
        if where and len(where) < many:
            more = f" and {len(where) - 2} more" if len(where) > 2 else ""
            text = f"{text} (with {'; '.join(where[:2])}{more})"
        lines.append(text)
    if len(lines) == 1:
        return lines[0]
    return f"{len(lines)} mistakes, nothing was queued\n  - " + "\n  - ".join(lines)


def add(args: argparse.Namespace) -> int:
    """``tui-lab queue add``, ``tui-lab train --queue`` and ``tui-lab train --sweep``."""
    grid = sweep.parse(args.sweep)
    prepared = prepare_all(args, grid)
    if getattr(args, "dry_run", False):
        many = f"{len(prepared)} runs" if grid else "one run"
        print(f"{many} could be queued; nothing was started")
        for _, values in prepared:
            print(f"  {sanitize(sweep.describe(values))}".rstrip())
        return 0
    sweep_id = sweep.new_id() if grid else ""

    def note(run: Run, number: int) -> None:
        if grid:
            sweep.write_place(run, sweep.SweepPlace(sweep_id, number + 1, len(prepared), prepared[number][1]))

    runs = queue.add([recipe for recipe, _ in prepared], args.runs_dir, args.name, note)
    if getattr(args, "hold", False):
        queue.hold(args.runs_dir)
    held = queue.read(args.runs_dir).held
    if not held:
        queue.start_runner(args.runs_dir)
    if args.json:
        listed = [QueuedRun(run.id, values) for run, (_, values) in zip(runs, prepared, strict=True)]
        print(to_json(Queued(sweep=sweep_id or None, held=held, runs=listed)))
        return 0
    for run, (_, values) in zip(runs, prepared, strict=True):
        print(f"{run.id}  {sanitize(sweep.describe(values))}".rstrip())
    hint = f"`tui-lab sweep {sweep_id}` shows its results" if grid else "`tui-lab queue list` shows it"
    state = "the queue is held: `tui-lab queue start` starts it" if held else "queued"
    print(f"{state}; {hint}", file=sys.stderr)
    return 0


# --------------------------------------------------------------------------------------------------
# listing and control


def list_queue(args: argparse.Namespace) -> int:
    """``tui-lab queue list``."""
    found = queue.items(args.runs_dir)
    now = queue.read(args.runs_dir)
    listed = [queue_row(item) for item in found]
    going = queue.is_running(args.runs_dir)
    if args.json:
        as_json(QueueList(going=going, held=now.held, waits_for_others=now.waits, runs=listed))
        return 0
    if not listed:
        print("the queue is empty; `tui-lab queue add` adds a run", file=sys.stderr)
        return 0
    rows = []
    for number, each in enumerate(listed, start=1):
        state = each.state + (f" ({each.outcome})" if each.outcome == "stopped" else "")
        what = f"{each.model.rpartition('/')[2]} · {each.preset or '–'} · {each.data}"
        rows.append([str(number), each.run, state, what, sweep.describe(each.values), each.reason])
    table(("", "run", "state", "recipe", "sweep", "reason"), rows, right=(0,))
    if words := queue.describe(args.runs_dir, found):
        waits = any(item.state == "queued" for item in found) and (now.held or not going)
        print(words + ("; `tui-lab queue start` starts it" if waits else ""), file=sys.stderr)
    return 0


def remove(args: argparse.Namespace) -> int:
    """``tui-lab queue remove``."""
    if not args.names and not args.ended:
        raise LabError("queue remove: name the runs or use --ended; `tui-lab queue list` lists them")
    gone = queue.remove(args.names, args.runs_dir) if args.names else []
    if args.ended:
        gone += queue.clear_ended(args.runs_dir)
    if args.json:
        print(to_json(Removed(gone)))
    else:
        print(f"{len(gone)} removed from the queue" if gone else "the queue has no such runs")
    return 0


def start(args: argparse.Namespace) -> int:
    """``tui-lab queue start``."""
    queue.release(args.runs_dir, waits=not args.beside)
    if any(item.state == "queued" for item in queue.items(args.runs_dir)):
        queue.start_runner(args.runs_dir)
    return _print_state(args)


def stop(args: argparse.Namespace) -> int:
    """``tui-lab queue stop``."""
    queue.hold(args.runs_dir)
    return _print_state(args)


def _print_state(args: argparse.Namespace) -> int:
    found = queue.items(args.runs_dir)
    now = queue.read(args.runs_dir)
    running = [item.run.id for item in found if item.state == "running"]
    if args.json:
        states = [item.state for item in found]
        status = QueueStatus(
            held=now.held,
            queued=states.count("queued"),
            running=len(running),
            done=states.count("done"),
            failed=states.count("failed"),
            run=next(iter(running), None),
        )
        print(to_json(status))
        return 0
    print(queue.describe(args.runs_dir, found) or "the queue is empty")
    if now.held and running:
        print(f"`tui-lab stop {running[0]}` ends the current run", file=sys.stderr)
    return 0


# --------------------------------------------------------------------------------------------------
# the result of a sweep


def show_sweep(args: argparse.Namespace) -> int:
    """``tui-lab sweep``."""
    runs = index.sweep_runs(index.RunIndex(args.runs_dir).read_all(), args.name)
    best = index.best_of(runs, args.by)
    words = index.criterion_text(runs, args.by)
    if args.json:
        as_json(
            SweepResult(
                sweep=runs[0].sweep,
                by=args.by,
                criterion=words,
                best=best or None,
                runs=[sweep_row(run) for run in runs],
            )
        )
        return 0
    keys = list(runs[0].sweep_values)
    rows = [cells(run, keys, run.id == best) for run in runs]
    offset = 1 + len(keys)
    table(("", *keys, *HEADERS), rows, right=tuple(offset + number for number in RIGHT))
    print(f"{runs[0].sweep}: {words}", file=sys.stderr)
    return 0
