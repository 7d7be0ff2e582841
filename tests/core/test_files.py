"""Atomic writes and locks."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tui_lab.core.files import (
    FileLock,
    atomic_file,
    atomic_folder,
    is_locked,
    prune,
    replace_folder,
    write_atomically,
)


def test_text_replaces_the_file_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    write_atomically(path, "ü")
    assert path.read_text("utf-8") == "ü" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path, folder = tmp_path / "a", tmp_path / "folder"
    path.write_text("old")
    folder.mkdir()
    (folder / "x").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("part")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), atomic_folder(folder) as temporary:
        (temporary / "x").write_text("part")
        raise ZeroDivisionError
    assert path.read_text() == (folder / "x").read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [path, folder]


def test_a_folder_that_is_missing_is_named_without_the_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        write_atomically(tmp_path / "none" / "rows.jsonl", "text")
    assert error.value.filename == str(tmp_path / "none" / "rows.jsonl")


def test_files_and_folders_are_replaced_whole(tmp_path: Path) -> None:
    path, folder = tmp_path / "a", tmp_path / "folder"
    (tmp_path / ".folder.partial").mkdir()
    (tmp_path / ".folder.partial" / "left").write_text("by a killed process")
    for content in ("one", "two"):
        with atomic_file(path) as temporary:
            temporary.write_text(content)
        with atomic_folder(folder) as temporary:
            assert list(temporary.iterdir()) == []
            (temporary / content).write_text("")
    assert path.read_text() == "two" and [each.name for each in folder.iterdir()] == ["two"]
    assert sorted(tmp_path.iterdir()) == [path, folder]


def test_a_folder_that_cannot_be_moved_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", target)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_lock_is_exclusive_until_it_is_released(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock"
    if kind == "folder":
        path.mkdir()
    assert not is_locked(path)
    lock = FileLock.acquire(path)
    assert lock is not None and is_locked(path)
    assert FileLock.acquire(path) is None and FileLock.acquire(path, timeout_s=0.05) is None
    lock.release()
    assert not is_locked(path)
    with FileLock.acquire(path) or pytest.fail("it is free"):
        assert is_locked(path)
    assert not is_locked(path)


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, pathlib; from tui_lab.core.files import FileLock\n"
        "lock = FileLock.acquire(pathlib.Path(sys.argv[1])); print(lock is not None, flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout and child.stdout.readline().strip() == "True"
        assert is_locked(path)
        child.kill()
    assert not is_locked(path)


def test_a_lock_in_a_folder_that_is_missing_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock.acquire(tmp_path / "none" / "lock")


def test_the_oldest_files_of_a_cache_are_removed_but_not_a_locked_one(tmp_path: Path) -> None:
    for age in range(6):
        path = tmp_path / f"{age}.jsonl"
        path.write_bytes(b"x" * 10)
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "other.txt").touch()
    lock = FileLock.acquire(tmp_path / "5.jsonl")
    assert lock is not None
    with lock:
        prune(tmp_path, "*.jsonl", 4, 1000)
        assert {path.stem for path in tmp_path.iterdir()} == {"0", "1", "2", "3", "5", "other"}
    prune(tmp_path, "*.jsonl", 4, 25)
    assert {path.stem for path in tmp_path.iterdir()} == {"0", "1", "other"}
    prune(tmp_path, "*.jsonl", 0, 0)
    assert {path.stem for path in tmp_path.iterdir()} == {"0", "other"}, "the newest stays"
