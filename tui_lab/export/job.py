"""The export job: makes an export of a run's weights in a staging folder, checks it, and renames it into
place. ``export.json`` in the export lists the checks with their figures. Speaks the job protocol on stdin
and stdout."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from tui_lab.core import files, job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.job_protocol import OnProgress
from tui_lab.core.paths import absolute
from tui_lab.core.sanitize import sanitize
from tui_lab.core.versions import versions_of
from tui_lab.export import gguf, records, staging, weights
from tui_lab.export.card import write_card
from tui_lab.export.kinds import EXPORTERS, ExportOutcome, ExportTask
from tui_lab.export.records import ExportBase, ExportRequest, ExportResult
from tui_lab.export.source import SavedRun
from tui_lab.hardware import memory_budget
from tui_lab.runs import folder, inputs

_EXPORTERS = {**EXPORTERS, "gguf": gguf.export_gguf}
LIBRARIES = ("torch", "transformers", "peft", "safetensors")


def handle(request: ExportRequest, on_progress: OnProgress) -> ExportResult:
    """Carries one request out. Raises LabError."""
    records.check_request(request)
    memory_budget.take_gpu()
    run = folder.open_run(request.run, Path(request.runs_dir) if request.runs_dir else None)
    source = SavedRun.open(run)
    changed = inputs.changed_of_run(run, source.recipe, source.base)
    inputs.require_unchanged(changed, f"run {run.id}")
    target = _target(run, request)
    try:
        with staging.partial_folder(target, request.force) as partial:
            with _at_strength(source, request.strength, partial) as scaled:
                result = _make(request, scaled, partial, on_progress, changed)
            staging.publish(partial, target)
    except Exception as error:
        if sentence := staging.disk_error(error, target):
            raise LabError(sentence) from None
        raise
    return msgspec.structs.replace(result, path=str(target))


def _target(run: folder.Run, request: ExportRequest) -> Path:
    if request.out:
        return absolute(Path(request.out))
    return run.path / records.EXPORTS_FOLDER / request.folder_name


@contextlib.contextmanager
def _at_strength(source: SavedRun, strength: float, partial: Path) -> Iterator[SavedRun]:
    """The saved run at a strength: a temporary scaled copy unless it is 1. Raises LabError."""
    if strength == 1:
        yield source
        return
    from tui_lab.evaluation import strength_target

    target = strength_target.SweepTarget.of(source.run)  # raises LabError for methods that cannot be scaled
    with tempfile.TemporaryDirectory(dir=partial, prefix=".strength-") as place:
        strength_target.write(target, strength, Path(place))
        yield replace(source, path=Path(place))


def _make(
    request: ExportRequest,
    source: SavedRun,
    target: Path,
    on_progress: OnProgress,
    changed: list[str],
) -> ExportResult:
    """Fills the folder with weights, README.md and, last, ``export.json``. ``changed``: accepted changes of
    what the run read, which are noted."""
    from tui_lab.models.load_progress import report_load_progress
    from tui_lab.models.loading import quiet_libraries

    if request.kind != "adapter":
        weights.check_mergeable(source, request.kind)
    base = ("", "") if source.is_full_model else (source.base, source.recipe.revision)
    with quiet_libraries(), report_load_progress(on_progress, sanitize(source.base_name), *base):
        on_progress("reading the run")
        task = ExportTask(request, source, target, source.tokenizer(), on_progress)
        outcome = _EXPORTERS[request.kind](task)
        outcome.notes += changed
    if request.kind != "gguf":
        write_card(target, source, request, outcome.commit, outcome.notes, outcome.checks)
    result = _result(request, source, target, outcome)
    content = msgspec.json.format(msgspec.json.encode(result), indent=2)
    files.write_atomically(target / records.RESULT_FILE, content.decode() + "\n")
    return result


def _result(request: ExportRequest, source: SavedRun, target: Path, outcome: ExportOutcome) -> ExportResult:
    return ExportResult(
        kind_of_export=request.kind,
        title=_title(request, source.run.id),
        run=source.run.id,
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        dtype=None if request.kind == "adapter" else request.dtype,
        strength=request.strength,
        base=ExportBase(source.base_name, not source.base_is_folder, source.recipe.revision, outcome.commit),
        method=source.recipe.method,
        checks=outcome.checks,
        figures=outcome.figures,
        notes=outcome.notes,
        use=outcome.use,
        versions=versions_of(LIBRARIES),
        files=staging.list_files(target),
    )


def _title(request: ExportRequest, run_id: str) -> str:
    names = {
        "adapter": "adapter",
        "merged": f"merged model ({request.dtype})",
        "modelfile": f"Modelfile and model ({request.dtype})",
        "gguf": f"GGUF {request.gguf_type}".strip(),
    }
    strength = f" at strength {request.strength:g}" if request.strength != 1 else ""
    return f"{names[request.kind]} of {run_id}{strength}"


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle, ExportRequest))
