"""From the options of the command line to a checked and resolved recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.hardware.memory_budget import current
from tui_lab.models import catalog
from tui_lab.recipes.presets import DEFAULT_PRESET, load_preset, make_recipe
from tui_lab.recipes.recipe import FIELDS, Recipe, RecipeError, parse_value
from tui_lab.recipes.resolve import Resolution, resolve

#: Smaller data files are checked before the run is created; larger ones only by the run.
CHECKED_DATA_BYTES = 64 << 20


def overrides_of(args: argparse.Namespace) -> dict[str, object]:
    """The values that override the preset. Unknown keys are kept, so that validation reports all of them."""
    overrides = settings_of(args)
    for key in ("model", "data", "num_processes", "accelerate_config", "report_to"):
        if getattr(args, key, None) is not None:
            overrides[key] = getattr(args, key)
    if args.allow_large:
        overrides["allow_large"] = True
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
    return settings


def prepare(args: argparse.Namespace) -> tuple[Recipe, catalog.Entry, Resolution]:
    """The recipe, its model and the resolved values. Raises LabError with all mistakes."""
    preset = args.preset or DEFAULT_PRESET
    values = {**load_preset(preset).values, **(overrides := overrides_of(args))}
    problems: list[str] = []
    recipe = entry = resolution = None
    try:
        recipe = make_recipe(preset, **overrides)
    except RecipeError as error:
        problems += [problem.message for problem in error.problems]
    try:
        large = values.get("allow_large") is True
        entry = catalog.find(str(values.get("model", FIELDS["model"].default)), allow_large=large)
    except LabError as error:
        problems.append(str(error))
    if recipe and entry:
        try:
            resolution = resolve(recipe, current().device, entry)
        except LabError as error:
            problems.append(str(error))
    try:
        check_data(
            str(values.get("data", FIELDS["data"].default)),
            recipe.data_format if recipe else "auto",
            recipe.max_rows if recipe else 0,
        )
    except LabError as error:
        problems.append(str(error))
    if recipe and recipe.chat_template and not Path(recipe.chat_template).expanduser().is_file():
        problems.append(f"chat_template = {recipe.chat_template!r}: the file does not exist")
    if problems or recipe is None or entry is None or resolution is None:
        many = f"{len(problems)} mistakes, nothing was started\n  - "
        raise LabError(problems[0] if len(problems) == 1 else many + "\n  - ".join(problems))
    return recipe, entry, resolution


def check_data(data: str, data_format: str, max_rows: int) -> None:
    """Reads small local data completely, so that a damaged row is reported before a run is created. Large
    data and formats of the datasets library are checked by the run. Raises LabError."""
    from tui_lab.data import bundled, files, formats

    path = Path(data).expanduser()
    if data in bundled.NAMES:
        return
    if path.is_file():
        if path.suffix.lower() != ".parquet" and path.stat().st_size <= CHECKED_DATA_BYTES:
            formats.read(data, data_format, max_rows)
    elif not path.is_dir() and not files.HUB_NAME.match(data):
        formats.read(data, data_format, max_rows)  # raises LabError with the closest name
