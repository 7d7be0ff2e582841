"""Reachability against a real listening socket, with the hub's address turned to it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.models.fake_hub import HUB_ID, serve, use_endpoint
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


def test_a_set_that_the_hub_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = tmp_path / "set", tmp_path / "hub"
    folder.mkdir()
    (folder / "README.md").write_text("public")
    (folder / "rows.jsonl").write_text("{}")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "prepared"))
    with serve(folder, cache, monkeypatch) as found:
        hub.preflight(HUB_ID)
        hub.preflight(f"{HUB_ID}:config")
        for status, code, sentence in (
            (403, "GatedRepo", "it is gated: accept its terms"),
            (403, "", "refuses access to it"),
            (500, "", "answers with the error 500"),
        ):
            found.status, found.error_code = status, code
            with pytest.raises(LabError, match=sentence):
                hub.preflight(HUB_ID)
        with pytest.raises(LabError, match="nor such a set on the hub"):
            hub.preflight("lab/other")
        found.requests.clear()
        (cache / "datasets--lab--tiny" / "snapshots").mkdir(parents=True)
        (tmp_path / "prepared" / "lab___other").mkdir(parents=True)
        for here in (HUB_ID, "lab/other", str(folder), "pirate", "a/b/c", "../x"):
            hub.preflight(here)
        assert not found.requests
    use_endpoint("http://127.0.0.1:9", tmp_path / "none", monkeypatch)
    with pytest.raises(LabError, match="the hub cannot be reached"):
        hub.preflight(HUB_ID)
