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
from tui_lab.evaluation.search_runs import SearchRuns
from tui_lab.evaluation.search_settings import SearchSettings, SearchValues
from tui_lab.evaluation.search_space import METHODS
from tui_lab.runs import searches
from tui_lab.runs.searches import Pilot, SearchResult

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
        methods=tuple(METHODS),
    )  # fmt: skip


def cells() -> list[tuple[SearchValues, int]]:
    """The recipes of the grid with their steps."""
    return [
        ({"learning_rate": rate, "lora_r": rank, "replay_fraction": replay}, steps)
        for rate, rank, replay, steps in itertools.product(RATES, RANKS, REPLAYS, STEPS)
    ]


def measure(
    folder: Path, name: str, values: SearchValues, steps: int, seed: int, strengths: tuple[float, ...]
) -> TimedPilot:
    """A run and its measurement, stored under ``name``; taken from there if it was measured before."""
    path = folder / "pilots" / f"{name}.json"
    if path.exists():
        return read(path)
    runs = SearchRuns(settings("grid", 1e9), folder / "runs", show)
    cpu, wall = cpu_seconds(), time.monotonic()
    pilot = runs(values, steps, seed, strengths, lambda: False, confirms=True)
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
        measure(folder, f"cell-{number:02}", values, steps, SEED, STRENGTHS)


def measured_cells(folder: Path) -> list[TimedPilot]:
    return [read(path) for path in sorted((folder / "pilots").glob("cell-*.json"))]


def search(folder: Path, budget_s: float) -> None:
    found = settings("search", budget_s)
    runs = SearchRuns(found, folder / "runs", show)
    wall = time.monotonic()
    result = Search(found, folder / "search", runs, show, cpu_seconds).run()
    with (folder / "search" / "wall").open("a") as file:
        file.write(f"{time.monotonic() - wall}\n")
    print(result.sentence)


def searched(folder: Path) -> SearchResult:
    return from_json((folder / "search" / "search.json").read_bytes(), SearchResult, "search.json")


def chosen_of(folder: Path) -> dict[str, tuple[Pilot, float]]:
    """The choice of the search, and the best two cells that keep the promise, each with its strength: the
    second stands in where fresh seeds show that the first does not keep it."""
    result = searched(folder)
    cells = [each.pilot for each in measured_cells(folder)]
    best = plan.choose(cells, KEEP)
    assert result.chosen is not None and best is not None
    second = plan.choose([cell for cell in cells if cell is not best.pilot], KEEP)
    assert second is not None
    strength = result.chosen.point.strength
    if result.confirmations:
        strength = result.confirmations[-1].points[-1].strength
    return {
        "search": (result.chosen.pilot, strength),
        "grid": (best.pilot, best.point.strength),
        "grid 2": (second.pilot, second.point.strength),
    }


def confirm(folder: Path, part: str) -> None:
    at, of = (int(each) for each in part.split("/"))
    jobs = [(name, *found, seed) for seed in FRESH_SEEDS for name, found in chosen_of(folder).items()]
    for name, pilot, strength, seed in jobs[at::of]:
        measure(folder, _file_name(name, seed), pilot.values, pilot.steps, seed, (strength,))


def _file_name(name: str, seed: int) -> str:
    return f"{name.replace(' ', '-')}-{seed}"


def table(folder: Path) -> str:
    """The result as Markdown."""
    every, result = measured_cells(folder), searched(folder)
    total = sum(each.cpu_s for each in every)
    lines = [
        *cell_lines(every),
        "",
        f"Grid: {len(every)} runs, {total:.0f} s of processors. Search: {len(result.pilots)} pilots and "
        f"{len(result.confirmations)} confirmations, {result.spent_s:.0f} s ({result.spent_s / total:.0%}).",
        "",
        f"Search: {result.sentence or 'not at its end'}",
        "",
        *pilot_lines(result),
        "",
        "| recipe | seed | strength | base | score | gain | retention |",
        "|---|---|---|---|---|---|---|",
    ]
    gains: dict[str, list[float]] = {}
    lows: dict[str, list[float]] = {}
    for name, (_, strength) in chosen_of(folder).items():
        for seed in FRESH_SEEDS:
            path = folder / "pilots" / f"{_file_name(name, seed)}.json"
            if not path.exists():
                continue
            pilot = read(path).pilot
            (point,) = pilot.points
            gains.setdefault(name, []).append(point.gain - pilot.base)
            lows.setdefault(name, []).append(point.retention.low)
            lines.append(
                f"| {name} | {seed} | {strength:g} | {pilot.base:.3f} | {point.gain:.3f} | "
                f"{point.gain - pilot.base:.3f} | {searches.interval_text(point.retention)} |"
            )
    if len(gains) == 3:
        feasible = [name for name in ("grid", "grid 2") if min(lows[name]) >= KEEP]
        search = mean(gains["search"])
        lines += ["", f"Least lower end of retention of the search {min(lows['search']):.3f} (goal: {KEEP})."]
        for name in ("grid", "grid 2"):
            cell = mean(gains[name])
            keeps = "keeps it" if name in feasible else "does not keep it"
            lines.append(
                f"Mean gain over the base {search:.3f} of the search, {cell:.3f} of {name} "
                f"({search / cell:.1%}; goal: 95 %), whose least lower end is {min(lows[name]):.3f}: "
                f"on fresh seeds it {keeps}."
            )
    return "\n".join(lines)


def pilot_lines(result: SearchResult) -> list[str]:
    """The table of the pilots of the search, each at its best strength."""
    lines = ["| pilot | recipe | strength | score | retention | CPU s |", "|---|---|---|---|---|---|"]
    for number, pilot in enumerate(result.pilots, 1):
        choice = plan.best_point(pilot, KEEP)
        assert choice is not None
        point = choice.point
        lines.append(
            f"| {number} | {plan.recipe_text(pilot)} | {point.strength:g} | {point.gain:.3f} | "
            f"{searches.interval_text(point.retention)} | {pilot.seconds:.0f} |"
        )
    return lines


def cell_lines(every: list[TimedPilot]) -> list[str]:
    """The table of the grid, each cell at its best strength."""
    lines = [
        "| rate | rank | replay | steps | strength | score | retention | keeps | CPU s | wall s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in every:
        choice = plan.best_point(each.pilot, KEEP)
        assert choice is not None
        values, point = each.pilot.values, choice.point
        recipe = " | ".join(str(values[key]) for key in ("learning_rate", "lora_r", "replay_fraction"))
        retention, kept = searches.interval_text(point.retention), "yes" if choice.kept else "no"
        lines.append(
            f"| {recipe} | {each.pilot.steps} | {point.strength:g} | {point.gain:.3f} | {retention} | "
            f"{kept} | {each.cpu_s:.0f} | {each.wall_s:.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("phase", choices=("grid", "search", "confirm", "table"))
    parser.add_argument("--part", default="0/1", help="AT/OF: this process's share of the runs")
    text = "of the search, in seconds of processors; default: a third of the grid's"
    parser.add_argument("--budget", type=float, default=0.0, help=text)
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
