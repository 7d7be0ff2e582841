"""The reader for files from outside: models, presets, themes, settings, recipes, run folders, data.

Only regular files are read: a pipe or a device would wait or never end. Size, depth and time are bounded.
What cannot be read is an OSError whose ``strerror`` continues a sentence about the file; what cannot be
parsed is a ValueError.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
import tomllib
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

#: Limits of size. A settings file, a theme, a preset or a recipe has a few kilobytes.
TOML_BYTES: Final = 1 << 20
JSON_BYTES: Final = 16 << 20
TEXT_BYTES: Final = 16 << 20
#: Limit of files with scores of many items, and of caches that the lab writes itself.
SCORES_BYTES: Final = 512 << 20
#: Levels of lists and objects, and parts of a dotted key.
MOST_LEVELS: Final = 100
#: Seconds in which a file must be read, as from a network disk that hangs between two blocks.
READ_S: Final = 60.0
_BLOCK_BYTES: Final = 1 << 20
#: What a text in TOML consists of: strings and comments, which may hold dots, and the rest.
_TOML_PARTS: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[.]|[\n=,{]|[^"\'#.\n=,{]+|.',
    re.DOTALL,
)


def open_regular(path: Path | str) -> BufferedReader:
    """Opens a regular file for reading. Raises OSError, also for a pipe, a device or a folder."""
    _check_regular(os.stat(path), path)  # noqa: PTH116 (before it is opened: to open a device may do something)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _check_regular(os.fstat(descriptor), path)  # it may have been replaced
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(status: os.stat_result, path: Path | str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def open_to_append(path: Path | str) -> int:
    """The descriptor of a regular file that is created with mode 0600, for reading and appending whole
    records. Raises OSError, also for a pipe, which would wait for a reader."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        _check_regular(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_bytes(path: Path | str, most_bytes: int = TEXT_BYTES) -> bytes:
    """The content of a regular file. Raises OSError, also for one that is longer than ``most_bytes``."""
    deadline = time.monotonic() + READ_S
    blocks: list[bytes] = []
    size = 0
    with open_regular(path) as file:
        while block := file.read(_BLOCK_BYTES):
            blocks.append(block)
            size += len(block)
            if size > most_bytes:
                raise OSError(errno.EFBIG, f"it is larger than {_size(most_bytes)}", str(path))
            if time.monotonic() > deadline:
                raise OSError(errno.ETIMEDOUT, f"it was not read within {READ_S:g} s", str(path))
    return b"".join(blocks)


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >> 20 else f"{count >> 10} KiB"


def read_text(path: Path | str, most_bytes: int = TEXT_BYTES, errors: str = "strict") -> str:
    """The text of a regular file in UTF-8, every end of a line as "\\n". Raises OSError and
    UnicodeDecodeError."""
    text = read_bytes(path, most_bytes).decode("utf-8", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def read_json(path: Path | str, most_bytes: int = JSON_BYTES) -> Any:
    """The value in a JSON file. Raises OSError and ValueError."""
    return parse_json(read_bytes(path, most_bytes))


def read_toml(path: Path | str) -> dict[str, Any]:
    """The tables of a TOML file. Raises OSError and ValueError."""
    return parse_toml(read_text(path, TOML_BYTES))


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, also for one that is nested too deeply."""
    import json  # the lab's first frame reads no JSON

    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    lists, objects = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if text.count(lists) + text.count(objects) > MOST_LEVELS:  # type: ignore[arg-type]
        _check_levels(value)
    return value


def _check_levels(value: object) -> None:
    """Raises ValueError for lists and objects in one another beyond the limit: code that walks through them
    calls itself for each level."""
    level: list[object] = [value]
    for _ in range(MOST_LEVELS):
        level = [
            item
            for each in level
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {MOST_LEVELS} levels")


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises TOMLDecodeError, also for one that is nested too deeply."""
    if len(text) > TOML_BYTES:
        raise tomllib.TOMLDecodeError(f"it is larger than {_size(TOML_BYTES)}")
    if any(line.count(".") > MOST_LEVELS for line in text.split("\n")):
        _check_dots(text)
    try:
        value = tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("it is nested too deeply") from None
    if text.count("[") + text.count("{") + text.count(".") > MOST_LEVELS:
        try:
            _check_levels(value)
        except ValueError as error:
            raise tomllib.TOMLDecodeError(str(error)) from None
    return value


def _check_dots(text: str) -> None:
    """Raises TOMLDecodeError for a dotted key of too many parts: its time and memory grow with the square."""
    dots = 0
    for part in _TOML_PARTS.finditer(text):
        if part[0] == ".":
            dots += 1
        elif part[0] in ("\n", "=", ",", "{"):
            dots = 0
        if dots > MOST_LEVELS:
            raise tomllib.TOMLDecodeError(f"a key has more than {MOST_LEVELS} parts")
