"""Runs that go on from another run: which values they take over, and what is refused. No torch.

A run goes on with the same adapter, or the same full weights, and a new optimiser. Or it keeps a LoRA adapter
as it is and trains a new one beside it (``frozen_rank``): the sum of both is what merging the first into the
weights would give, without rounding them, and is saved as one adapter of both ranks. The base stays the first
one, so that retention is measured against the model that the first run began with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded, path_exists
from tui_lab.core.sanitize import sanitize
from tui_lab.models import catalog
from tui_lab.recipes.recipe import FIELDS, Recipe
from tui_lab.recipes.schema import Values
from tui_lab.runs import inputs
from tui_lab.runs.folder import Run, is_locked, open_run

#: Methods whose saved weights training can go on from. AdaLoRA's ranks are final after a run, and p-tuning
#: saves the prompt without the encoder that made it.
METHODS = ("lora", "loha", "ia3", "prefix", "prompt_tuning", "full")
#: Recipe fields that determine the shape of an adapter.
_SHAPE_FIELDS = ("lora_r", "lora_alpha", "use_rslora", "use_dora", "target_modules", "num_virtual_tokens")
#: Keys of peft's ``adapter_config.json``, which is right where a method converts its adapter (PiSSA, OLoRA).
_PEFT_KEYS = {"lora_r": "r", "lora_alpha": "lora_alpha", "use_rslora": "use_rslora", "use_dora": "use_dora"}
#: A longer line of runs is a circle, or a mistake.
MOST_STAGES = 100


class EarlierRun(NamedTuple):
    """A run that another goes on from. ``stage``: the place in the line of the run that goes on, from 2;
    ``recipe``: the run's own values; ``taken``: those that the other shares with it; ``taken_beside``: those
    with a new adapter beside the run's, a sentence where there can be none."""

    run: Run
    stage: int
    recipe: dict[str, object]
    taken: dict[str, object]
    taken_beside: dict[str, object] | str

    @property
    def values(self) -> dict[str, object]:
        """The recipe of a run that goes on with nothing else changed."""
        return {**self.recipe, **self.taken}

    def taken_by(self, values: Values) -> dict[str, object]:
        """What a recipe with these values shares with the run."""
        if values.get("frozen_rank") and not isinstance(self.taken_beside, str):
            return dict(self.taken_beside)
        return dict(self.taken)

    def contradiction(self, values: Values) -> str:
        """The sentence on the first value that the run's weights do not allow; "" if all fit them."""
        if values.get("frozen_rank") and isinstance(self.taken_beside, str):
            return self.taken_beside
        for key, value in self.taken_by(values).items():
            if not _fits(key, values.get(key), value):
                return contradiction(key, value, values.get(key))
        return ""


def earlier_run(name: str, directory: Path | None = None) -> EarlierRun:
    """The run ``name`` as one to go on from. Raises LabError where that is not possible."""
    taken = values_from(name, directory, {})
    run = Run(Path(str(taken["from_run"])))
    recipe = run.recipe()
    try:
        beside: dict[str, object] | str = {**_taken_over(run, recipe, beside=True), "from_run": str(run.path)}
    except LabError as error:
        beside = str(error)
    return EarlierRun(run, 2 + len(list(ancestors(run))), dict(recipe.model_dump()), taken, beside)


def contradiction(key: str, taken: object, wanted: object) -> str:
    """Why a value cannot be another one in a run that goes on from one that has ``taken``."""
    return f"{key} = {taken!r} comes from that run and cannot be {wanted!r}"


def values_from(
    name: str, directory: Path | None, overrides: Values, *, new_adapter: bool = False
) -> dict[str, object]:
    """``overrides`` with what a run that goes on from the run ``name`` takes over from it: model, method and
    the shape of the adapter, or with ``new_adapter`` only its layers. Raises LabError where the run cannot be
    gone on from, or where an override contradicts it."""
    run = open_run(name, directory)
    recipe = _recipe_of(run)
    if is_locked(run):
        raise LabError(
            f"run {run.id} is still in progress; start from it when it has ended, or stop it first"
        )
    beside = new_adapter or bool(overrides.get("frozen_rank"))
    taken = {**_taken_over(run, recipe, beside), "from_run": str(run.path)}
    for key, value in overrides.items():
        if key in taken and not _fits(key, value, taken[key]):
            raise LabError(
                f"--from {sanitize(run.id)}: {contradiction(key, taken[key], value)}; leave it out, or start "
                "from the base without --from"
            )
    return {**overrides, **taken}


