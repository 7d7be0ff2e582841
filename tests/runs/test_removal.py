"""Deleting runs: into the trash and back, whole or not at all, and never one that lives."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import removal
from tui_lab.runs.folder import Run, RunLock, create, list_runs
from tui_lab.runs.index import RunIndex


def listed(directory: Path) -> list[str]:
    return [each.id for each in RunIndex(directory).read_all()]


def test_a_deleted_run_is_in_no_list_and_comes_back_as_it_was(tmp_path: Path) -> None:
    run, other = create(Recipe(), tmp_path), create(Recipe(), tmp_path)
    (run.path / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    (run.path / "checkpoints" / "checkpoint-5" / "x").write_text("x" * 1000)
    found = removal.delete(run)
    assert list_runs(tmp_path) == [other] and listed(tmp_path) == [other.id]
    assert not run.path.exists()
    assert removal.trashed(tmp_path) == [found] and found.size_bytes > 1000
    with pytest.raises(LabError, match="not there any more"):
        removal.delete(run)
    assert removal.restore(found) == run
    assert sorted(listed(tmp_path)) == sorted([run.id, other.id]) and removal.trashed(tmp_path) == []
    assert (run.path / "checkpoints" / "checkpoint-5" / "x").read_text() == "x" * 1000
    with pytest.raises(LabError, match="there is a folder of that name"):
        removal.restore(found)


def test_what_was_deleted_last_is_found_first(tmp_path: Path) -> None:
    runs = [create(Recipe(), tmp_path, name=name) for name in ("first", "second")]
    for number, run in enumerate(runs):
        found = removal.delete(run)
        found.path.rename(found.path.with_name(f"{run.id}@{1000 + number}"))
    assert [each.id for each in removal.trashed(tmp_path)] == [runs[1].id, runs[0].id]
    assert removal.find("latest", tmp_path).id == runs[1].id
    assert removal.find("first", tmp_path).id == runs[0].id
    with pytest.raises(LabError, match="in the trash"):
        removal.find("third", tmp_path)


def test_a_run_of_one_name_is_deleted_twice_in_a_second(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    first = removal.delete(run)
    shutil.copytree(first.path, run.path)
    second = removal.delete(run)
    assert {each.path for each in removal.trashed(tmp_path)} == {first.path, second.path}
    assert removal.find(run.id, tmp_path) == second, "the newest of them"


def test_a_live_run_is_not_deleted(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    lock = RunLock.take(run)
    with pytest.raises(LabError, match="stop it first"):
        removal.delete(run)
    lock.release()
    assert list_runs(tmp_path) == [run]
    removal.delete(run)


def test_the_trash_is_emptied_after_thirty_days_or_when_asked(tmp_path: Path) -> None:
    old, new = (removal.delete(create(Recipe(), tmp_path)) for _ in range(2))
    long_ago = int(time.time()) - 31 * 86_400
    old.path.rename(old.path.with_name(f"{old.id}@{long_ago}"))
    assert removal.empty_trash(tmp_path) == 1
    assert removal.trashed(tmp_path) == [new]
    assert removal.empty_trash(tmp_path, older_than_days=None) == 1
    assert not list((tmp_path / removal.TRASH).iterdir())
    assert removal.empty_trash(tmp_path / "nowhere") == 0


def test_an_interrupted_removal_restores_no_incomplete_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removal.delete(create(Recipe(), tmp_path))

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt  # as sudden as it gets within a process

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        removal.empty_trash(tmp_path, older_than_days=None)
    assert removal.trashed(tmp_path) == [], "it is offered no more"
    assert os.listdir(tmp_path / removal.TRASH), "though its pieces are there"  # noqa: PTH208
    removal.empty_trash(tmp_path)
    assert not list((tmp_path / removal.TRASH).iterdir())


def test_a_run_that_a_link_leads_to_is_deleted_without_what_it_leads_to(tmp_path: Path) -> None:
    elsewhere = create(Recipe(), tmp_path / "elsewhere")
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / elsewhere.id).symlink_to(elsewhere.path)
    removal.delete(Run(runs / elsewhere.id))
    removal.empty_trash(runs, older_than_days=None)
    assert elsewhere.recipe_path.is_file() and not list((runs / removal.TRASH).iterdir())
