"""Deletes runs: one rename into ``.trash``, then the removal of the files. If the process is killed
meanwhile, the run is either complete or no longer listed."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.runs.folder import Run, RunLock

TRASH = ".trash"


def delete(run: Run) -> None:
    """Deletes a run. Raises LabError when it is in progress, does not exist, or its folder is read-only."""
    if not run.recipe_path.is_file():
        raise LabError(f"run {run.id}: it is not there any more")
    try:
        lock = RunLock.take(run)  # so that nobody resumes it meanwhile
    except LabError as error:
        if "running" in str(error):
            raise LabError(f"run {run.id} is in progress: stop it first, and delete it then") from None
        raise
    trash = run.path.parent / TRASH
    try:
        trash.mkdir(mode=0o700, exist_ok=True)
        run.path.rename(trash / f"{run.id}-{secrets.token_hex(2)}")
    except OSError as error:
        raise LabError(f"run {run.id}: it cannot be deleted ({error.strerror})") from None
    finally:
        lock.release()
    empty_trash(run.path.parent)


def empty_trash(directory: Path) -> None:
    """Removes everything in the trash, also the rest of an interrupted removal. Errors are ignored."""
    try:
        trashed = list((directory / TRASH).iterdir())
    except OSError:
        return
    for path in trashed:
        shutil.rmtree(path, ignore_errors=True)
