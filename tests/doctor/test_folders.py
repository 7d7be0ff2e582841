"""Folders that are full or shut."""

import os
from pathlib import Path

import pytest

from tui_lab.doctor import folders


class Free:
    def __init__(self, free: float) -> None:
        self.free = free


@pytest.mark.parametrize(("free", "state"), [(1e12, "ok"), (1e9, "warn"), (1e7, "fail")])
def test_disk_for_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, state: str) -> None:
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: Free(free))
    check = folders.check_runs(tmp_path / "deep" / "runs")
    assert check.state == state and bool(check.advice) == (state != "ok")
    assert not (tmp_path / "deep").exists()


def test_runs_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "runs"):
        check = folders.check_runs(place)
        assert check.state == "fail" and "TUI_LAB_RUNS_DIR" in check.advice
    if os.geteuid() != 0:  # root writes anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        assert folders.check_runs(tmp_path / "locked").state == "fail"
    assert folders.check_runs(tmp_path).state != "fail"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "locked") == ["file"]


def test_own_folders_that_are_shut_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fine = folders.check_own_folders({"config": tmp_path / "new" / "config", "state": tmp_path})
    assert fine.state == "ok" and not (tmp_path / "new").exists()
    shut = folders.check_own_folders({"config": tmp_path / "file" / "x", "cache": tmp_path})
    assert shut.state == "warn" and "config folder" in shut.found and "cache" not in shut.found
    assert "TUI_LAB_CONFIG_DIR" in shut.advice
