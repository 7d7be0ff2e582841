"""An error of tui-lab itself is one sentence and a log, and a record where JSON is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tui_lab.cli import main as cli


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("in the \x1b[31m middle"), ModuleNotFoundError(name="tui_lab.x")]
)
@pytest.mark.parametrize("words", [["runs"], ["runs", "-o", "json"], ["doctor", "--json"], []])
def test_a_fault_is_one_sentence_with_a_log(
    words: list[str],
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object) -> int:
        raise error

    monkeypatch.setenv("TUI_LAB_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(cli, "handler", lambda _: broken)
    assert cli.main(words) == cli.EXIT_FAILED
    out, err = capsys.readouterr()
    log = tmp_path / "state" / cli.FAULT_LOG
    assert "Traceback" not in out + err and "\x1b" not in out + err
    assert type(error).__name__ in err and str(log) in err and err.count("\n") == 1
    report = log.read_text()
    assert "Traceback" in report and "in broken" in report
    if len(words) > 1:
        answer = json.loads(out)
        assert answer["kind"] == "error" and answer["error"]["exit_code"] == cli.EXIT_FAILED
        assert str(log) in answer["error"]["message"]
    else:
        assert out == ""


def test_a_log_that_cannot_be_written_is_no_second_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUI_LAB_STATE_DIR", str(tmp_path / "file" / "state"))
    monkeypatch.setattr(cli, "handler", lambda _: lambda _: 1 // 0)
    assert cli.main(["runs"]) == cli.EXIT_FAILED
    assert "cannot be written" in capsys.readouterr().err
