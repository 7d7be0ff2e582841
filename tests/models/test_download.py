"""Downloads from a hub in this process: bytes and speed, continuing, and refusals before anything starts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.fake_hub import COMMIT, HUB_ID, FakeHub, serve, use_endpoint
from tui_lab.core.errors import LabError
from tui_lab.data import templates
from tui_lab.models import catalog, download
from tui_lab.models.download import DownloadProgress, Kind
from tui_lab.pocket import MODEL_DIR
from tui_lab.runs.references import adapter_target

WEIGHTS = "model.safetensors"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serve(MODEL_DIR, cache, monkeypatch) as found:
        yield found


class _Killed(BaseException):
    """The process ends here."""


def test_a_download_reports_bytes_total_and_speed(hub: FakeHub) -> None:
    hub.files["pytorch_model.bin"] = b"a pickle"
    hub.files["consolidated.safetensors"] = b"the same weights in another form"
    seen: list[DownloadProgress] = []
    plan = download.preflight(HUB_ID)
    assert plan is not None and plan.missing_bytes == plan.total_bytes > len(hub.files[WEIGHTS])
    download.ensure(HUB_ID, on_progress=seen.append, interval_s=0.0)
    done = [progress.done_bytes for progress in seen]
    assert done == sorted(done) and done[-1] == plan.total_bytes
    assert {progress.total_bytes for progress in seen} == {plan.total_bytes}
    assert seen[-1].bytes_per_s > 0 and "/s" in seen[-1].text and HUB_ID in seen[-1].text
    entry = catalog.find(HUB_ID)
    assert entry.on_disk and entry.path is not None
    for name in (WEIGHTS, "config.json", "tokenizer.json"):
        assert (entry.path / name).read_bytes() == hub.files[name]
    assert not (entry.path / "pytorch_model.bin").exists()
    assert not (entry.path / "consolidated.safetensors").exists()


def test_what_is_here_is_not_requested(hub: FakeHub) -> None:
    download.ensure(HUB_ID)
    hub.requests.clear()
    assert download.preflight(HUB_ID) is None
    assert download.preflight(HUB_ID, COMMIT) is None
    assert download.preflight(str(MODEL_DIR)) is None
    assert hub.requests == []
    assert download.preflight(HUB_ID, "d" * 40) is not None, "another revision is not here"


def test_an_interrupted_download_continues(hub: FakeHub, cache: Path) -> None:
    size = len(hub.files[WEIGHTS])

    def kill(progress: DownloadProgress) -> None:
        if progress.done_bytes > size // 2:
            raise _Killed

    with pytest.raises(_Killed):
        download.ensure(HUB_ID, on_progress=kill, interval_s=0.0)
    (part,) = cache.rglob("*.part")
    there = part.stat().st_size
    assert 0 < there < size
    hub.ranges.clear()
    seen: list[DownloadProgress] = []
    download.ensure(HUB_ID, on_progress=seen.append, interval_s=0.0)
    assert hub.ranges == [f"bytes={there}-"]
    assert seen[0].done_bytes >= there
    found = catalog.local_folder(HUB_ID)
    assert found is not None and (found / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert not list(cache.rglob("*.part"))


def test_a_lost_connection_is_made_again_and_then_a_sentence(
    hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RETRY_S", 0.0)
    hub.cut_after = 3 << 20
    download.ensure(HUB_ID)  # three connections
    assert len(hub.ranges) == 3 and catalog.find(HUB_ID).on_disk
    (blob,) = [path for path in cache.rglob("blobs/*") if path.stat().st_size == len(hub.files[WEIGHTS])]
    blob.rename(blob.with_name(blob.name + ".part"))
    with (blob.parent / (blob.name + ".part")).open("r+b") as part:
        part.truncate(4 << 20)
    hub.cut_after = 0
    with pytest.raises(LabError, match=r"ended at .* of .*: the connection .* lost; start again to continue"):
        download.ensure(HUB_ID)


def test_a_damaged_file_is_not_used(hub: FakeHub, cache: Path) -> None:
    real = hub.sha256
    hub.sha256 = lambda name: "0" * 64 if name == WEIGHTS else real(name)  # type: ignore[method-assign]
    with pytest.raises(LabError, match="arrived damaged"):
        download.ensure(HUB_ID)
    assert not list(cache.rglob("*.part")) and not catalog.find(HUB_ID).on_disk


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (403, "GatedRepo", "it is gated: accept its licence"),
        (401, "GatedRepo", "it is gated: accept its licence"),
        (403, "", "the hub refuses access to it: log in"),
        (500, "", "the hub answers with the error 500"),
    ],
)
def test_a_refusal_comes_before_the_download(hub: FakeHub, status: int, code: str, sentence: str) -> None:
    hub.status, hub.error_code = status, code
    with pytest.raises(LabError, match=sentence):
        download.preflight(HUB_ID)
    assert not any(request.startswith("GET /lab") for request in hub.requests)


def test_unknown_offline_and_unusable_models(
    hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LabError, match="the hub has no such model"):
        download.preflight("lab/other")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: type("Free", (), {"free": 1000}))
    with pytest.raises(LabError, match="are missing and 1000 B are free"):
        download.preflight(HUB_ID)
    del hub.files[WEIGHTS]
    with pytest.raises(LabError, match="weights in other formats are not read"):
        download.preflight(HUB_ID)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LabError, match="the hub cannot be reached"):
        download.preflight(HUB_ID)
    use_endpoint("http://127.0.0.1:9", cache, monkeypatch)
    with pytest.raises(LabError, match="the hub cannot be reached"):
        download.preflight(HUB_ID)


def test_an_adapter_is_reported_and_continued(hub: FakeHub, cache: Path) -> None:
    weights = b"a" * (6 << 20)
    hub.files.clear()
    hub.files["adapter_config.json"] = b'{"base_model_name_or_path": "some/model"}'
    hub.files["adapter_model.safetensors"] = weights

    def kill(progress: DownloadProgress) -> None:
        if progress.done_bytes > len(weights) // 2:
            raise _Killed

    with pytest.raises(_Killed), download.reporting(kill, 0.0):
        adapter_target(HUB_ID)
    (part,) = cache.rglob("*.part")
    there = part.stat().st_size
    hub.ranges.clear()
    seen: list[DownloadProgress] = []
    with download.reporting(seen.append, 0.0):
        found = adapter_target(HUB_ID)
    assert hub.ranges == [f"bytes={there}-"] and found.location == "some/model"
    assert found.adapter is not None
    assert sorted(path.name for path in found.adapter.iterdir()) == sorted(download.ADAPTER_FILES)
    assert (found.adapter / "adapter_model.safetensors").read_bytes() == weights
    total = len(weights) + len(hub.files["adapter_config.json"])
    assert seen[0].done_bytes >= there and (seen[-1].done_bytes, seen[-1].total_bytes) == (total, total)
    hub.status = 500  # of files: nothing is downloaded again
    assert adapter_target(HUB_ID) == found


def test_an_adapter_that_ends_early_says_how_it_continues(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RETRY_S", 0.0)
    hub.files["adapter_config.json"] = b"{}"
    hub.files["adapter_model.safetensors"] = b"a" * (6 << 20)
    first, stream = hub.files["adapter_model.safetensors"][: 1 << 20], download._receive

    def receive(url: str, headers: dict[str, str], target: Any, total: int) -> None:
        target.write(first)
        hub.cut_after = 0
        stream(url, headers, target, total)

    monkeypatch.setattr(download, "_receive", receive)
    with pytest.raises(
        LabError, match=r"ended at 1 MiB of .*: the connection .* lost; start again to continue"
    ):
        download.adapter_folder(HUB_ID)


def test_an_adapter_brings_its_tokenizer_and_its_chat_template(
    hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is here is used with them; other files of the repository are left there."""
    hub.files["adapter_config.json"] = hub.files["adapter_model.safetensors"] = b"{}"
    template = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"
    hub.files["chat_template.jinja"] = template.encode()
    found = download.adapter_folder(HUB_ID)
    assert {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"} <= {
        path.name for path in found.iterdir()
    }
    assert not (found / WEIGHTS).exists()
    tokenizer = templates.load_for(str(MODEL_DIR), saved=found)
    assert tokenizer.chat_template == template
    use_endpoint("http://127.0.0.1:9", cache, monkeypatch)
    assert download.adapter_folder(HUB_ID) == found


