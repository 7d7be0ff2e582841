"""Deletes runs, and takes it back: a deleted run is moved into the folder ``.trash`` beside the others by one
rename, under its id and the time. It can be restored for 30 days; then its files are removed. If a process is
killed meanwhile, a run is complete either in the list or in the trash."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.runs.folder import Run, RunLock, matching_id, runs_folder

TRASH = ".trash"
KEPT_DAYS = 30
_DAY_S = 86_400
#: A folder in the trash: the run's id, and the time in seconds. Anything else there is the rest of a removal.
_NAME = re.compile(r"(?P<id>[^.].*)@(?P<at>\d{1,12})")
#: Begins the name of what is being removed.
_GOING = ".going-"


@dataclass(frozen=True)
class TrashedRun:
    """A deleted run: the id that it had, when it was deleted (seconds since 1970), and where it is now."""

    id: str
    at: int
    path: Path

    @property
    def size_bytes(self) -> int:
        """Bytes of its files."""
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with contextlib.suppress(OSError):
                    total += (Path(folder) / name).lstat().st_size
        return total


def delete(run: Run) -> TrashedRun:
    """Moves a run into the trash. Raises LabError when it is in progress, does not exist, or its folder is
    read-only."""
    if not run.recipe_path.is_file():
        raise LabError(f"run {run.id}: it is not there any more")
    try:
        lock = RunLock.take(run)  # so that nobody resumes it meanwhile
    except LabError as error:
        if "running" in str(error):
            raise LabError(f"run {run.id} is in progress: stop it first, and delete it then") from None
        raise
    folder = run.path.parent / TRASH
    at = int(time.time())
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        while (target := folder / f"{run.id}@{at}").exists():
            at += 1
        run.path.rename(target)
    except OSError as error:
        raise LabError(f"run {run.id}: it cannot be deleted ({error.strerror})") from None
    finally:
        lock.release()
    return TrashedRun(run.id, at, target)


def trashed(directory: Path | None = None) -> list[TrashedRun]:
    """The runs in the trash, the one deleted last first."""
    try:
        paths = list((runs_folder(directory) / TRASH).iterdir())
    except OSError:
        return []
    names = [(path, _NAME.fullmatch(path.name)) for path in paths]
    found = [TrashedRun(name["id"], int(name["at"]), path) for path, name in names if name]
    return sorted(found, key=lambda each: (each.at, each.id), reverse=True)


def restore(found: TrashedRun) -> Run:
    """Moves a run out of the trash to where it was. Raises LabError when it is not there any more, or another
    folder has its name."""
    run = Run(found.path.parent.parent / found.id)
    if run.path.exists():
        raise LabError(f"run {found.id}: there is a folder of that name; rename it, and restore the run then")
    try:
        found.path.rename(run.path)
    except FileNotFoundError:
        raise LabError(f"run {found.id}: it is not in the trash any more") from None
    except OSError as error:
        raise LabError(f"run {found.id}: it cannot be restored ({error.strerror})") from None
    return run


def find(name: str, directory: Path | None = None) -> TrashedRun:
    """The run in the trash that ``name`` means: an id, a part of one, or "latest". Raises LabError."""
    every = trashed(directory)
    if name == "latest" and every:
        return every[0]
    none = "there is none of that name in the trash; `tui-lab runs trash` lists them"
    run_id = matching_id(name, list(dict.fromkeys(each.id for each in every)), "run", none)
    return next(each for each in every if each.id == run_id)


def empty_trash(directory: Path | None = None, older_than_days: float | None = KEPT_DAYS) -> int:
    """Removes the runs that were deleted longer ago (None: all of them), and the rest of interrupted
    removals, from the disk. Returns how many runs. Errors are ignored."""
    trash = runs_folder(directory) / TRASH
    limit = math.inf if older_than_days is None else time.time() - older_than_days * _DAY_S
    going = [each for each in trashed(directory) if each.at <= limit]
    for each in going:
        try:  # a run that is removed in part can be restored no more
            each.path.rename(trash / f"{_GOING}{each.path.name}")
        except OSError:
            continue
    try:
        rest = [path for path in trash.iterdir() if not _NAME.fullmatch(path.name)]
    except OSError:
        return 0
    for path in rest:
        if path.is_symlink():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return len(going)


def moved_text(found: Sequence[TrashedRun]) -> str:
    """What was deleted, and for how long it can be restored."""
    what = found[0].id if len(found) == 1 else plural(len(found), "run")
    return f"{what}: moved to the trash for {KEPT_DAYS} days"
