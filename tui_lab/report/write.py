"""Writes the report of a run as Markdown, as one HTML page, or both, atomically, into the run's folder or
another. A run writes its own report at its end unless its log is long; a report that cannot be written
never fails a run."""

from __future__ import annotations

from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.paths import absolute
from tui_lab.models import catalog
from tui_lab.report.content import ReportContent, read
from tui_lab.report.document import document
from tui_lab.report.render import html, markdown
from tui_lab.runs import inputs
from tui_lab.runs.folder import Run

MARKDOWN, HTML = "report.md", "report.html"
#: The files of each format.
FORMATS = {"md": (MARKDOWN,), "html": (HTML,), "both": (MARKDOWN, HTML)}
#: A log up to this size is read in well under a second.
MAX_LOG_BYTES_AT_END = 4 << 20


def write(
    run: Run, out: Path | None = None, format: str = "both", report: ReportContent | None = None
) -> list[Path]:
    """Writes the report as of now; returns the files. Raises LabError if the folder cannot be written."""
    folder = run.path if out is None else absolute(out)
    made = document(report or read(run))
    texts = {MARKDOWN: markdown, HTML: html}
    paths = []
    try:
        if out is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in FORMATS[format]:
            write_atomically(folder / name, texts[name](made))
            paths.append(folder / name)
    except OSError as error:
        why = error.strerror or error
        raise LabError(
            f"the report of run {run.id} cannot be written to {folder}: {why}; name a place with --out"
        ) from None
    return paths


def require_unchanged(run: Run) -> list[str]:
    """What has changed since a run saved its weights, where that is accepted. Raises ChangedInputs where not;
    a base that is not here any more is not compared."""
    recipe = run.recipe()
    try:
        base = catalog.find(recipe.model, allow_large=True).loadable
    except LabError:
        base = ""
    changed = inputs.changed_of_run(run, recipe, base, data=False)
    return inputs.require_unchanged(changed, f"run {run.id}")


def write_at_end(run: Run) -> str:
    """Called by the run's process after its last event. Returns what went wrong, or ""; never raises."""
    try:
        size = run.events_path.stat().st_size
        if size > MAX_LOG_BYTES_AT_END:
            return f"no report was written: the log is long; `tui-lab report {run.id}` writes one"
        write(run)
    except Exception as error:  # noqa: BLE001 (the run itself has ended)
        return f"no report was written: {error}; `tui-lab report {run.id}` tries again"
    return ""
