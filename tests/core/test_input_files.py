"""The reader for files from outside refuses what is no regular file, too large, too deep or too slow."""

from __future__ import annotations

import json
import os
import socket
import time
import tomllib
from pathlib import Path

import pytest

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.records import from_json


def special(tmp_path: Path, kind: str) -> Path:
    """Something in a folder that is no regular file."""
    path = tmp_path / "file"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "terminal":
            path.symlink_to("/dev/ptmx")
        case "socket":
            socket.socket(socket.AF_UNIX).bind(str(path))
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
    return path


@pytest.mark.parametrize("kind", ["pipe", "device", "terminal", "socket", "folder", "loop"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = special(tmp_path, kind)
    for read in (input_files.read_bytes, input_files.read_text, input_files.read_json, input_files.read_toml):
        with pytest.raises(OSError) as raised:
            read(path)
        assert raised.value.strerror


def resource_count() -> int:
    """Open descriptors of this process, where the system says."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = special(tmp_path, "pipe")
    before = resource_count()
    for _ in range(5):
        with pytest.raises(OSError):
            input_files.open_regular(path)
        with pytest.raises(OSError):
            input_files.open_to_append(path)
    assert resource_count() == before


def test_size_and_time_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 3000)
    assert input_files.read_bytes(path, 3000) == b"a" * 3000
    with pytest.raises(OSError, match="larger than 2 KiB"):
        input_files.read_bytes(path, 2999)
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than 1 MiB"):
        input_files.read_toml(sparse)
    monkeypatch.setattr(input_files, "READ_S", -1.0)
    with pytest.raises(OSError, match="not read within"):
        input_files.read_bytes(path)


def test_text_is_read_as_python_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("a\r\nb\rcä\n".encode())
    assert input_files.read_text(path) == path.read_text(encoding="utf-8")


def test_a_file_that_grows_is_read_up_to_the_bound() -> None:
    with pytest.raises(OSError):
        input_files.read_bytes("/proc/self/pagemap", 1 << 16)  # regular, of size 0, and without end


NESTED = {
    "lists": "[" * 200 + "]" * 200,
    "objects": '{"a":' * 200 + "1" + "}" * 200,
    "recursion": "[" * 100_000,
    "wide and deep": '{"a": [' + "1," * 1000 + "[" * 150 + "]" * 150 + "]}",
}


@pytest.mark.parametrize("text", NESTED.values(), ids=NESTED)
def test_deep_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nested"):
        input_files.parse_json(text)
    with pytest.raises(LabError, match="nested"):
        from_json(text.encode(), dict, "a file")


def test_usual_json_is_read() -> None:
    value = {"a": [[1, {"b": None}]] * 500, "deep": json.loads("[" * 90 + "]" * 90)}
    assert input_files.parse_json(json.dumps(value)) == value


def test_numbers_beyond_a_float_are_one_sentence() -> None:
    for text in ("1" + "0" * 400, "1" + "0" * 5000):
        with pytest.raises(LabError, match=r"number|digits"):
            from_json(text, float, "a loss")


BOMBS = {
    "dotted key": ".".join(["a"] * 50_000) + " = 1",
    "dotted table": "[" + ".".join(["a"] * 50_000) + "]",
    "quoted parts": ".".join(['"a"'] * 50_000) + " = 1",
    "spaces": " . ".join(["a"] * 40_000) + " = 1",
    "in an inline table": "x = {" + ".".join(["a"] * 50_000) + " = 1}",
    "lists": "x = " + "[" * 50_000,
    "inline tables": "x = " + "{a = " * 5_000,
    "long": "x = '" + "a" * (1 << 20) + "'",
    "arrays of tables": "\n".join(f"[[{'.'.join(['a'] * n)}]]" for n in range(1, 150)),
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_toml_bombs_are_refused_at_once(text: str) -> None:
    began = time.process_time()
    with pytest.raises(tomllib.TOMLDecodeError):
        input_files.parse_toml(text)
    assert time.process_time() - began < 1.5


def test_texts_full_of_dots_are_no_bombs() -> None:
    dots = "." * 500
    text = f'# {dots}\na = \'{dots}\'\nb = "\\"{dots}"\nc = """\n{dots}\n"""\nd = \'\'\'{dots}\'\'\'\n'
    text += "e = [" + "1.5, " * 300 + "]\n" + "f.g.h = 1.25\n"
    assert input_files.parse_toml(text) == tomllib.loads(text)
