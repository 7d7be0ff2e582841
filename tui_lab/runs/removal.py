"""Deletes runs. A run goes by one rename into ``.trash`` beside the others, and only then piece by piece: a
kill at any instant leaves it either whole or gone from every list, never a half of it."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.runs.folder import Run, RunLock

TRASH = ".trash"


def delete(run: Run) -> None:
    """Deletes a run. Raises LabError when it is in progress, gone, or its place is read-only."""
    if not run.recipe_path.is_file():
        raise LabError(f"run {run.id}: it is not there any more")
    try:
        lock = RunLock.take(run)  # held while it moves: nobody can resume it meanwhile
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
    """Removes what lies in the trash, also what a killed removal left; what cannot go now stays for later."""
    try:
        left = list((directory / TRASH).iterdir())
    except OSError:
        return
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
