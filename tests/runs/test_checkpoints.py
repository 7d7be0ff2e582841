"""Whole checkpoints are told from damaged ones, whatever happened to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.runs import checkpoints

FILES = {
    "adapter_model.safetensors": b"\x00" * 999 + b"weights",
    "optimizer.pt": b"states" * 400,
    "scheduler.pt": b"schedule",
    "trainer_state.json": b'{"global_step": 4}',
    "deep/inside.json": b"{}",
}


def make(parent: Path, step: int, sealed: bool = True) -> Path:
    folder = parent / f"checkpoint-{step}"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if sealed:
        checkpoints.seal(folder)
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGES: dict[str, Callable[[Path], None]] = {"cut": cut, "flipped": flip, "gone": Path.unlink}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", [*FILES, checkpoints.MANIFEST])
def test_a_damaged_checkpoint_is_skipped_for_an_earlier_one(tmp_path: Path, name: str, how: str) -> None:
    older, newest = make(tmp_path, 8), make(tmp_path, 12)
    assert checkpoints.find(tmp_path).chosen == newest
    DAMAGES[how](newest / name)
    found = checkpoints.find(tmp_path)
    if name == checkpoints.MANIFEST and how == "flipped" and found.chosen == newest:
        pytest.skip("the bit was in a blank")
    assert found.chosen == older
    [(path, wrong)] = found.passed_over
    assert path == newest and wrong
    if name != checkpoints.MANIFEST:
        assert name in wrong
    [sentence] = checkpoints.quarantine(found)
    assert "step 12" in sentence and "step 8" in sentence and wrong in sentence
    assert not newest.exists()
    kept = tmp_path / "damaged-checkpoint-12"
    assert kept.exists() == (not (name == checkpoints.MANIFEST and how == "gone"))
    assert checkpoints.find(tmp_path) == checkpoints.CheckpointSearch(older, [])


def test_an_unfinished_checkpoint_is_deleted_and_the_run_begins_again(
    tmp_path: Path,
) -> None:
    half = make(tmp_path, 4, sealed=False)
    found = checkpoints.find(tmp_path)
    assert found.chosen is None
    [sentence] = checkpoints.quarantine(found)
    assert "not finished" in sentence and "the beginning" in sentence
    assert not half.exists() and not list(tmp_path.iterdir())


def test_other_names_and_a_missing_folder_give_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.find(tmp_path / "nowhere") == checkpoints.CheckpointSearch(None, [])
    for name in ("checkpoint-", "checkpoint-x", "checkpoint--3", "checkpoint-٣", "other-7"):
        (tmp_path / name).mkdir()
    assert checkpoints.find(tmp_path) == checkpoints.CheckpointSearch(None, [])
    (tmp_path / "checkpoint-9").mkdir()
    (tmp_path / "checkpoint-9" / checkpoints.MANIFEST).write_text('{"files": {}}')
    assert checkpoints.find(tmp_path).passed_over[0][1] == "it is empty"


@given(st.binary(max_size=200))
def test_any_manifest_is_valid_or_has_a_reason(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    parent = tmp_path_factory.mktemp("any")
    folder = make(parent, 3)
    (folder / checkpoints.MANIFEST).write_bytes(content)
    assert checkpoints.find(parent).chosen is None
    shutil.rmtree(parent)


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_every_byte_of_a_large_file_is_digested(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_PIECE_BYTES", 10)
    monkeypatch.setattr(checkpoints, "DIGESTED_BYTES", 40)
    folder = make(tmp_path, 3)
    (folder / "large").write_bytes(bytes(100))
    checkpoints.seal(folder)
    assert checkpoints.validation_error(folder) == ""
    data = bytearray(100)
    data[place] = 1
    (folder / "large").write_bytes(bytes(data))
    assert checkpoints.validation_error(folder) == "large differs from what was written"


def test_manifests_of_earlier_versions_have_digests_of_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_PIECE_BYTES", 10)
    monkeypatch.setattr(checkpoints, "DIGESTED_BYTES", 40)
    folder = make(tmp_path, 3)
    (folder / "large").write_bytes(bytes(100))
    names = [path for path in sorted(folder.rglob("*")) if path.name != checkpoints.MANIFEST]
    listed = {
        path.relative_to(folder).as_posix(): checkpoints.FileDigest(
            path.stat().st_size, checkpoints.digest(path, complete=False)
        )
        for path in names
        if path.is_file()
    }
    old = {"files": {name: {"bytes": file.bytes, "digest": file.digest} for name, file in listed.items()}}
    (folder / checkpoints.MANIFEST).write_text(json.dumps(old))
    assert checkpoints.validation_error(folder) == ""
    (folder / "large").write_bytes(b"x" + bytes(99))
    assert checkpoints.validation_error(folder) == "large differs from what was written"
