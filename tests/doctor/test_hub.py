"""The hub and its cache: no token is ever shown, nobody is asked unasked."""

from pathlib import Path

import pytest

from tests.doctor.test_folders import Free
from tui_lab.doctor import hub


def test_hub_never_shows_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    secret = "hf_SECRETSECRET"
    for environment in ({"HF_TOKEN": secret}, {"HUGGING_FACE_HUB_TOKEN": secret}):
        check = hub.check_hub(environment, False)
        assert check.state == "ok" and "token from" in check.found and check.advice == ""
        assert secret not in check.found + check.advice
    (tmp_path / "token").write_text(secret)
    assert "a token file" in hub.check_hub({}, False).found
    (tmp_path / "token").write_text("")
    none = hub.check_hub({}, False)
    assert "no token" in none.found and "Llama" in none.advice
    for value in ("1", "true", "ON"):
        assert "HF_HUB_OFFLINE" in hub.check_hub({"HF_HUB_OFFLINE": value}, True).found
    assert "not checked" in hub.check_hub({"HF_HUB_OFFLINE": "0"}, False).found


def test_hub_is_asked_only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(hub, "run_child", lambda code, *_: asked.append(code))
    hub.check_hub({}, False)
    assert asked == []
    assert "answers in" in hub.check_hub({}, True).found
    assert len(asked) == 1 and "model_info" in asked[0]


def test_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    check = hub.check_hub({}, True)
    assert check.state == "warn" and "no answer" in check.found and "network" in check.advice


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not exist yet" in hub.check_cache(tmp_path / "none" / "hub").found
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "a").write_bytes(bytes(3_000_000))
    (tmp_path / "link").symlink_to(tmp_path / "blobs" / "a")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert hub.folder_size(tmp_path) == (3_000_000, True)
    assert "2.86 MiB used" in hub.check_cache(tmp_path).found
    assert hub.folder_size(tmp_path, limit_s=-1)[1] is False
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: Free(1e9))
    assert hub.check_cache(tmp_path).state == "warn"
