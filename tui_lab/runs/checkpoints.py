"""Validation of checkpoints. The manifest is written last into a checkpoint: every file with its size and a
digest. A folder without a manifest is incomplete; one whose files differ from it is damaged. A resume takes
the newest valid checkpoint and reports those that it skipped. No torch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.records import from_json, to_json

MANIFEST = "manifest.json"
PREFIX = "checkpoint-"
#: Damaged checkpoints are renamed with this prefix.
DAMAGED = "damaged-"
#: Manifests of earlier versions digest larger files only in pieces of this much, spread over the file.
DIGESTED_BYTES = 64 << 20
_PIECE_BYTES = 1 << 20


class FileDigest(msgspec.Struct, frozen=True):
    """A file's size in bytes and its :func:`digest`."""

    bytes: int
    digest: str


class Manifest(msgspec.Struct, frozen=True):
    """The content of ``manifest.json``: every file of the checkpoint, by its path relative to the folder.
    ``complete``: the digests are of every byte."""

    files: dict[str, FileDigest]
    complete: bool = False


@dataclass(frozen=True)
class CheckpointSearch:
    """``chosen``: the newest valid checkpoint or None; ``passed_over``: newer invalid ones, newest first,
    each with the reason."""

    chosen: Path | None
    passed_over: list[tuple[Path, str]]


def step_of(folder: Path) -> int:
    """The step of a checkpoint by its name; -1 for another name."""
    text = folder.name.removeprefix(PREFIX)
    return int(text) if folder.name.startswith(PREFIX) and text.isascii() and text.isdigit() else -1


def seal(folder: Path) -> None:
    """Syncs a checkpoint's files to the disk, then writes its manifest. Raises OSError."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[path.relative_to(folder).as_posix()] = FileDigest(path.stat().st_size, digest(path))
    write_atomically(folder / MANIFEST, to_json(Manifest(files, complete=True)))
    for directory in (folder, folder.parent):
        _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path, complete: bool = True) -> str:
    """SHA-256 of a file's size and content; unless ``complete``, of evenly spread pieces of a large file."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with input_files.open_regular(path) as file:
        if complete or size <= DIGESTED_BYTES:
            while piece := file.read(_PIECE_BYTES):
                found.update(piece)
        else:
            pieces = DIGESTED_BYTES // _PIECE_BYTES
            for i in range(pieces):
                file.seek((size - _PIECE_BYTES) * i // (pieces - 1))
                found.update(file.read(_PIECE_BYTES))
    return found.hexdigest()


def validation_error(folder: Path) -> str:
    """Why a checkpoint cannot be resumed from; "" when it is valid."""
    try:
        manifest = from_json(input_files.read_bytes(folder / MANIFEST), Manifest, "its manifest")
    except FileNotFoundError:
        return "it was not finished"
    except OSError as error:
        return f"its manifest cannot be read ({error.strerror or error})"
    except LabError:
        return "its manifest is damaged"
    for name, expected in manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != expected.bytes:
                return f"{name} has {size:,} bytes instead of {expected.bytes:,}"
            if digest(path, manifest.complete) != expected.digest:
                return f"{name} differs from what was written"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror or error})"
    return "" if manifest.files else "it is empty"


def find(folder: Path) -> CheckpointSearch:
    """The newest valid checkpoint in ``folder``."""
    passed_over: list[tuple[Path, str]] = []
    steps = {step: path for path in folder.glob(f"{PREFIX}*") if (step := step_of(path)) >= 0}
    for _, path in sorted(steps.items(), reverse=True):
        wrong = validation_error(path)
        if not wrong:
            return CheckpointSearch(path, passed_over)
        passed_over.append((path, wrong))
    return CheckpointSearch(None, passed_over)


def quarantine(found: CheckpointSearch) -> list[str]:
    """Renames the damaged checkpoints and deletes the incomplete ones; a sentence for each. Raises
    OSError."""
    sentences = []
    start = f"step {step_of(found.chosen)}" if found.chosen else "the beginning"
    for path, wrong in found.passed_over:
        if (path / MANIFEST).exists():
            aside = path.with_name(DAMAGED + path.name)
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            renamed = f" and kept as {aside.name}"
        else:
            shutil.rmtree(path)
            renamed = ""
        sentences.append(
            f"the checkpoint of step {step_of(path)} is passed over{renamed}: {wrong}; "
            f"the run continues from {start}"
        )
    return sentences
