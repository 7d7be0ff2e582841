"""What an evaluation is asked to measure: the request as JSON brings it, checked field by field, and what its
names mean: a base, what was made of it, how both are loaded, and the run that they belong to. No torch
before it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation import score_cache
from tui_lab.evaluation.score_cache import LoadConfig
from tui_lab.retention.verdict import THRESHOLD
from tui_lab.runs import folder
from tui_lab.runs.folder import Run
from tui_lab.runs.references import Target, adapter_target, model_target


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be measured. ``run`` is a run's name; without one, ``model`` and perhaps ``adapter``."""

    suites: tuple[str, ...]
    run: str = ""
    model: str = ""
    revision: str = ""
    adapter: str = ""
    limit: int = 0
    dtype: str = "auto"
    quantization: str = "auto"
    threshold: float = 0.0  # 0: the run's own, else 0.9
    acquisition: bool = True
    allow_large: bool = False
    runs_dir: str = ""


def request_of(value: Mapping[str, Any]) -> EvaluationRequest:
    """The request that a JSON object means. Raises LabError for what it cannot mean."""
    known = {each.name: each for each in fields(EvaluationRequest)}
    for name in value:
        if name not in known:
            raise LabError(f"an evaluation knows no {sanitize(str(name))!r}; it knows {', '.join(known)}")
    kinds: dict[str, tuple[type, ...]] = {
        "limit": (int,), "threshold": (int, float), "acquisition": (bool,), "allow_large": (bool,),
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, given in value.items():
        if name == "suites":
            if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
                raise LabError("suites is a list of names")
            found[name] = tuple(dict.fromkeys(given))
        elif isinstance(given, kinds.get(name, (str,))):
            found[name] = given
        else:
            raise LabError(f"{name} is no {type(given).__name__}")
    request = EvaluationRequest(**{"suites": (), **found})
    if not request.suites:
        raise LabError("no suite was named; `tui-lab retention --list` shows what there is")
    if request.limit < 0:
        raise LabError(f"limit is 0 (all items) or more, not {request.limit}")
    if request.dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise LabError(f"dtype is auto, float32, bfloat16 or float16, not {sanitize(request.dtype)!r}")
    if request.quantization not in ("auto", "none", "nf4"):
        raise LabError(f"quantization is auto, none or nf4, not {sanitize(request.quantization)!r}")
    return request


@dataclass
class EvaluationTarget:
    """What is measured: a base, and what was made of it."""

    base: Target
    label: str
    tuned: Target | None = None
    name: str = ""  # of what was tuned
    run: Run | None = None
    how: LoadConfig = field(default_factory=LoadConfig)
    threshold: float = THRESHOLD

    @property
    def base_identity(self) -> str:
        return score_cache.identity(self.base.location, self.base.revision)

    @property
    def tuned_identity(self) -> str:
        assert self.tuned is not None
        target = self.tuned
        if target.adapter is None:
            return score_cache.identity(target.location, target.revision)
        return score_cache.identity(self.base.location, self.base.revision, target.adapter)


def resolve_target(request: EvaluationRequest) -> EvaluationTarget:
    """What the request's names mean. Raises LabError."""
    from tui_lab.models import catalog

    runs_dir = Path(request.runs_dir) if request.runs_dir else None
    name = request.run or request.adapter
    tuned = adapter_target(name, runs_dir, request.allow_large) if name else None
    run = _run_of(name, runs_dir)
    if request.run and run is None:
        raise LabError(f"{sanitize(request.run)} is no run; `tui-lab runs` lists them")
    if run is None and not name and request.model:
        found = model_target(request.model, runs_dir, request.allow_large)
        if found.adapter is not None or _run_of(request.model, runs_dir) is not None:
            return resolve_target(replace(request, model="", run=request.model))  # a run as the model
    quantization = "none" if request.quantization == "auto" else request.quantization
    threshold = request.threshold or THRESHOLD
    base: Target | None = None
    label = request.model
    if run is not None:
        recipe = run.recipe()
        entry = catalog.find(recipe.model, request.allow_large or recipe.allow_large)
        own = Target(entry.loadable, revision=request.revision or recipe.revision)
        asked = model_target(request.model, runs_dir, request.allow_large) if request.model else own
        if asked.location == own.location:
            base, label = own, recipe.model
            threshold = request.threshold or recipe.retention_threshold
            if request.quantization == "auto":
                quantization = recipe.quantization
        else:
            run = None  # on another base it is an adapter like any other: nothing is kept in the run
    if base is None:
        found = model_target(
            request.model, runs_dir, request.allow_large, [tuned] if tuned is not None else []
        )
        base = Target(found.location, revision=request.revision or found.revision)
        label = label or ("pocket" if tuned is None else base.location)
    return EvaluationTarget(
        base=base,
        label=label,
        tuned=tuned,
        name=run.id if run is not None else name,
        run=run,
        how=_how(quantization, request.dtype),
        threshold=threshold,
    )


def _run_of(name: str, runs_dir: Path | None) -> Run | None:
    """The run that a name means; None for whatever else it means."""
    if not name:
        return None
    path = Path(name).expanduser()
    if (path / "recipe.toml").is_file():
        return Run(path.resolve())
    if (path / "adapter_config.json").is_file() or (path / "config.json").is_file():
        return None
    try:
        return folder.open_run(name, runs_dir)
    except LabError:
        return None


def _how(quantization: str, dtype: str) -> LoadConfig:
    from tui_lab.models.loading import best_device, best_dtype

    device = best_device()
    return LoadConfig(quantization, best_dtype(device) if dtype == "auto" else dtype, device)
