"""Resolves a name (a run, a folder, a catalog name or a hub id) to weights and an adapter. Imports no
torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize


@dataclass(frozen=True)
class ModelReference:
    """Weights to load and an adapter for them. ``location``: a folder or hub id of complete weights."""

    location: str
    adapter: Path | None = None
    revision: str = ""

    @property
    def name(self) -> str:
        """What a sentence calls it."""
        return f"adapter {self.adapter}" if self.adapter else f"model {self.location}"

    @property
    def saved(self) -> Path | None:
        """The folder where a run saved what this refers to, with its chat template and prompt settings."""
        if self.adapter is not None:
            return self.adapter
        return Path(self.location) if Path(self.location).is_dir() else None


def run_target(name: str, runs_dir: Path | None = None, allow_large: bool = False) -> ModelReference:
    """The result of a run: complete weights, or an adapter with its base model. Raises LabError."""
    from tui_lab.models import catalog
    from tui_lab.runs import folder

    path = expanded(Path(name))
    run = folder.Run(path.resolve()) if (path / "recipe.toml").is_file() else folder.open_run(name, runs_dir)
    if (run.model_path / "config.json").is_file():
        return ModelReference(str(run.model_path))
    if (run.adapter_path / "adapter_config.json").is_file():
        recipe = run.recipe()
        base = catalog.find(recipe.model, allow_large or recipe.allow_large)
        return ModelReference(base.loadable, run.adapter_path, recipe.revision)
    saved = sorted(run.checkpoints_path.glob("checkpoint-*"), key=lambda p: p.stat().st_mtime)
    hint = f"; its newest checkpoint is {saved[-1]}" if saved else ""
    raise LabError(f"run {run.id} has saved no adapter and no model yet{hint}")


def adapter_target(name: str, runs_dir: Path | None = None, allow_large: bool = False) -> ModelReference:
    """The model to compare with a base: a run, a folder (an adapter or complete weights) or a hub id. Raises
    LabError."""
    path = expanded(Path(name))
    if (path / "adapter_config.json").is_file():
        return ModelReference(_base_of(path), path.resolve())
    if (path / "config.json").is_file():
        return ModelReference(str(path.resolve()))
    try:
        return run_target(name, runs_dir, allow_large)
    except LabError:
        if path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise
    folder = _download(name)
    return ModelReference(_base_of(folder), folder)


def model_target(
    name: str,
    runs_dir: Path | None = None,
    allow_large: bool = False,
    adapters: Sequence[ModelReference] = (),
) -> ModelReference:
    """The base model of a name; without a name that of the first adapter, else the bundled one. A run's name
    gives the run's base and its adapter. Raises LabError."""
    from tui_lab.models import catalog

    if not name:
        first = next((a for a in adapters if a.adapter), None)
        if first is None or not first.location:
            return ModelReference(catalog.find("pocket").loadable)
        try:
            base = catalog.find(first.location, allow_large)
        except LabError as error:
            shown = sanitize(first.location[:200])
            raise LabError(f"the adapter was made for {shown}: {error}; --model names another base") from None
        return replace(first, location=base.loadable, adapter=None)
    if (expanded(Path(name)) / "recipe.toml").is_file():
        return run_target(name, runs_dir, allow_large)
    try:
        return ModelReference(catalog.find(name, allow_large).loadable)
    except LabError:
        try:
            return run_target(name, runs_dir, allow_large)
        except LabError as error:
            if "saved no adapter" in str(error):
                raise
        raise


def _base_of(folder: Path) -> str:

    try:
        config = input_files.read_json(folder / "adapter_config.json")
    except (OSError, ValueError):
        return ""  # loading the adapter reports the problem
    base = str(config.get("base_model_name_or_path") or "") if isinstance(config, dict) else ""
    if base.startswith("./") and (folder / base / "config.json").is_file():  # an export with its base
        return str((folder / base).resolve())
    return base


def _download(hub_id: str) -> Path:
    """Downloads the configuration and safetensors of an adapter from the hub."""
    from tui_lab.core import hub_errors
    from tui_lab.models import download

    try:
        return download.adapter_folder(hub_id)
    except LabError:
        raise
    except Exception as error:
        kind = hub_errors.classify(error)
        if kind is None and not isinstance(error, OSError | ValueError):
            raise
        why = f" ({download.advice(kind)})" if kind in ("gated", "unauthorized") else ""
        raise LabError(
            f"adapter {sanitize(hub_id)!r} is neither a run nor a local folder, and cannot be downloaded "
            f"from the hub{why}; `tui-lab runs` lists the runs"
        ) from None
