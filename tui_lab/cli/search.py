"""``tui-lab search``: the recipe with the most gain that keeps a promise about retention, within a budget."""

from __future__ import annotations

import argparse
from pathlib import Path

from msgspec.structs import asdict

from tui_lab.cli.output import Progress, as_json, print_text, table
from tui_lab.cli.recipe_args import overrides_of
from tui_lab.core.errors import LabError
from tui_lab.core.format import duration, plural
from tui_lab.evaluation import search_plan as plan
from tui_lab.evaluation import search_start
from tui_lab.evaluation import search_store as store
from tui_lab.evaluation.search import Search
from tui_lab.evaluation.search_runs import SearchRuns
from tui_lab.evaluation.search_settings import SearchSettings
from tui_lab.evaluation.search_start import DEFAULT_BUDGET, DEFAULT_KEEP
from tui_lab.forecast import cost
from tui_lab.recipes.presets import DEFAULT_PRESET
from tui_lab.runs import folder, searches
from tui_lab.runs.searches import Choice, SearchResult


class SearchAnswer(SearchResult, tag_field="kind", tag="search", kw_only=True, frozen=True):
    """The pilots, the front, the chosen recipe and whether fresh seeds confirmed it."""


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code: 0 where the promise is kept and confirmed. Raises LabError."""
    directory = folder.runs_folder(args.runs_dir)
    if args.show:
        place = searches.find(directory, args.show)
        return _print(args, searches.read_result(place))
    settings = _resumed(args, directory) if args.resume else _new(args)
    progress = Progress()
    runs = SearchRuns(settings, directory, progress.on_progress)
    try:
        found = Search(settings, searches.root(directory) / settings.search, runs, progress.on_progress).run()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; --resume {settings.search} goes on") from None
    finally:
        progress.close()
    return _print(args, found)


def _new(args: argparse.Namespace) -> SearchSettings:
    keep = plan.check_keep(DEFAULT_KEEP if args.keep is None else args.keep)
    budget = plan.parse_budget(args.budget or DEFAULT_BUDGET, cost.prices(), search_start.watts())
    if args.steps is not None and args.steps < 1:
        raise LabError(f"--steps must be at least 1, not {args.steps}")
    return search_start.settings(
        args.preset or DEFAULT_PRESET,
        overrides_of(args),
        keep,
        budget,
        suite=args.suite,
        items=args.items,
        steps=args.steps,
        seed=args.seed,
    )


def _resumed(args: argparse.Namespace, directory: Path) -> SearchSettings:
    """The stored settings, with the budget of the command where it has one. Raises LabError."""
    settings = store.read_settings(searches.find(directory, args.resume))
    for name, given in (
        ("keep", args.keep),
        ("data", args.data),
        ("model", args.model),
    ):
        if given is not None and given != getattr(settings, name):
            raise LabError(
                f"search {settings.search} has another {name} ({getattr(settings, name)}): go on with it, or "
                "start a new search"
            )
    if args.budget:
        budget = plan.parse_budget(args.budget, cost.prices(), search_start.watts())
        settings = search_start.with_budget(settings, budget)
    return settings


def _print(args: argparse.Namespace, found: SearchResult) -> int:
    if args.json:
        as_json(SearchAnswer(**asdict(found)))
    else:
        if found.front:
            print_text("No pilot beats these in gain and in the lower end of retention at once:")
            table(
                ("run", "steps", "strength", "gain", "retention", "recipe"),
                [_row(choice) for choice in found.front],
                right=(1, 2, 3),
            )
        took = f"{plural(len(found.pilots), 'pilot')} in {duration(found.spent_s)}{_energy(found)}"
        print_text(f"{found.sentence} {took}.")
        if found.chosen is not None and found.chosen.kept:
            chosen = found.chosen
            strength = (
                found.confirmations[-1].points[-1].strength if found.confirmed else chosen.point.strength
            )
            print_text(
                f"`tui-lab strength {chosen.pilot.run} --save {strength:g}` saves its adapter at this "
                "strength."
            )
    return 0 if found.confirmed else 1


def _energy(found: SearchResult) -> str:
    return f", {found.spent_kwh:.3g} kWh" if found.budget_kwh is not None else ""


def _row(choice: Choice) -> tuple[str, ...]:
    pilot, point = choice.pilot, choice.point
    retention = searches.interval_text(point.retention)
    strength, gain = f"{point.strength:g}", f"{point.gain:.3f}"
    return pilot.run, str(pilot.steps), strength, gain, retention, searches.values_text(pilot)
