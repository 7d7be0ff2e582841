"""``tui-lab search``: the recipe with the most gain that keeps a promise about retention, within a budget."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from msgspec.structs import asdict

from tui_lab.cli.output import Progress, as_json, print_text, table
from tui_lab.cli.recipe_args import overrides_of
from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.format import duration, plural
from tui_lab.core.records import from_json
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation import search_plan as plan
from tui_lab.evaluation.search import RESULT, Search, SearchSettings
from tui_lab.evaluation.search_plan import Choice, SearchResult
from tui_lab.evaluation.search_runs import SearchRuns
from tui_lab.forecast import cost
from tui_lab.models import catalog
from tui_lab.recipes.presets import DEFAULT_PRESET, make_recipe
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder

FOLDER = ".searches"


class SearchAnswer(SearchResult, tag_field="kind", tag="search", kw_only=True, frozen=True):
    """The pilots, the front, the chosen recipe and whether fresh seeds confirmed it."""


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code: 0 where the promise is kept and confirmed. Raises LabError."""
    directory = folder.runs_folder(args.runs_dir)
    if args.show:
        return _print(args, _read(directory, args.show))
    keep = plan.check_keep(args.keep)
    budget_s = plan.parse_budget(args.budget, cost.prices())
    if args.steps is not None and args.steps < 1:
        raise LabError(f"--steps must be at least 1, not {args.steps}")
    preset, overrides = args.preset or DEFAULT_PRESET, overrides_of(args)
    base = make_recipe(preset, **overrides)
    if base.method not in ("lora", "loha"):
        raise LabError(f"search varies LoRA, and the method is {base.method}: --set method=lora")
    catalog.find(base.model, allow_large=base.allow_large)  # an unknown model is refused here
    search = args.resume or f"search-{time.strftime('%Y%m%d-%H%M%S')}"
    progress = Progress()

    def recipe(changes: dict[str, object]) -> Recipe:
        return make_recipe(preset, **{**overrides, **_with_alpha(changes, base)})

    runs = SearchRuns(search, recipe, args.suite, args.items, keep, directory, progress.on_progress)
    settings = SearchSettings(
        search=search,
        model=base.model,
        data=base.data,
        keep=keep,
        budget_s=budget_s,
        suite=args.suite,
        steps=args.steps or max(10, (base.max_steps or 60) // 3),
        learning_rate=float(base.learning_rate),
        seed=args.seed,
    )
    try:
        found = Search(settings, directory / FOLDER / search, runs, progress.on_progress).run()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; --resume {search} goes on") from None
    finally:
        progress.close()
    return _print(args, found)


def _with_alpha(changes: dict[str, object], base: Recipe) -> dict[str, object]:
    """The changes with lora_alpha at the ratio of the preset, so that a rank is not also another rate."""
    rank = changes.get("lora_r")
    if not isinstance(rank, int):
        return changes
    return {**changes, "lora_alpha": max(1, round(rank * base.lora_alpha / base.lora_r))}


def _read(directory: Path, name: str) -> SearchResult:
    """A stored search by its name or a part of it; "latest" is the newest. Raises LabError."""
    every = sorted(path.parent for path in (directory / FOLDER).glob(f"*/{RESULT}"))
    found = every[-1:] if name == "latest" else [path for path in every if name in path.name]
    if len(found) != 1:
        known = ", ".join(path.name for path in every[-5:]) or "none yet"
        which = "there are several searches" if found else "there is no search"
        raise LabError(f"{which} with {sanitize(name)} in its name; the newest: {known}")
    return from_json(input_files.read_bytes(found[0] / RESULT), SearchResult, RESULT)


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
        print_text(f"{found.sentence} {plural(len(found.pilots), 'pilot')} in {duration(found.spent_s)}.")
        if found.chosen is not None and found.chosen.kept:
            chosen = found.chosen
            print_text(
                f"`tui-lab strength {chosen.pilot.run} --save {chosen.point.strength:g}` saves its adapter "
                "at this strength."
            )
    return 0 if found.confirmed else 1


def _row(choice: Choice) -> tuple[str, ...]:
    pilot, point = choice.pilot, choice.point
    low, high = point.retention.low, point.retention.high
    values = " ".join(
        f"{key}={value:.2g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in pilot.values.items()
    )
    retention = f"{point.retention.value:.2f} ({low:.2f} to {high:.2f})"
    return pilot.run, str(pilot.steps), f"{point.strength:g}", f"{point.gain:.3f}", retention, values
