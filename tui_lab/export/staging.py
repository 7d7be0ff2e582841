"""Where an export goes: made in a folder of its own beside its place, under a lock, and put there whole; what
was there before is only replaced when that was asked for."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.export.request import RESULT


def _check_free(target: Path, force: bool) -> None:
    """Refuses to write over anything that is not asked for. Raises LabError."""
    if not target.exists():
        return
    shown = sanitize(str(target))
    if not target.is_dir():
        raise LabError(f"{shown} is a file: name a folder with --out")
    if not any(target.iterdir()):
        return
    if not (target / RESULT).is_file():
        raise LabError(f"{shown} is not empty and no export: name a new folder with --out")
    if not force:
        raise LabError(f"{shown} holds an export already: --force replaces it, --out names another place")


@contextlib.contextmanager
def partial(target: Path, force: bool) -> Iterator[Path]:
    """An empty folder beside the target, held by a lock and gone at the end whatever happens."""
    _check_free(target, force)
    made = not target.parent.exists()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if made:
        target.parent.chmod(0o700)
    made_in = target.with_name(f".{target.name}.partial")
    made_in.mkdir(mode=0o700, exist_ok=True)
    held = os.open(made_in, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LabError(
                f"{sanitize(str(target))} is being exported already: wait for it or end it"
            ) from None
        for left in made_in.iterdir():  # of one that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield made_in
        finally:
            shutil.rmtree(made_in, ignore_errors=True)
    finally:
        os.close(held)


def publish(made_in: Path, target: Path) -> None:
    """Puts a whole export in its place; one that was there is moved aside first and then removed."""
    for path in made_in.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    try:
        made_in.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def disk_words(error: BaseException, target: Path) -> str:
    """The sentence for a disk that is full or cannot be written; "" for any other error. safetensors has an
    error of its own for it."""
    place = f"{sanitize(str(target.parent))}"
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(error).lower():
        return f"the disk of {place} is full: free some space, or name another place with --out"
    if isinstance(error, OSError):
        return f"the export cannot be written to {place}: {error.strerror or error}"
    return ""


def files(place: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below a folder by its path there, without what begins with a dot."""
    return {
        str(path.relative_to(place)): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(place.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(place).parts)
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
