"""What arrives of a data set of the hub is reported, without a network: files that grow in the cache."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tui_lab.core import format
from tui_lab.data import hub_download
from tui_lab.models.download import DownloadProgress


@pytest.fixture
def blobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub_download, "POLL_S", 0.01)
    folder = hub_download.folder("owner/set")
    folder.mkdir(parents=True)
    return folder


def test_bytes_total_and_speed_are_reported_while_files_grow(blobs: Path) -> None:
    (blobs / "whole").write_bytes(b"x" * 400)
    found: list[DownloadProgress] = []
    arrived = threading.Event()

    def take(progress: DownloadProgress) -> None:
        found.append(progress)
        arrived.set()

    with hub_download.reporting(take), hub_download.watched("owner/set", 1000):
        for size in (100, 500, 900):  # the last one is more than there should be
            arrived.clear()
            with (blobs / "part.incomplete").open("ab") as part:
                part.write(b"x" * (size - part.tell()))
            assert arrived.wait(5)
    assert [progress.done_bytes for progress in found] == [500, 900, 1000]
    assert all(progress.total_bytes == 1000 and progress.bytes_per_s > 0 for progress in found)
    assert found[0].text.startswith("downloading owner/set: 500 B of 1000 B, ")
    assert not hub_download.is_reported()


def test_without_a_total_what_has_arrived_is_reported(blobs: Path) -> None:
    (blobs / "earlier").write_bytes(b"x" * 400)
    found: list[DownloadProgress] = []
    arrived = threading.Event()
    with (
        hub_download.reporting(lambda progress: (found.append(progress), arrived.set())[1]),
        hub_download.watched("owner/set", 0),
    ):
        (blobs / "part").write_bytes(b"x" * 2048)
        assert arrived.wait(5)
    assert found[0].done_bytes == 2048 and " of " not in found[0].text
    assert format.transfer(2048, 0, 0) == "2 KiB"


def test_nobody_listens_and_nothing_is_watched(blobs: Path) -> None:
    before = threading.active_count()
    with hub_download.watched("owner/set", 10):
        assert threading.active_count() == before


def test_the_total_is_that_of_the_files_that_are_read() -> None:
    sizes = {"hf://a": 10, "hf://b": 5, "hf://c": 1}
    files = {"train": ["hf://a", "hf://b"], "test": ["hf://b", "hf://c"]}
    builder = SimpleNamespace(config=SimpleNamespace(data_files=files))
    assert hub_download.size_of(builder, sizes.__getitem__) == 16
    for other in (None, {}, {"train": ["https://elsewhere/x"]}):
        assert hub_download.size_of(SimpleNamespace(config=SimpleNamespace(data_files=other)), len) == 0
