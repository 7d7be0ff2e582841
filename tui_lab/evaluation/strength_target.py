"""What a run saved, at a strength: the checks whether its strength can be changed, the loaded model whose
strength is set, and saving at a strength. Used by the sweep and by exports."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import atomic_folder
from tui_lab.data.rows import Model, Tokenizer
from tui_lab.evaluation import prompts, score_cache
from tui_lab.models import catalog, digests, dynamic_4bit
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention import strength_grid
from tui_lab.runs import folder, inputs

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class SweepTarget:
    """What a run saved, and its base."""

    run: folder.Run
    recipe: Recipe
    path: Path  # the folder of the adapter or of the tuned model
    base: str  # a folder or hub id
    is_full_model: bool  # instead of an adapter

    @classmethod
    def of(cls, run: folder.Run) -> SweepTarget:
        """The target of a run. Raises LabError with the reason if its strength cannot be changed."""
        if folder.is_locked(run):
            raise LabError(f"run {run.id} still runs: its strength can be swept when it has ended")
        recipe = run.recipe()
        base = catalog.find(recipe.model, recipe.allow_large).loadable
        if (run.adapter_path / _CONFIG).is_file():
            if reason := _refusal(run.adapter_path, recipe):
                raise LabError(f"run {run.id}: the strength of its adapter cannot be changed: {reason}")
            return cls(run, recipe, run.adapter_path, base, False)
        if (run.model_path / "config.json").is_file():
            return cls(run, recipe, run.model_path, base, True)
        raise LabError(f"run {run.id} has saved no adapter and no model yet; let it finish or resume it")

    @property
    def quantization(self) -> str:
        """How the base is stored, as in the run."""
        return "none" if self.is_full_model else self.recipe.quantization

    def identity(self, strength: float) -> str:
        """The weights at a strength, for the score cache. Strength 0 is the base."""
        revision = self.recipe.revision
        base = digests.identity(self.base, revision)
        if not strength:
            return base
        if self.is_full_model:
            tuned = digests.identity(str(self.path))
        else:
            tuned = digests.identity(self.base, revision, self.path)
        return f"{base} to {tuned} at {strength:.6f}"

    def folder_name(self, strength: float) -> str:
        """The folder of what is saved at a strength."""
        digits = f"{strength:.2f}"
        number = digits if float(digits) == strength else f"{strength:g}"
        return f"{'model' if self.is_full_model else 'adapter'}-strength-{number}"

    def saved_dtype(self) -> str:
        """The precision of a saved model; "auto" if its configuration has none."""
        from tui_lab.models.loading import DTYPES

        try:
            config = input_files.read_json(self.path / "config.json")
            found = str(config.get("dtype") or config.get("torch_dtype"))
        except (OSError, ValueError, AttributeError):
            return "auto"
        return found if found in DTYPES else "auto"


def _refusal(adapter: Path, recipe: Recipe) -> str:
    """Why the strength of a run's adapter cannot be changed; "" if it can."""
    try:
        config = input_files.read_json(adapter / _CONFIG)
    except (OSError, ValueError):
        return f"its {_CONFIG} cannot be read"
    if not (adapter / _WEIGHTS).is_file():
        return f"it has no {_WEIGHTS}, and only safetensors are read"
    initialisation = recipe.init_lora_weights if recipe.method == "lora" else None
    return strength_grid.strength_refusal(config if isinstance(config, dict) else {}, initialisation)


class LoadedTarget:
    """The tuned model of a run; ``scale`` sets its strength."""

    def __init__(self, target: SweepTarget, dtype: str = "auto") -> None:
        from tui_lab.decoding.adapters import load_peft_model
        from tui_lab.hardware.cuda_support import torch_device
        from tui_lab.models.loading import ModelSource, Precision, load_model, quiet_libraries
        from tui_lab.retention.strength import AdapterScale

        self.model: Model  # a transformers or peft model
        revision = target.recipe.revision
        with quiet_libraries():
            large = target.recipe.allow_large
            unquantized = dynamic_4bit.names_of(target.run.path)
            base = load_model(
                ModelSource(target.base, revision),
                Precision(
                    dtype,
                    quantization=target.quantization,
                    unquantized=target.is_full_model,
                    unquantized_modules=unquantized,
                ),
                allow_large=large,
            )
            if target.is_full_model:
                self.model = load_model(ModelSource(str(target.path)), Precision(dtype), allow_large=large)
                self.scale = AdapterScale(self.model, dict(base.named_parameters()))
            else:
                self.model = load_peft_model(base, target.path, target.run.id)
                self.scale = AdapterScale(self.model)
            # the tokenizer of the base, as in evaluations: the same items must be the same tokens
            self.tokenizer: Tokenizer = prompts.measuring_tokenizer(target.base, revision, target.path)
        base_dtype = str(base.dtype).removeprefix("torch.")
        self.how = score_cache.LoadConfig(target.quantization, base_dtype, torch_device(), unquantized)


def save(target: SweepTarget, strength: float) -> str:
    """Saves what the run left at a strength, completely or not at all; returns the folder's name in the run's
    folder. Raises LabError."""
    name = target.folder_name(strength_grid.check_strength(strength))
    try:
        with atomic_folder(target.run.path / name) as partial:
            write(target, strength, partial)
    except OSError as error:
        what = error.strerror or error
        raise LabError(f"{name} cannot be saved in run {target.run.id}: {what}") from None
    return name


def write(target: SweepTarget, strength: float, directory: Path) -> None:
    """Writes the weights at a strength, and the other files unchanged. Raises LabError and OSError."""
    from safetensors.torch import load_file, save_file

    from tui_lab.retention.strength import scale_adapter

    if target.is_full_model:
        loaded = LoadedTarget(target, target.saved_dtype())
        loaded.scale.set(strength)
        loaded.model.save_pretrained(directory)
    for file in target.path.iterdir():
        is_weights = file.suffix == ".safetensors" or file.name.endswith(".index.json")
        copied = not is_weights and file.name != inputs.CARD_FILE
        if file.is_file() and copied and not (directory / file.name).exists():
            shutil.copyfile(file, directory / file.name)
    if not target.is_full_model:
        tensors = scale_adapter(load_file(target.path / _WEIGHTS), strength)
        save_file(tensors, directory / _WEIGHTS, metadata={"format": "pt"})
    inputs.copy_card(target.path, directory)
