"""From the options of the command line to a checked and resolved recipe."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from tui_lab.core.errors import LabError
from tui_lab.core.format import and_more
from tui_lab.core.paths import expanded
from tui_lab.hardware.memory_budget import current
from tui_lab.models import catalog, download
from tui_lab.recipes import mixture
from tui_lab.recipes.presets import DEFAULT_PRESET, load_preset, make_recipe
from tui_lab.recipes.recipe import FIELDS, Recipe, RecipeError, parse_value
from tui_lab.recipes.resolve import Resolution, resolve
from tui_lab.runs import stages
from tui_lab.runs.queue import sweep
from tui_lab.runs.queue.sweep import SweepGrid, SweepValues


def overrides_of(args: argparse.Namespace) -> dict[str, object]:
    """The values that override the preset. Unknown keys are kept, so that validation reports all of them."""
    overrides = settings_of(args)
    for key in ("model", "data", "columns", "num_processes", "accelerate_config", "report_to"):
        if getattr(args, key, None) is not None:
            overrides[key] = getattr(args, key)
    if args.allow_large:
        overrides["allow_large"] = True
    new_adapter = getattr(args, "new_adapter", False)
    if getattr(args, "from_run", None):
        return stages.values_from(args.from_run, args.runs_dir, overrides, new_adapter=new_adapter)
    if new_adapter:
        raise LabError("--new-adapter needs --from RUN, the run whose adapter it is trained beside")
    return overrides


def settings_of(args: argparse.Namespace) -> dict[str, object]:
    """The values of ``--set``. Unknown keys are kept, so that validation reports all of them."""
    settings: dict[str, object] = {}
    for text in args.settings:
        key, equals, raw = text.partition("=")
        key, raw = key.strip(), raw.strip()
        if not equals or not key:
            raise LabError(f"--set {text}: write it as key=value, such as --set learning_rate=1e-4")
        settings[key] = parse_value(key, raw) if key in FIELDS else raw
    if getattr(args, "cpu", False):
        settings["device"] = "cpu"
    return settings


class PreparedRun(NamedTuple):
    """A checked recipe with its model and resolved values; ``values``: those of its sweep."""

    recipe: Recipe
    entry: catalog.Entry
    resolution: Resolution
    values: SweepValues


def prepare(args: argparse.Namespace) -> PreparedRun:
    """The run that the options describe. Raises LabError with all mistakes."""
    return prepare_all(args, {}, "started")[0]


def prepare_all(args: argparse.Namespace, grid: SweepGrid, action: str) -> list[PreparedRun]:
    """The run of every combination of a sweep. Raises LabError with the mistakes of all combinations, so that
    all of them are ``action`` (queued, started) or none."""
    preset, overrides = args.preset or DEFAULT_PRESET, overrides_of(args)
    defaults = load_preset(preset).values
    mistakes: dict[str, list[str]] = {}  # sentence -> the combinations with this mistake

    @cache  # many combinations have the same model and data
    def entry_of(model: str, large: bool) -> catalog.Entry | LabError:
        try:
            return catalog.find(model, allow_large=large)
        except LabError as error:
            return error

    budget_of = cache(current)  # of a recipe's device

    @cache
    def data_error(data: str, data_format: str, max_rows: int, columns: str, loss: str) -> LabError | None:
        from tui_lab.data import preflight

        return _error_of(lambda: preflight.check_rows(data, data_format, max_rows, columns, loss))

    @cache
    def suite_error(name: str) -> LabError | None:
        from tui_lab.retention.suites import registry

        return _error_of(lambda: registry.require(name))

    for key in grid.keys() & overrides.keys():
        mistakes[f"{key} is both set and swept: give it once"] = []
    made, combinations = [], sweep.combinations(grid)
    for values in combinations:
        problems: list[object] = []
        wanted, recipe = {**defaults, **overrides, **values}, None
        try:
            recipe = make_recipe(preset, **{**overrides, **values})
        except RecipeError as error:
            problems += [problem.message for problem in error.problems]
        model, data = (str(wanted.get(key, FIELDS[key].default)) for key in ("model", "data"))
        entry = entry_of(model, wanted.get("allow_large") is True)
        if isinstance(entry, LabError):
            problems.append(entry)
        elif recipe:
            try:
                device = budget_of(recipe.device).check().device
                stages.check(recipe)
                made.append(PreparedRun(recipe, entry, resolve(recipe, device, entry), values))
            except LabError as error:
                problems.append(error)
        of_data = ("auto", 0, "", "none")
        if recipe:
            of_data = (recipe.data_format, recipe.max_rows, recipe.columns, recipe.preference_loss)
        if not mixture.problem_of(data) and (unreadable := data_error(data, *of_data)):
            problems.append(unreadable)
        if recipe and recipe.chat_template and not expanded(recipe.chat_template).is_file():
            problems.append(f"chat_template = {recipe.chat_template!r}: the file does not exist")
        if recipe and recipe.probe_share and (unknown := suite_error(recipe.probe_suite)):
            problems.append(f"probe_suite: {unknown}")
        for problem in problems:
            mistakes.setdefault(str(problem), []).append(sweep.describe(values))
    if mistakes:
        raise LabError(_mistakes(mistakes, len(combinations), action))
    return made


def _error_of(check: Callable[[], object]) -> LabError | None:
    try:
        check()
    except LabError as error:
        return error
    return None


def check_downloads(prepared: Sequence[PreparedRun]) -> list[str]:
    """What the runs will download, one sentence for each model that is not on this machine. Raises LabError
    where the hub refuses a model or a data set, or cannot be reached."""
    from tui_lab.data import preflight

    preflight.check_data(name for each in prepared for name in preflight.data_of(each.recipe))
    models = dict.fromkeys((each.entry.loadable, each.recipe.revision) for each in prepared)
    plans = [download.preflight(location, revision) for location, revision in models]
    return [plan.text for plan in plans if plan is not None]


def _mistakes(found: dict[str, list[str]], many: int, action: str) -> str:
    """All mistakes in one text, each with its combinations where those are not all."""
    lines = []
    for text, combinations in found.items():
        if combinations and len(combinations) < many:
            more = and_more(len(combinations) - 2)
            text = f"{text} (with {'; '.join(combinations[:2])}{more})"
        lines.append(text)
    if len(lines) == 1:
        return lines[0]
    return f"{len(lines)} mistakes, nothing was {action}\n  - " + "\n  - ".join(lines)
