"""``tui-lab runs delete``, ``restore`` and ``trash``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tui_lab.cli import main
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.folder import RunLock, create, list_runs


def test_runs_go_into_the_trash_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [create(Recipe(), tmp_path, name=name) for name in ("one", "two", "live")]
    lock = RunLock.take(runs[2])
    at = ["--runs-dir", str(tmp_path)]
    assert main.main(["runs", "delete", "one", "two", "live", *at]) == 1, "one of them is in progress"
    lock.release()
    out = capsys.readouterr()
    assert out.out.splitlines() == [f"deleted: {runs[0].id}", f"deleted: {runs[1].id}"]
    assert "stop it first" in out.err
    assert list_runs(tmp_path) == [runs[2]]
    assert main.main(["runs", "trash", "--json", *at]) == 0
    listed = json.loads(capsys.readouterr().out)["items"]
    assert {each["run"] for each in listed} == {runs[0].id, runs[1].id}
    assert all(each["bytes"] > 0 for each in listed)
    assert main.main(["runs", "restore", "one", *at]) == 0
    assert runs[0] in list_runs(tmp_path)
    assert main.main(["runs", "trash", *at]) == 0
    assert runs[1].id in capsys.readouterr().out
    assert main.main(["runs", "trash", "--empty", *at]) == 0
    assert main.main(["runs", "restore", "two", *at]) != 0
    assert "in the trash" in capsys.readouterr().err
    assert main.main(["runs", "--limit", "1", *at]) == 0, "the list needs no further word"
