"""Errors of writing into a run's folder: the disk is full, a quota is reached, the folder became read-only or
was moved. A small reserve file is freed then, so that the end of the run can be written. No torch.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.runs.folder import Run

#: Size of the reserve for the last events.
RESERVE_BYTES = 64 << 10
#: With less free space than this, a failed write without an error number means a full disk.
LITTLE_BYTES = 1 << 20

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
#: Messages of writers without error numbers: safetensors, torch's zip writer.
_PHRASES = {
    "no space left": errno.ENOSPC,
    "os error 28": errno.ENOSPC,
    "quota exceeded": errno.EDQUOT,
    "os error 122": errno.EDQUOT,
    "file too large": errno.EFBIG,
    "os error 27": errno.EFBIG,
    "read-only file system": errno.EROFS,
    "os error 30": errno.EROFS,
    "input/output error": errno.EIO,
}
#: torch's writer gives no reason.
_WRITER_FAILED = ("pytorchstreamwriter failed", "file write failed", "inline_container.cc")


class FolderGone(LabError):
    """The run's folder was moved or deleted under the run."""


def check_folder(run: Run, descriptor: int) -> None:
    """Raises FolderGone when the open log ``descriptor`` is no longer the one in the run's folder: the run
    must neither continue without a folder nor create a new one."""
    try:
        there = run.events_path.stat()
    except FileNotFoundError:
        raise FolderGone(_gone(run)) from None
    except OSError:
        return  # the file system may be unavailable for a moment
    here = os.fstat(descriptor)
    if (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev):
        raise FolderGone(_gone(run))


def _gone(run: Run) -> str:
    return (
        f"the run's folder {run.path} was moved or deleted while it ran; nothing can be saved any more. "
        "If it was moved, move it back and resume; if it was deleted, start a new run"
    )


def explain(error: BaseException, run: Run) -> str:
    """The reason and remedy if ``error`` is a failed write into the run's folder, as a sentence; else ""."""
    number = _number(error, run)
    if number is None:
        return ""
    if number in _GONE:
        return _gone(run) if not run.recipe_path.exists() else ""
    then = "and resume: the run continues from its newest complete checkpoint"
    where = f"in {run.path}"
    if number in _FULL:
        return f"the disk is full: nothing more can be written {where}; free some space {then}"
    if number == errno.EFBIG:
        return f"a file {where} reached the largest size allowed here; raise the limit (ulimit -f) {then}"
    if number in _REFUSED:
        return f"writing {where} is refused ({os.strerror(number).lower()}); make it writable {then}"
    return f"the disk reports an error {where} ({os.strerror(number).lower()}); check it {then}"


def _number(error: BaseException, run: Run) -> int | None:
    """The error number of a failed write, searched along the chain of causes."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        if isinstance(one, OSError) and one.errno in (*_FULL, *_REFUSED, *_GONE, errno.EFBIG, errno.EIO):
            if one.errno in _FULL or one.errno in (errno.EFBIG, errno.EIO, errno.EROFS):
                return one.errno
            if _is_inside(one.filename, run.path):
                return one.errno
        text = str(one).lower()
        for phrase, number in _PHRASES.items():
            if phrase in text and not isinstance(one, OSError):
                return number
        if any(phrase in text for phrase in _WRITER_FAILED):
            return _guess(run)
        one = one.__cause__ or one.__context__
    return None


def _is_inside(name: object, folder: Path) -> bool:
    return isinstance(name, str | os.PathLike) and Path(os.fspath(name)).is_relative_to(folder)


def _guess(run: Run) -> int:
    """The probable error number of a writer that gives no reason."""
    try:
        return errno.ENOSPC if shutil.disk_usage(run.path).free < LITTLE_BYTES else errno.EIO
    except OSError:
        return errno.ENOENT


class Reserve:
    """A file that is deleted when the disk is full, so that the end event can be written."""

    def __init__(self, run: Run) -> None:
        self._path = run.path / ".reserve"

    def hold(self) -> None:
        """Allocates the file. Raises OSError when the disk is full already."""
        with os.fdopen(input_files.open_to_append(self._path), "ab") as file:
            file.write(b"\0" * RESERVE_BYTES)
            file.flush()
            os.fsync(file.fileno())

    def give_back(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
