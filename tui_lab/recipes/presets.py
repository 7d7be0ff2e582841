"""Presets: recipes to start from, one TOML file each, every key commented with its trade-off.

Bundled presets are in ``presets/``, a user's own in the config folder; a user's file replaces a bundled one
of the same name. A preset with mistakes is still listed, with its mistakes. A table ``[pocket]`` has the
values that differ for the bundled model, which needs other rates and methods than larger models.
:func:`make_recipe` turns a preset and overrides into a validated recipe."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded, resource_dir, user_files
from tui_lab.recipes.recipe import (
    FIELDS,
    Recipe,
    RecipeError,
    RecipeProblem,
    build,
    check_values,
    read_toml,
    with_pins,
)

DEFAULT_PRESET = "minute"
#: Keys of a preset that describe it and are not recipe keys.
ABOUT_KEYS = ("title", "description", "card")
#: The bundled model, and the table of a preset with its values.
POCKET = "pocket"


@dataclass(frozen=True)
class Preset:
    """A named starting point. ``values`` holds only recipe keys, ``pocket`` those that differ for the bundled
    model; ``problems`` is empty when it is valid."""

    name: str
    path: Path
    title: str
    description: str
    card: str
    values: dict[str, object]
    own: bool
    problems: tuple[RecipeProblem, ...] = field(default=())
    pocket: dict[str, object] = field(default_factory=dict)

    def values_for(self, model: str) -> dict[str, object]:
        """The values for ``model``."""
        return {**self.values, **self.pocket} if model == POCKET else dict(self.values)

    def every_value(self, model: str) -> dict[str, object]:
        """The values for ``model`` over the defaults, with the name of the preset."""
        defaults = {key: info.default for key, info in FIELDS.items()}
        return {**defaults, **self.values_for(model), "preset": self.name}


def _read(path: Path, own: bool) -> Preset:
    values = read_toml(path, "preset")
    problems = [
        RecipeProblem(key, values[key], f"{key} = {values[key]!r}: must be text")
        for key in ABOUT_KEYS
        if key in values and not isinstance(values[key], str)
    ]
    about = {key: str(values.pop(key, "")) for key in ABOUT_KEYS}
    pocket = values.pop(POCKET, {})
    if not isinstance(pocket, dict):
        problems.append(
            RecipeProblem(POCKET, pocket, f"pocket = {pocket!r}: must be a table of keys, [pocket]")
        )
        pocket = {}
    # for other models first: they may need values that the bundled one does not, such as replay_data
    model = values.get("model", "" if pocket else POCKET)
    problems += check_values({**values, "model": model or "another", "preset": path.stem})
    if pocket:
        found = check_values({**values, "model": POCKET, **pocket, "preset": path.stem})
        problems += [problem for problem in found if problem not in problems]
    return Preset(
        path.stem,
        path,
        about["title"] or path.stem,
        about["description"],
        about["card"],
        values,
        own,
        tuple(problems),
        pocket,
    )


def preset_files() -> dict[str, tuple[Path, bool]]:
    """Name to (file, whether it is the user's own), by name; the user's files replace bundled ones."""
    found = {path.stem: (path, False) for path in sorted(resource_dir("presets").glob("*.toml"))}
    found |= {path.stem: (path, True) for path in user_files("presets")}
    return dict(sorted(found.items(), key=lambda item: (item[0] != DEFAULT_PRESET, item[0])))


def list_presets() -> tuple[list[Preset], list[str]]:
    """All presets that can be read (the default one first), and a sentence for each file that cannot."""
    presets, messages = [], []
    for path, own in preset_files().values():
        try:
            presets.append(_read(path, own))
        except LabError as error:
            messages.append(str(error))
    return presets, messages


def load_preset(name: str) -> Preset:
    """A preset by name or by the path of a TOML file. Raises LabError, RecipeError with all mistakes."""
    if name.endswith(".toml") or "/" in name:
        preset = _read(expanded(name), own=True)
    else:
        files = preset_files()
        if name not in files:
            near = difflib.get_close_matches(name, files, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(files)}"
            raise LabError(f"preset {name!r}: there is none of that name; {hint}")
        preset = _read(*files[name])
    if preset.problems:
        raise RecipeError(list(preset.problems), str(preset.path))
    return preset


def make_recipe(preset: str = DEFAULT_PRESET, **overrides: object) -> Recipe:
    """The recipe of a preset with ``overrides`` on top; epochs that are asked for replace the preset's
    ``max_steps``. Raises LabError, RecipeError with all mistakes."""
    loaded = load_preset(preset)
    model = str(overrides.get("model", loaded.values.get("model", FIELDS["model"].default)))
    values = {**loaded.values_for(model), "preset": loaded.name, **overrides}
    if "num_train_epochs" in overrides and "max_steps" not in overrides:
        values["max_steps"] = FIELDS["max_steps"].default
    return build(with_pins(values, overrides))


def replaced_max_steps(recipe: Recipe) -> int:
    """The ``max_steps`` of the recipe's preset where its epochs decide instead; 0 for none."""
    if recipe.max_steps or not recipe.preset:
        return 0
    try:
        steps = load_preset(recipe.preset).values_for(recipe.model).get("max_steps", 0)
    except LabError:  # the preset may be gone
        return 0
    return steps if isinstance(steps, int) else 0
