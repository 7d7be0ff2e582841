"""Whether the hub is reachable is known at once, also where the look-up of a name hangs."""

from __future__ import annotations

import socket
import time

import pytest
from huggingface_hub import constants

from tui_lab.core import hub_connection
from tui_lab.core.errors import LabError
from tui_lab.models import download


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_a_server_that_listens_is_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert hub_connection.reachable()
    assert not hub_connection.reachable()


def test_a_look_up_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_connection, "CONNECT_S", 0.1)

    def hang(*_: object, **__: object) -> None:
        time.sleep(1.5)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hang)
    began = time.monotonic()
    assert not hub_connection.reachable()
    assert time.monotonic() - began < 1.2


def test_an_absent_model_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_connection, "reachable", lambda: False)
    with pytest.raises(LabError, match="model nobody/nothing cannot be loaded: it is not on this machine"):
        download.check_reachable("nobody/nothing")
