"""``tui-lab serve``: what is refused before a model is loaded."""

from __future__ import annotations

import socket

import pytest

from tui_lab.cli.main import main
from tui_lab.cli.options import EXIT_USAGE


def test_another_address_needs_a_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUI_LAB_SERVE_KEY", raising=False)
    assert main(["serve", "--host", "0.0.0.0"]) == EXIT_USAGE
    assert "a key is needed: set TUI_LAB_SERVE_KEY" in capsys.readouterr().err.replace("\n", " ")


def test_a_busy_port_and_an_unknown_run_come_before_loading(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port]) == EXIT_USAGE
    assert f"127.0.0.1:{port} cannot be used" in capsys.readouterr().err
    assert main(["serve", "no-such-run"]) == EXIT_USAGE
    assert "no-such-run" in capsys.readouterr().err
