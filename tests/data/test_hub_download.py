"""Files of a data set of the hub arrive with bytes and speed, and continue where a download ended. The hub is
in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import hf_hub_download

from tests.models.fake_hub import COMMIT, HUB_ID, FakeHub, serve
from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.data import hub_download
from tui_lab.models import download
from tui_lab.models.download import DownloadProgress

BIG, SMALL = "train.parquet", "test.parquet"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    files = tmp_path / "files"
    files.mkdir()
    (files / BIG).write_bytes(b"x" * (9 << 20))
    (files / SMALL).write_bytes(b"y" * 1000)
    (files / "other.parquet").write_bytes(b"of another configuration")
    with serve(files, tmp_path / "cache", monkeypatch) as found:
        yield found


def builder(*names: str, data_files: Any = ...) -> Any:
    files = {"train": [f"hf://datasets/{HUB_ID}@{COMMIT}/{name}" for name in names]}
    return SimpleNamespace(config=SimpleNamespace(data_files=files if data_files is ... else data_files))


def test_the_files_of_a_set_arrive_with_bytes_total_and_speed(hub: FakeHub, tmp_path: Path) -> None:
    seen: list[DownloadProgress] = []
    with download.reporting(seen.append, 0.0):
        hub_download.fetch(builder(BIG, SMALL))
    total = len(hub.files[BIG]) + len(hub.files[SMALL])
    assert (seen[-1].done_bytes, seen[-1].total_bytes) == (total, total) and seen[-1].bytes_per_s > 0
    assert seen[-1].text.startswith(f"downloading {HUB_ID}: 9 MiB of 9 MiB")
    # as the library reads them, without a request for their contents
    hub.requests.clear()
    for name in (BIG, SMALL):
        path = Path(hf_hub_download(HUB_ID, name, repo_type="dataset", revision=COMMIT,
                                    cache_dir=tmp_path / "cache"))  # fmt: skip
        assert path.read_bytes() == hub.files[name]
    assert not [request for request in hub.requests if request.startswith("GET")]
    assert not list((tmp_path / "cache").rglob("other.parquet"))


def test_a_set_continues_where_its_download_ended(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RETRY_S", 0.0)
    monkeypatch.setattr(download, "MOST_TRIES", 1)
    hub.cut_after = 5 << 20
    with pytest.raises(LabError, match=r"ended at 5 MiB of 9 MiB: the connection .* start again to continue"):
        hub_download.fetch(builder(BIG))
    hub.cut_after = None
    hub.ranges.clear()
    hub_download.fetch(builder(BIG))
    assert hub.ranges == [f"bytes={5 << 20}-"]


def test_other_files_are_left_to_the_library(hub: FakeHub) -> None:
    for files in (None, {}, {"train": ["https://elsewhere/x"]}, "a string"):
        hub_download.fetch(builder(data_files=files))
    assert hub.requests == []
    assert format.transfer(2048, 0, 0) == "2 KiB"
