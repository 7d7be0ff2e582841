"""A search beside a grid: ``python -m tests.benchmarks.search_grid FOLDER grid|search|confirm|table``.

The bundled model learns ``support`` with 24 recipes (rate x rank x replay x steps), each measured at four
strengths on all held-out rows and the whole suite; then a search gets at most a third of their time; then the
chosen recipe and that of the best feasible cell are trained with the same three fresh seeds. Seconds are
those of all processors that the runs and their measurements used, since a shared machine makes the time of a
clock mean little; both are in the table. Everything is stored in FOLDER as it is measured: repeat the command
after any kill. ``grid --part 0/2`` does every other cell, so that two processes can share it."""

from __future__ import annotations

import argparse
import itertools
import math
import os
import resource
import time
from pathlib import Path
from statistics import mean

import msgspec
import psutil

from tui_lab.core.files import write_atomically
from tui_lab.core.records import from_json, to_json
from tui_lab.evaluation import search_plan as plan
from tui_lab.evaluation.search import STRENGTHS, Search
from tui_lab.evaluation.search_plan import Choice, Pilot, SearchResult
from tui_lab.evaluation.search_runs import SearchRuns
from tui_lab.evaluation.search_settings import SearchSettings, SearchValues

KEEP, SUITE, PRESET = 0.9, "everyday", "minute"
MODEL, DATA = "pocket", "support"
RATES, RANKS, REPLAYS, STEPS = (1e-3, 3e-3, 9e-3), (4, 16), (0.0, 0.25), (30, 90)
SEED, FRESH_SEEDS = 0, (101, 102, 103)
OVERRIDES: dict[str, object] = {"model": MODEL, "data": DATA, "score_rows": 120, "quantization": "none"}


class TimedPilot(msgspec.Struct, frozen=True):
    """A measured run with its seconds of processors and of the clock."""

    pilot: Pilot
    cpu_s: float
    wall_s: float


def cpu_seconds() -> float:
    """Seconds of processors of this process and of all that it started, ended or not."""
    used = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    for process in psutil.Process().children(recursive=True):
        try:
            used += sum(process.cpu_times()[:4])  # with those of its own ended children
        except psutil.Error:
            continue
    return used


def settings(search: str, budget_s: float) -> SearchSettings:
    """The same recipe, suite and items for the grid, the search and the confirmations."""
    return SearchSettings(
        search=search, model=MODEL, data=DATA, keep=KEEP, budget_s=budget_s, suite=SUITE, steps=STEPS[0],
        learning_rate=5e-3, seed=SEED, items=0, preset=PRESET, overrides=OVERRIDES,
    )  # fmt: skip


def cells() -> list[tuple[SearchValues, int]]:
    """The recipes of the grid with their steps."""
    return [
        ({"learning_rate": rate, "lora_r": rank, "replay_fraction": replay}, steps)
        for rate, rank, replay, steps in itertools.product(RATES, RANKS, REPLAYS, STEPS)
    ]


def measure(folder: Path, name: str, values: SearchValues, steps: int, seed: int) -> TimedPilot:
    """A run and its measurement, stored under ``name``; taken from there if it was measured before."""
    path = folder / "pilots" / f"{name}.json"
    if path.exists():
        return read(path)
    runs = SearchRuns(settings("grid", math.inf), folder / "runs", show)
    cpu, wall = cpu_seconds(), time.monotonic()
    pilot = runs(values, steps, seed, STRENGTHS, math.inf, confirms=True)
    assert pilot is not None
    timed = TimedPilot(pilot, cpu_seconds() - cpu, time.monotonic() - wall)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, to_json(timed))
    print(f"{name}: {timed.cpu_s:.0f} s of processors, {timed.wall_s:.0f} s", flush=True)
    return timed


def read(path: Path) -> TimedPilot:
    return from_json(path.read_bytes(), TimedPilot, path.name)


def show(text: str, done: int | None = None, total: int | None = None) -> None:
    if done is None:
        print(f"  {time.strftime('%H:%M:%S')} {text}", flush=True)


def grid(folder: Path, part: str) -> None:
    at, of = (int(each) for each in part.split("/"))
    every = list(enumerate(cells()))
    order = every[::5] + every[1::5] + every[2::5] + every[3::5] + every[4::5]  # any part of it is mixed
    for number, (values, steps) in order[at::of]:
        measure(folder, f"cell-{number:02}", values, steps, SEED)


def measured_cells(folder: Path) -> list[TimedPilot]:
    return [read(path) for path in sorted((folder / "pilots").glob("cell-*.json"))]


