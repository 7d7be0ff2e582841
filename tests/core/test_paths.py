"""Paths with ``~``: a user that does not exist is one sentence, and no folder of that name is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paths import ROOT
from tui_lab.cli import main
from tui_lab.core import paths
from tui_lab.core.errors import LabError

NOBODY = "~no-such-user/runs"


def test_an_unknown_user_is_one_sentence() -> None:
    assert paths.expanded(NOBODY) == Path(NOBODY)
    assert paths.expanded("~") == Path.home()
    with pytest.raises(LabError, match="there is no user 'no-such-user'"):
        paths.absolute(Path(NOBODY))


def test_no_command_makes_such_a_folder(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["runs", "--runs-dir", NOBODY]) == 2
    monkeypatch.setenv("TUI_LAB_RUNS_DIR", NOBODY)
    assert main.main(["train"]) == 2
    assert capsys.readouterr().err.count("there is no user") == 2
    assert not list(tmp_path.glob("~*"))


def test_every_path_is_expanded_by_one_function() -> None:
    """``Path.expanduser`` raises RuntimeError, which no caller expects."""
    found = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tui_lab").rglob("*.py")
        if ".expanduser(" in path.read_text("utf-8")
    ]
    assert found == ["tui_lab/core/paths.py"]
