"""Atomic writes and file locks.

A reader of a file or folder written here sees the old content or the new, never a part of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

LOCK_POLL_S = 0.02


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file by ``text``, with mode 0600."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None  # not the temporary name
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` for a library to write to; it replaces ``path`` at the end of the
    block, and is removed when the block raises."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder (mode 0700) beside ``path`` to fill; it replaces ``path`` at the end of the
    block, and is removed when the block raises. What a killed process left there is removed first."""
    temporary = path.with_name(f".{path.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(mode=0o700)
        yield temporary
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(source: Path, target: Path) -> None:
    """Moves a folder to ``target``. A folder that is there is set aside first, put back when the move fails,
    and removed at the end."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    try:
        source.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def prune(folder: Path, pattern: str, most_files: int, most_bytes: int) -> None:
    """Removes the files of a cache that were used longest ago (by their time of change) beyond a number and a
    size, except those that a process has locked. What cannot be removed stays."""
    found = []
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    for path in beyond(found, most_files, most_bytes):
        if not is_locked(path):
            with contextlib.suppress(OSError):
                path.unlink()


def beyond(used: Iterable[tuple[float, int, Path]], most: int, most_bytes: int) -> Iterator[Path]:
    """Of paths, each with the time of its use and its size, those beyond a number and a total size, of which
    the last used come first; never the last used one itself."""
    total = 0
    for number, (_, size, path) in enumerate(sorted(used, reverse=True)):
        total += size
        if number and (number >= most or total > most_bytes):
            yield path


class FileLock:
    """An exclusive ``flock`` on a file or folder. The system releases it when the last process that has
    inherited ``descriptor`` ends."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, timeout_s: float = 0.0) -> FileLock | None:
        """The lock; None when another process holds it for longer than ``timeout_s``. A file that does not
        exist is created with mode 0600. Raises OSError."""
        flags = os.O_RDONLY | os.O_NOFOLLOW if path.is_dir() else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return cls(descriptor)
            except OSError as error:
                busy = error.errno in (errno.EAGAIN, errno.EACCES)
                if not busy or time.monotonic() >= deadline:
                    os.close(descriptor)
                    if not busy:
                        raise
                    return None
            time.sleep(LOCK_POLL_S)

    def release(self) -> None:
        """Closes this process's descriptor."""
        os.close(self.descriptor)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock. False where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)