@pytest.mark.parametrize("kind", ["adapter", "data set"])
def test_what_is_downloaded_is_named_when_it_fails(
    hub: FakeHub, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk has a fault")

    hub.files["weights.bin"] = b"a" * (6 << 20)
    plan = download.plan_of_files(HUB_ID, "", ["config.json"], kind)
    download.fetch(plan)
    plan = download.plan_of_files(HUB_ID, "", ["config.json", "weights.bin"], kind)
    with monkeypatch.context() as patched:
        patched.setattr(download, "_download_blob", fail)
        with pytest.raises(
            LabError, match=f"ended at .*: {kind} {HUB_ID} cannot be downloaded: the disk has"
        ):
            download.fetch(plan)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: type("Free", (), {"free": 1000}))
    with pytest.raises(
        LabError, match=f"^{kind} {HUB_ID} cannot be downloaded: 6 MiB are missing and 1000 B"
    ):
        download.fetch(plan)


def test_an_adapter_that_is_here_needs_no_hub(
    hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files["adapter_config.json"] = hub.files["adapter_model.safetensors"] = b"{}"
    found = adapter_target(HUB_ID)
    use_endpoint("http://127.0.0.1:9", cache, monkeypatch)
    assert adapter_target(HUB_ID) == found
    shutil.rmtree(cache)
    with pytest.raises(LabError, match="neither a run nor a local folder, and cannot be downloaded"):
        adapter_target(HUB_ID)


def test_a_gated_adapter_says_what_to_do(hub: FakeHub) -> None:
    hub.files["adapter_config.json"] = hub.files["adapter_model.safetensors"] = b"{}"
    hub.status, hub.error_code = 403, "GatedRepo"
    with pytest.raises(LabError, match=r"cannot be downloaded from the hub \(it is gated: accept"):
        adapter_target(HUB_ID)
