"""From the options of the command line to a checked and resolved recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.hardware.memory_budget import current
from tui_lab.models import catalog
from tui_lab.recipes.presets import DEFAULT_PRESET, load_preset, make_recipe
from tui_lab.recipes.recipe import FIELDS, Recipe, RecipeError, parse_value
from tui_lab.recipes.resolve import Resolution, resolve

#: Larger data files are left to the run to read; smaller ones are read before anything is made.
READ_FIRST_BYTES = 64 << 20


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
            resolution = resolve(recipe, current().device, entry)
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
