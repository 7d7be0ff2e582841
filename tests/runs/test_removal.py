"""Deleting runs: whole or not at all, and never one that lives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import removal
from tui_lab.runs.folder import RunLock, create, list_runs


def test_a_deleted_run_leaves_no_files(tmp_path: Path) -> None:
    run, other = create(Recipe(), tmp_path), create(Recipe(), tmp_path)
    (run.path / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    (run.path / "checkpoints" / "checkpoint-5" / "x").write_text("x" * 1000)
    removal.delete(run)
    assert list_runs(tmp_path) == [other]
    assert not run.path.exists() and not list((tmp_path / removal.TRASH).iterdir())
    with pytest.raises(LabError, match="not there any more"):
        removal.delete(run)


def test_a_live_run_is_not_deleted(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    lock = RunLock.take(run)
    with pytest.raises(LabError, match="stop it first"):
        removal.delete(run)
    lock.release()
    assert list_runs(tmp_path) == [run]
    removal.delete(run)


def test_an_interrupted_removal_lists_no_incomplete_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create(Recipe(), tmp_path)

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt  # as sudden as it gets within a process

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        removal.delete(run)
    assert list_runs(tmp_path) == [], "no list has it"
    assert list((tmp_path / removal.TRASH).iterdir()), "though its pieces are there"
    removal.empty_trash(tmp_path)
    assert not list((tmp_path / removal.TRASH).iterdir())
    removal.empty_trash(tmp_path / "nowhere")
