"""Reachability against a real listening socket, with the hub's address turned to it."""

from __future__ import annotations

import socket

import pytest
from huggingface_hub import constants

from tui_lab.core.errors import LabError
from tui_lab.data import hub, templates


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        assert hub.reachable()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert not hub.reachable()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", "http://nowhere.invalid")
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{port}")
        assert hub.reachable(), "a proxy is asked instead"
    assert not hub.reachable()


def test_unreachable_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        LabError, match=r"tokenizer of someone/some-model is not on this machine, and the hub"
    ):
        templates.load_tokenizer("someone/some-model")
