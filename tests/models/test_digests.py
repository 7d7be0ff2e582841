"""Digests of files are computed once, and a large data file is hashed completely where rows are cached."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_lab.core import input_files
from tui_lab.models import digests


def test_a_data_file_is_read_once_for_the_cache_and_for_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    open_regular = input_files.open_regular
    monkeypatch.setattr(
        input_files, "open_regular", lambda path: (opened.append(path), open_regular(path))[1]
    )
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n" * 100)
    digests.content_digest(path)
    digests.data_digest(path)
    digests.data_digest(tmp_path)
    assert len(opened) == 1


def test_any_changed_byte_of_a_large_file_changes_the_digest_of_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "WHOLE_BYTES", 1000)
    path = tmp_path / "rows.jsonl"
    content = bytearray(b"a" * 100_000)
    found = set()
    for at in (0, 30_011, 99_999):
        content[at] = ord("b")
        path.write_bytes(content)
        found.add(digests.content_digest(path))
    assert len(found) == 3
