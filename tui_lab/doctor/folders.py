"""The folders that the lab writes to: whether it can, and the room in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tui_lab.core.paths import is_there
from tui_lab.core.sanitize import sanitize
from tui_lab.doctor.check import Check, gb

#: A run of the bundled model leaves a few megabytes, checkpoints of a 3 B adapter a few hundred.
LITTLE_FREE_BYTES = 2_000_000_000
NO_FREE_BYTES = 100_000_000


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not is_there(path) and path != path.parent:
        path = path.parent
    return path


def cannot_write(directory: Path) -> str | None:
    """Why files cannot be made there; None when they can."""
    if not is_there(directory):
        parent = existing(directory)
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return None
        return f"{sanitize(str(parent))} cannot be written"
    try:
        with tempfile.TemporaryFile(dir=directory):
            return None
    except OSError as error:
        return error.strerror or str(error)


def check_runs(directory: Path) -> Check:
    """Whether a run's folder can be made, and the room for it."""
    shown = sanitize(str(directory))
    if reason := cannot_write(directory):
        advice = "name another folder with --runs-dir or TUI_LAB_RUNS_DIR"
        return Check("runs folder", "fail", f"{shown}: {reason}", advice)
    free = shutil.disk_usage(existing(directory)).free
    text = f"{shown}, {gb(free)} free"
    if free < NO_FREE_BYTES:
        return Check("runs folder", "fail", text, "free some disk: a run needs at least 100 MB")
    if free < LITTLE_FREE_BYTES:
        return Check("runs folder", "warn", text, "free some disk: checkpoints of larger models fill it")
    return Check("runs folder", "ok", text)


def check_own_folders(directories: Mapping[str, Path]) -> Check:
    """Whether what the lab remembers can be written; without it the lab works, and forgets."""
    shut = {name: reason for name, directory in directories.items() if (reason := cannot_write(directory))}
    if shut:
        found = "; ".join(f"{name} folder: {reason}" for name, reason in shut.items())
        variables = " or ".join(f"TUI_LAB_{name.upper()}_DIR" for name in shut)
        return Check(
            "own folders", "warn", found, f"name another with {variables}: the lab forgets until then"
        )
    return Check("own folders", "ok", f"{', '.join(directories)} can be written")
