"""Failed writes become one sentence that says what to do, whoever failed to write."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder, storage
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import ResumedEvent

FULL = Path("/dev/full")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return folder.create(Recipe(), tmp_path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EFBIG, "largest size"),
        (errno.EROFS, "refused"),
        (errno.EIO, "reports an error"),
    ],
)
def test_error_numbers_are_found_below_other_errors(run: Run, number: int, words: str) -> None:
    plain = OSError(number, os.strerror(number))
    assert words in storage.explain(plain, run) and "resume" in storage.explain(plain, run)
    try:
        try:
            raise plain
        except OSError as error:
            raise RuntimeError("while saving") from error
    except RuntimeError as wrapped:
        assert words in storage.explain(wrapped, run)


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_errors_of_libraries_on_a_full_disk_are_recognised(run: Run) -> None:
    import torch

    with pytest.raises(RuntimeError) as failed:
        torch.save({"weight": torch.zeros(300_000)}, FULL)
    assert storage.explain(failed.value, run) != ""
    with pytest.raises(OSError) as failed_too, FULL.open("wb", buffering=0) as file:
        file.write(b"x")
    assert "the disk is full" in storage.explain(failed_too.value, run)


def test_messages_without_error_numbers_are_recognised(run: Run) -> None:
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert "the disk is full" in storage.explain(Exception(said), run)
    assert "largest size" in storage.explain(Exception("I/O error: File too large (os error 27)"), run)


def test_other_errors_are_not_explained_as_disk_errors(run: Run) -> None:
    assert storage.explain(ValueError("shapes differ"), run) == ""
    missing = FileNotFoundError(errno.ENOENT, "No such file", "rows.jsonl")
    assert storage.explain(missing, run) == ""  # somebody else's file
    inside = FileNotFoundError(errno.ENOENT, "No such file", str(run.path / "x"))
    assert storage.explain(inside, run) == ""  # the folder is there


def test_a_moved_folder_is_detected(run: Run) -> None:
    writer = EventWriter(run.events_path)
    writer.write(ResumedEvent(from_step=0))
    storage.check_folder(run, writer.descriptor)
    moved = run.path.with_name("elsewhere")
    run.path.rename(moved)
    with pytest.raises(storage.FolderGone, match="moved or deleted"):
        storage.check_folder(run, writer.descriptor)
    moved.rename(run.path)
    storage.check_folder(run, writer.descriptor)
    shutil.rmtree(run.path)
    with pytest.raises(storage.FolderGone):
        storage.check_folder(run, writer.descriptor)
    error = FileNotFoundError(errno.ENOENT, "No such file", str(run.path / "checkpoints" / "x"))
    assert "moved or deleted" in storage.explain(error, run)
    # another file in its place is not this log
    run.path.mkdir()
    run.events_path.touch()
    with pytest.raises(storage.FolderGone):
        storage.check_folder(run, writer.descriptor)
    writer.close()


def test_the_reserve_is_allocated_and_freed(run: Run) -> None:
    reserve = storage.Reserve(run)
    reserve.hold()
    [held] = [path for path in run.path.iterdir() if path.name == ".reserve"]
    assert held.stat().st_size == storage.RESERVE_BYTES
    reserve.give_back()
    reserve.give_back()
    assert not held.exists()
