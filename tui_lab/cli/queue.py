"""``tui-lab queue`` and ``tui-lab sweep``: runs that wait for each other, and the comparison of a sweep."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Literal

from tui_lab.cli.output import as_json, json_line, note, print_text, table
from tui_lab.cli.queue_answers import (
    QueueableRuns,
    Queued,
    QueuedRun,
    QueueList,
    QueueStatus,
    Removed,
    SweepResult,
    queue_row,
    sweep_row,
)
from tui_lab.cli.recipe_args import check_downloads, prepare_all
from tui_lab.core.errors import LabError
from tui_lab.core.format import size
from tui_lab.core.sanitize import sanitize
from tui_lab.runs import index
from tui_lab.runs.folder import Run
from tui_lab.runs.queue import cluster, queue, sweep, workers
from tui_lab.runs.queue.sweep_table import HEADERS, RIGHT, cells
from tui_lab.runs.queue.workers import WorkerForecast
from tui_lab.ui.views.states import state_text

# --------------------------------------------------------------------------------------------------
# adding


def add(args: argparse.Namespace) -> int:
    """``tui-lab queue add``, ``tui-lab train --queue`` and ``tui-lab train --sweep``."""
    grid = sweep.parse(args.sweep)
    prepared = prepare_all(args, grid, "queued")
    if getattr(args, "dry_run", False):
        if args.json:
            json_line(QueueableRuns(items=[each.values for each in prepared]))
            return 0
        many = f"{len(prepared)} runs" if grid else "one run"
        print(f"{many} could be queued; nothing was started")
        for each in prepared:
            print(f"  {sanitize(sweep.describe(each.values))}".rstrip())
        return 0
    for text in check_downloads(prepared):
        note(text)
    sweep_id = sweep.new_id() if grid else ""

    def write_place(run: Run, number: int) -> None:
        if grid:
            sweep.write_place(
                run, sweep.SweepPlace(sweep_id, number + 1, len(prepared), prepared[number].values)
            )

    runs = queue.add([each.recipe for each in prepared], args.runs_dir, args.name, write_place)
    if getattr(args, "hold", False):
        queue.hold(args.runs_dir)
    held = queue.read(args.runs_dir).held
    if not held:
        queue.start_runner(args.runs_dir)
    if args.json:
        listed = [QueuedRun(run.id, each.values) for run, each in zip(runs, prepared, strict=True)]
        json_line(Queued(sweep=sweep_id or None, held=held, items=listed, runs=listed))
        return 0
    for run, each in zip(runs, prepared, strict=True):
        print(f"{run.id}  {sanitize(sweep.describe(each.values))}".rstrip())
    hint = f"`tui-lab sweep {sweep_id}` shows its results" if grid else "`tui-lab queue list` shows it"
    state = "the queue is held: `tui-lab queue start` starts it" if held else "queued"
    note(f"{state}; {hint}")
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
        as_json(QueueList(going=going, held=now.held, waits_for_others=now.waits, items=listed, runs=listed))
        return 0
    if not listed:
        note("the queue is empty; `tui-lab queue add` adds a run")
        return 0
    rows = []
    for number, each in enumerate(listed, start=1):
        state = state_text(each.state) + (f" ({each.outcome})" if each.outcome == "stopped" else "")
        what = f"{each.model.rpartition('/')[2]} · {each.preset or '–'} · {each.data}"
        place = f"job {each.job}" if each.job else f"device {each.device}" if each.device else ""
        rows.append([str(number), each.run, state, what, sweep.describe(each.values), each.reason or place])
    table(("", "run", "state", "recipe", "sweep", "reason or place"), rows, right=(0,))
    if text := queue.describe(args.runs_dir, found):
        waits = any(item.state == "queued" for item in found) and (now.held or not going)
        note(text + ("; `tui-lab queue start` starts it" if waits else ""))
    return 0


def remove(args: argparse.Namespace) -> int:
    """``tui-lab queue remove``."""
    if not args.names and not args.ended:
        raise LabError("queue remove: name the runs or use --ended; `tui-lab queue list` lists them")
    gone = queue.remove(args.names, args.runs_dir) if args.names else []
    if args.ended:
        gone += queue.clear_ended(args.runs_dir)
    if args.json:
        json_line(Removed(items=gone, runs=gone))
    else:
        print(f"{len(gone)} removed from the queue" if gone else "the queue has no such runs")
    return 0


def start(args: argparse.Namespace) -> int:
    """``tui-lab queue start``."""
    on = cluster.choose(args.on, args.partition, args.time, args.workers, args.sbatch)
    if on is not None and args.devices:
        raise LabError(f"--devices are of this machine: leave it out with --on {args.on}")
    chosen = None if on is not None else workers.parse(args.devices, args.workers)
    here: Literal["here"] | None = "here" if args.on == "here" or chosen is not None else None
    queue.release(args.runs_dir, waits=not args.beside, workers=chosen, on=on or here)
    waiting = [item.run for item in queue.items(args.runs_dir) if item.state == "queued"]
    now = queue.read(args.runs_dir)
    devices = now.workers if now.cluster is None else ()
    forecasts = workers.forecasts(devices, waiting)  # before a run begins: it takes memory
    if waiting:
        queue.start_runner(args.runs_dir)
    return _print_state(args, forecasts)


def stop(args: argparse.Namespace) -> int:
    """``tui-lab queue stop``."""
    queue.hold(args.runs_dir)
    return _print_state(args)


def _print_state(args: argparse.Namespace, forecasts: Sequence[WorkerForecast] = ()) -> int:
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
            workers=list(forecasts),
        )
        as_json(status)
        return 0
    for number, each in enumerate(forecasts, start=1):
        print_text(f"worker {number}: {sanitize(_forecast_text(each))}")
    print(queue.describe(args.runs_dir, found) or "the queue is empty")
    if now.held and running:
        note(f"`tui-lab stop {running[0]}` ends the current run")
    return 0


def _forecast_text(worker: WorkerForecast) -> str:
    free = f", {size(worker.free_bytes)} free" if worker.free_bytes is not None else ""
    text = f"{worker.label}{free}"
    if worker.waiting:
        text += f"; {worker.fitting} of {worker.waiting} waiting runs fit"
    if worker.largest_bytes is not None:
        text += f", the largest needs {size(worker.largest_bytes)}"
    return text


# --------------------------------------------------------------------------------------------------
# the result of a sweep


def show_sweep(args: argparse.Namespace) -> int:
    """``tui-lab sweep``."""
    runs = index.sweep_runs(index.RunIndex(args.runs_dir).read_all(), args.name)
    best = index.best_of(runs, args.by)
    criterion = index.criterion_text(runs, args.by)
    if args.json:
        listed = [sweep_row(run) for run in runs]
        as_json(
            SweepResult(
                sweep=runs[0].sweep,
                by=args.by,
                criterion=criterion,
                best=best or None,
                items=listed,
                runs=listed,
            )
        )
        return 0
    keys = list(runs[0].sweep_values)
    rows = [cells(run, keys, run.id == best) for run in runs]
    offset = 1 + len(keys)
    table(("", *keys, *HEADERS), rows, right=tuple(offset + number for number in RIGHT))
    note(f"{runs[0].sweep}: {criterion}")
    return 0
