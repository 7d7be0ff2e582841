"""Resolves what an evaluation request names: the base, what was made of it, how both are loaded, and the run
that they belong to. Imports torch only for the defaults of the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.evaluation.score_cache import LoadConfig
from tui_lab.models import digests, dynamic_4bit
from tui_lab.retention.verdict import THRESHOLD
from tui_lab.runs import folder, inputs
from tui_lab.runs.folder import Run
from tui_lab.runs.references import ModelReference, adapter_target, model_target


@dataclass
class EvaluationTarget:
    """What is measured: a base, and what was made of it."""

    base: ModelReference
    label: str  # of the base
    tuned: ModelReference | None = None
    name: str = ""  # of what was tuned
    run: Run | None = None  # the run that keeps the results
    how: LoadConfig = field(default_factory=LoadConfig)
    threshold: float = THRESHOLD

    @property
    def base_identity(self) -> str:
        """The base's weights, for the score cache."""
        return digests.identity(self.base.location, self.base.revision)

    @property
    def tuned_identity(self) -> str:
        """The tuned weights, for the score cache."""
        assert self.tuned is not None
        if self.tuned.adapter is None:
            return digests.identity(self.tuned.location, self.tuned.revision)
        return digests.identity(self.base.location, self.base.revision, self.tuned.adapter)


def resolve_target(
    request: EvaluationRequest, on_progress: job_protocol.OnProgress = lambda *_: None
) -> EvaluationTarget:
    """What the names of a request mean; an adapter of the hub is downloaded. Raises LabError."""
    from tui_lab.models import catalog, download

    runs_dir = Path(request.runs_dir) if request.runs_dir else None
    name = request.run or request.adapter
    with download.reporting(lambda progress: on_progress(progress.text)):
        tuned = adapter_target(name, runs_dir, request.allow_large) if name else None
    run = _run_of(name, runs_dir)
    if request.run and run is None:
        raise LabError(f"{sanitize(request.run)} is not a run; `tui-lab runs` lists them")
    if run is None and not name and request.model:
        model = model_target(request.model, runs_dir, request.allow_large)
        named = _run_of(request.model, runs_dir)
        if named is not None and (model.adapter or model.location == str(named.model_path)):
            # a run was given as the model, not a model whose name is part of a run's
            return resolve_target(msgspec.structs.replace(request, model="", run=request.model))
    quantization = "none" if request.quantization == "auto" else request.quantization
    threshold = request.threshold or THRESHOLD
    base: ModelReference | None = None
    label = request.model
    if run is not None:
        recipe = run.recipe()
        entry = catalog.find(recipe.model, request.allow_large or recipe.allow_large)
        trained_on = ModelReference(entry.loadable, revision=request.revision or recipe.revision)
        requested = trained_on
        if request.model:
            requested = model_target(request.model, runs_dir, request.allow_large)
        if requested.location == trained_on.location:
            base, label = trained_on, recipe.model
            threshold = request.threshold or recipe.retention_threshold
            if request.quantization == "auto":
                quantization = recipe.quantization
        else:
            run = None  # on another base the run's results do not apply, so nothing is kept in the run
    if base is None:
        others = [tuned] if tuned is not None else []
        model = model_target(request.model, runs_dir, request.allow_large, others)
        base = ModelReference(model.location, revision=request.revision or model.revision)
        label = label or ("pocket" if tuned is None else base.location)
    return EvaluationTarget(
        base=base,
        label=label,
        tuned=tuned,
        name=run.id if run is not None else name,
        run=run,
        how=_load_config(quantization, request.dtype, base, run),
        threshold=threshold,
    )


def accepted_changes(target: EvaluationTarget, data: bool = True) -> list[str]:
    """What has changed since the tuned weights were saved, the run's data included or not. Raises LabError
    unless that was accepted."""
    tuned, base = target.tuned, target.base
    if tuned is None:
        return []
    if target.run is not None:
        found = inputs.changed_of_run(target.run, target.run.recipe(), base.location, data)
    else:
        found = inputs.changed_of_reference(tuned, base.location, base.revision)
    return inputs.require_unchanged(found, sanitize(target.name))


def _run_of(name: str, runs_dir: Path | None) -> Run | None:
    """The run of a name; None if it names something else."""
    if not name:
        return None
    path = expanded(name)
    if (path / "recipe.toml").is_file():
        return Run(path.resolve())
    if (path / "adapter_config.json").is_file() or (path / "config.json").is_file():
        return None
    try:
        return folder.open_run(name, runs_dir)
    except LabError:
        return None


def _load_config(quantization: str, dtype: str, base: ModelReference, run: Run | None) -> LoadConfig:
    from tui_lab.hardware.cuda_support import torch_device
    from tui_lab.models.loading import ModelSource, auto_dtype, has_quantized

    device = torch_device()
    if dtype == "auto":
        dtype = auto_dtype(ModelSource(base.location, base.revision), device)
    quantization = quantization if has_quantized(device) else "none"
    names = dynamic_4bit.names_of(run.path) if run is not None and quantization == "nf4" else ()
    return LoadConfig(quantization, dtype, device, names)
