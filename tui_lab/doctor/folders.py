"""The folders that the lab writes to: permissions and free space."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tui_lab.core.format import size
from tui_lab.core.paths import path_exists
from tui_lab.core.sanitize import sanitize
from tui_lab.doctor.check import DoctorCheck

#: A run of the bundled model writes a few megabytes, checkpoints of a 3 B adapter some hundred.
LOW_FREE_BYTES = 2_000_000_000
MIN_FREE_BYTES = 100_000_000


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path_exists(path) and path != path.parent:
        path = path.parent
    return path


def cannot_write(directory: Path) -> str | None:
    """The reason why no files can be created there; None when they can."""
    if not path_exists(directory):
        parent = existing(directory)
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return None
        return f"{sanitize(str(parent))} cannot be written"
    try:
        with tempfile.TemporaryFile(dir=directory):
            return None
    except OSError as error:
        return error.strerror or str(error)


def check_runs(directory: Path) -> DoctorCheck:
    """Whether the folder of a run can be created, and its free space."""
    path = sanitize(str(directory))
    if reason := cannot_write(directory):
        advice = "name another folder with --runs-dir or TUI_LAB_RUNS_DIR"
        return DoctorCheck("runs folder", "fail", f"{path}: {reason}", advice)
    free = shutil.disk_usage(existing(directory)).free
    text = f"{path}, {size(free)} free"
    if free < MIN_FREE_BYTES:
        return DoctorCheck("runs folder", "fail", text, "free some disk space: a run needs at least 100 MB")
    if free < LOW_FREE_BYTES:
        return DoctorCheck(
            "runs folder", "warn", text, "free some disk space: checkpoints of larger models need it"
        )
    return DoctorCheck("runs folder", "ok", text)


def check_own_folders(directories: Mapping[str, Path]) -> DoctorCheck:
    """Whether settings, votes and caches can be written. The lab works without, but loses them."""
    unwritable = {
        name: reason for name, directory in directories.items() if (reason := cannot_write(directory))
    }
    if unwritable:
        found = "; ".join(f"{name} folder: {reason}" for name, reason in unwritable.items())
        variables = " or ".join(f"TUI_LAB_{name.upper()}_DIR" for name in unwritable)
        return DoctorCheck(
            "own folders",
            "warn",
            found,
            f"name another folder with {variables}; nothing is stored until then",
        )
    return DoctorCheck("own folders", "ok", f"{', '.join(directories)} can be written")
