"""The folder of an export: written beside its target under a lock, then renamed into place as a whole. An
existing export is replaced only on request."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.core.files import FileLock, replace_folder, sha256
from tui_lab.core.sanitize import sanitize
from tui_lab.export.records import RESULT_FILE, ExportedFile


def _check_target(target: Path, force: bool) -> None:
    """Raises LabError if the target holds something that the export must not replace."""
    if not target.exists():
        return
    shown = sanitize(str(target))
    if not target.is_dir():
        raise LabError(f"{shown} is a file: name a folder with --out")
    if not any(target.iterdir()):
        return
    if not (target / RESULT_FILE).is_file():
        raise LabError(f"{shown} is not empty and not an export: name a new folder with --out")
    if not force:
        raise LabError(f"{shown} already contains an export: --force replaces it, --out names another folder")


@contextlib.contextmanager
def partial_folder(target: Path, force: bool) -> Iterator[Path]:
    """An empty, locked folder beside the target; it is removed on exit unless it was published. Raises
    LabError if the target is taken or another export to it is in progress."""
    _check_target(target, force)
    new_parent = not target.parent.exists()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if new_parent:
        target.parent.chmod(0o700)
    partial = target.with_name(f".{target.name}.partial")
    partial.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock.acquire(partial)
    if lock is None:
        raise LabError(f"{sanitize(str(target))} is being exported already: wait for that export or end it")
    with lock:
        for leftover in partial.iterdir():  # of an export that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, target: Path) -> None:
    """Renames a complete export to its target. An export that was there is renamed first and removed last."""
    for path in partial.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    replace_folder(partial, target)


def disk_error(error: BaseException, target: Path) -> str:
    """The sentence for a disk that is full or not writable; "" for any other error. safetensors raises an
    error type of its own for a full disk."""
    place = sanitize(str(target.parent))
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(error).lower():
        return f"the disk of {place} is full: free some space, or name another folder with --out"
    if isinstance(error, OSError):
        return f"the export cannot be written to {place}: {error.strerror or error}"
    return ""


def list_files(folder: Path) -> dict[str, ExportedFile]:
    """Size and SHA-256 of every file below a folder, by its relative path. Hidden files are left out."""
    return {
        str(path.relative_to(folder)): ExportedFile(path.stat().st_size, sha256(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