def search(folder: Path, budget_s: float) -> None:
    found = settings("search", budget_s)
    runs = SearchRuns(found, folder / "runs", show, cpu_seconds)
    wall = time.monotonic()
    result = Search(found, folder / "search", runs, show, cpu_seconds).run()
    with (folder / "search" / "wall").open("a") as file:
        file.write(f"{time.monotonic() - wall}\n")
    print(result.sentence)


def searched(folder: Path) -> SearchResult:
    return from_json((folder / "search" / "search.json").read_bytes(), SearchResult, "search.json")


def chosen_of(folder: Path) -> dict[str, Choice]:
    """The choice of the search, and the best cell that keeps the promise."""
    found = {
        "search": searched(folder).chosen,
        "grid": plan.choose([each.pilot for each in measured_cells(folder)], KEEP),
    }
    return {name: choice for name, choice in found.items() if choice is not None}


def confirm(folder: Path, part: str) -> None:
    at, of = (int(each) for each in part.split("/"))
    jobs = [(name, choice, seed) for seed in FRESH_SEEDS for name, choice in chosen_of(folder).items()]
    for name, choice, seed in jobs[at::of]:
        measure(folder, f"{name}-{seed}", choice.pilot.values, choice.pilot.steps, seed)


def table(folder: Path) -> str:
    """The result as Markdown."""
    every, result, chosen = measured_cells(folder), searched(folder), chosen_of(folder)
    lines = ["| rate | rank | replay | steps | strength | gain | retention | keeps | CPU s | wall s |",
             "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for each in every:
        choice = plan.best_point(each.pilot, KEEP)
        assert choice is not None
        values, point = each.pilot.values, choice.point
        lines.append(
            f"| {values['learning_rate']:g} | {values['lora_r']} | {values['replay_fraction']:g} | "
            f"{each.pilot.steps} | {point.strength:g} | {point.gain:.3f} | {_interval(point.retention)} | "
            f"{'yes' if choice.kept else 'no'} | {each.cpu_s:.0f} | {each.wall_s:.0f} |"
        )
    total = sum(each.cpu_s for each in every)
    lines += ["", f"Grid: {len(every)} runs, {total:.0f} s of processors. Search: {len(result.pilots)} pilots and "
              f"{len(result.confirmations)} confirmations, {result.spent_s:.0f} s ({result.spent_s / total:.0%}).",
              "", f"Search: {result.sentence}", "",
              "| recipe | seed | strength | base | score | gain | retention |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    scores: dict[str, list[float]] = {}
    gains: dict[str, list[float]] = {}
    lows: dict[str, list[float]] = {}
    for name, choice in chosen.items():
        for seed in FRESH_SEEDS:
            path = folder / "pilots" / f"{name}-{seed}.json"
            if not path.exists():
                continue
            pilot = read(path).pilot
            point = next(each for each in pilot.points if each.strength == choice.point.strength)
            scores.setdefault(name, []).append(point.gain)
            gains.setdefault(name, []).append(point.gain - pilot.base)
            lows.setdefault(name, []).append(point.retention.low)
            lines.append(
                f"| {name} | {seed} | {point.strength:g} | {pilot.base:.3f} | {point.gain:.3f} | "
                f"{point.gain - pilot.base:.3f} | {_interval(point.retention)} |"
            )
    if len(scores) == 2:
        ratio = mean(gains["search"]) / mean(gains["grid"])
        lines += ["", f"Mean score {mean(scores['search']):.3f} of the search, {mean(scores['grid']):.3f} of the "
                  f"grid's best; gain over the base {ratio:.1%} of the grid's (goal: 95 %). Least lower end of "
                  f"retention {min(lows['search']):.3f} (goal: {KEEP})."]  # fmt: skip
    return "\n".join(lines)


def _interval(value: plan.Interval) -> str:
    return f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("phase", choices=("grid", "search", "confirm", "table"))
    parser.add_argument("--part", default="0/1", help="AT/OF: this process's share of the runs")
    parser.add_argument("--budget", type=float, default=0.0, help="of the search, in seconds of processors; "
                        "default: a third of the grid's")  # fmt: skip
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = args.folder.resolve()
    if args.phase == "grid":
        grid(folder, args.part)
    elif args.phase == "search":
        search(folder, args.budget or sum(each.cpu_s for each in measured_cells(folder)) / 3)
    elif args.phase == "confirm":
        confirm(folder, args.part)
    else:
        print(table(folder))


if __name__ == "__main__":
    main()