def check(recipe: Recipe) -> Run | None:
    """The run that a recipe goes on from, None without one. Raises LabError where its weights are missing or
    have changed, or where the recipe no longer fits them."""
    if not recipe.from_run:
        return None
    run = Run(Path(recipe.from_run))
    if not path_exists(run.path):
        raise LabError(f"from_run: the run folder {sanitize(str(run.path))} does not exist")
    for key, value in _taken_over(run, _recipe_of(run), bool(recipe.frozen_rank)).items():
        mine = getattr(recipe, key)
        if not _fits(key, mine, value):
            raise LabError(f"from_run: run {sanitize(run.id)} has {key} = {value!r}, this recipe {mine!r}")
    assert run.saved_path is not None
    base = "" if recipe.method == "full" else catalog.find(recipe.model, allow_large=True).loadable
    changed = inputs.changed_beside(run.saved_path, base, recipe.revision)
    inputs.require_unchanged(changed, f"run {run.id}")
    return run


def ancestors(run: Run) -> Iterator[Run]:
    """The runs that a run goes on from, the nearest first; ends where a folder cannot be read."""
    seen = {run.path}
    for _ in range(MOST_STAGES):
        try:
            recipe = run.recipe()
        except LabError:
            return
        if not recipe.from_run:
            return
        run = Run(Path(recipe.from_run))
        if run.path in seen:
            return
        seen.add(run.path)
        yield run


def _recipe_of(run: Run) -> Recipe:
    recipe = run.recipe()
    if recipe.method not in METHODS:
        raise LabError(
            f"run {sanitize(run.id)} was trained with {recipe.method}, whose saved weights cannot be trained "
            f"further; possible are {', '.join(METHODS)}"
        )
    saved = run.saved_path
    if saved is None:
        raise LabError(
            f"run {sanitize(run.id)} has saved no weights; `tui-lab resume {sanitize(run.id)}` finishes it"
        )
    if (saved == run.model_path) != (recipe.method == "full"):
        raise LabError(f"run {sanitize(run.id)}: {saved.name} does not belong to method {recipe.method}")
    return recipe


def _taken_over(run: Run, recipe: Recipe, beside: bool) -> dict[str, object]:
    """The values of ``recipe`` that a run which goes on from it shares with it; ``beside``: with a new
    adapter beside the run's. Raises LabError."""
    taken: dict[str, object] = {key: getattr(recipe, key) for key in ("model", "revision", "method")}
    taken |= {"init_lora_weights": "default", "frozen_rank": 0}
    if beside:
        shape = _adapter_shape(run) if recipe.method == "lora" else {}
        if shape.get("use_dora", True):
            kind = "DoRA" if shape else recipe.method
            raise LabError(
                f"run {sanitize(run.id)} was trained with {kind}: a new adapter can be trained only beside "
                "one of plain LoRA; train the same weights further"
            )
        taken |= {"frozen_rank": shape["lora_r"], "target_modules": recipe.target_modules}
        # dropout would leave out inputs of the earlier adapter, too
        return taken | {"use_dora": False, "lora_dropout": 0.0}
    if recipe.method == "full":
        return taken
    taken |= {key: getattr(recipe, key) for key in _SHAPE_FIELDS}
    if recipe.method == "lora":
        taken |= _adapter_shape(run)
    return taken


def _adapter_shape(run: Run) -> dict[str, object]:
    """Rank and scale of a saved LoRA adapter as recipe values. Raises LabError."""
    path = run.adapter_path / "adapter_config.json"
    try:
        config = input_files.read_json(path)
    except (OSError, ValueError, LabError) as error:
        raise LabError(
            f"run {sanitize(run.id)}: {path.name} cannot be read ({sanitize(str(error))})"
        ) from None
    if not isinstance(config, dict) or config.get("rank_pattern") or config.get("alpha_pattern"):
        raise LabError(
            f"run {sanitize(run.id)}: its adapter has ranks by layer and cannot be trained further"
        )
    shape: dict[str, object] = {}
    for key, name in _PEFT_KEYS.items():
        value = config.get(name, FIELDS[key].default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        shape[key] = value
    return shape


def _fits(key: str, one: object, other: object) -> bool:
    """Whether two values of a field are equal, or name the same folder."""
    if one == other or key not in ("model", "from_run"):
        return one == other
    try:
        return expanded(Path(str(one))).resolve() == expanded(Path(str(other))).resolve()
    except (OSError, RuntimeError, ValueError, LabError):
        return False
