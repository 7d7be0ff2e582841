"""The recording of the demo: the one that ships is whole, small and names no machine's paths; a damaged one
is a sentence."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.ui.demo import recorded_demo
from tests.ui.demo.record_demo import PATH, paths
from tui_lab.core.errors import LabError
from tui_lab.runs.state import Watcher
from tui_lab.ui.demo import recording

MOST_BYTES = 400 << 10


def test_the_shipped_recording_is_complete_and_small(tmp_path: Path) -> None:
    assert recording.SHIPPED.stat().st_size < MOST_BYTES
    assert paths(recording.SHIPPED) == []
    found = recording.unpack(tmp_path)
    assert set(found.runs) == {"naive", "keeper"}
    for run in found.runs.values():
        state = Watcher(run).read_all()
        assert state.end.state == "finished" and state.step == state.total_steps
        assert state.item_probes and (run.path / "retention" / "everyday.json").is_file()
    assert len(found.answers) == 3, "one for each prompt of the story"
    assert found.about.date in found.label


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ('{"path":"/tmp/a b"}', True),
        ("folder=/home/me/runs", True),
        ("see https://host/opt/x and a/usr/b", False),
        ("tokens/s, and/or", False),
    ],
)
def test_what_counts_as_a_path(text: str, there: bool) -> None:
    assert bool(PATH.search(text)) is there


def test_packing_is_reproducible(tmp_path: Path, runs_dir: Path) -> None:
    (tmp_path / "kept").mkdir()
    kept = recorded_demo.make(tmp_path / "kept")
    recording.pack(kept, tmp_path / "one.zip")
    recording.pack(kept, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    found = recording.unpack(tmp_path / "again", tmp_path / "one.zip")
    before = recording.read(kept)
    for name, run in before.runs.items():
        assert found.runs[name].events_path.read_bytes() == run.events_path.read_bytes()
    assert found.answers == before.answers and found.label == "2026-01-02, a slow ␛[31mmachine"
    (before.runs["naive"].path / "retention" / "everyday.json").unlink()
    with pytest.raises(LabError, match="was not played to its end"):
        recording.pack(kept, tmp_path / "three.zip")


def test_a_missing_or_damaged_recording_raises_a_lab_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is missing"):
        recording.unpack(tmp_path, tmp_path / "none.zip")
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(LabError, match="cannot be read"):
        recording.unpack(tmp_path, tmp_path / "bad.zip")
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as packed:
        packed.writestr("../outside", "x")
        packed.writestr("about.json", "[]")
    with pytest.raises(LabError, match="holds no recording"):
        recording.unpack(tmp_path / "in", tmp_path / "odd.zip")
    assert not (tmp_path / "outside").exists()


def test_only_the_files_of_a_recording_are_unpacked_and_only_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    recording.pack(recorded_demo.make(kept), tmp_path / "whole.zip")
    with zipfile.ZipFile(tmp_path / "whole.zip", "a") as packed:
        for name in ("runs/../../outside", "runs/x/adapter/weights.bin", "/etc/passwd", "runs/../about.json"):
            packed.writestr(name, "x")
    found = recording.unpack(tmp_path / "in", tmp_path / "whole.zip")
    unpacked = {path.relative_to(tmp_path / "in").as_posix() for path in (tmp_path / "in").rglob("*.*")}
    assert len(unpacked - {"retention"}) == 2 + len(found.runs) * len(recording.RUN_FILES)
    assert not (tmp_path / "outside").exists()
    monkeypatch.setattr(recording, "MAX_BYTES", 1_000)
    with pytest.raises(LabError, match="larger than a recording"):
        recording.unpack(tmp_path / "large", tmp_path / "whole.zip")
    monkeypatch.setattr(recording, "MAX_BYTES", 32 << 20)
    monkeypatch.setattr(recording, "MAX_FILES", 3)
    with pytest.raises(LabError, match="larger than a recording"):
        recording.unpack(tmp_path / "many", tmp_path / "whole.zip")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (recording.ABOUT, '{"runs": ["naive"]}'),
        (recording.ABOUT, "{"),
        (recording.ANSWERS, '{"prompt": 1, "lanes": [], "events": [], "perplexities": []}'),
        (recording.ANSWERS, '{"prompt": "a", "lanes": [], "events": [[0, "tokens"]], "perplexities": []}'),
        (recording.ANSWERS, "[" * 100_000),
    ],
)
def test_records_of_another_shape_raise_a_lab_error(tmp_path: Path, file: str, text: str) -> None:
    kept = recorded_demo.make(tmp_path)
    (kept / file).write_text(text, encoding="utf-8")
    with pytest.raises(LabError, match="holds no recording of the demo"):
        recording.read(kept)
