"""Checks safetensors files without torch: the header and the size of a file show whether it is complete.

Format: https://github.com/huggingface/safetensors#format (8 bytes with the length of a JSON header, the
header with the byte range of each tensor, then the bytes of all tensors without gaps).
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Final

import msgspec

#: The library refuses a longer header, too (MAX_HEADER_SIZE).
MAX_HEADER_BYTES: Final = 100_000_000
_LFS_POINTER: Final = b"version https://git-lfs"


class TensorEntry(msgspec.Struct, frozen=True):
    """One tensor of a header. ``data_offsets``: first and last byte (exclusive) behind the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class BadSafetensors(ValueError):
    """A file that is no complete safetensors file; ``str(error)`` continues a sentence about the file."""


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a file, by name; checks that the file is exactly as long as they need.

    Raises BadSafetensors for a file that is empty, truncated or malformed; OSError when it cannot be read.
    """
    size = path.stat().st_size
    if not size:
        raise BadSafetensors("is empty; get the file again")
    with path.open("rb") as file:
        start = file.read(8)
        if (start + file.read(len(_LFS_POINTER) - 8)).startswith(_LFS_POINTER):
            raise BadSafetensors("is a git-lfs pointer and not the weights; run `git lfs pull` in its folder")
        if len(start) < 8:
            raise BadSafetensors(f"is truncated ({size} bytes); get the file again")
        (length,) = struct.unpack("<Q", start)
        if not 2 <= length <= MAX_HEADER_BYTES:
            raise BadSafetensors("is not a safetensors file; get the file again")
        if 8 + length > size:
            raise BadSafetensors(f"is truncated within its header ({size:,} bytes); get the file again")
        file.seek(8)
        header = file.read(length)
    try:
        entries = msgspec.convert(json.loads(header), dict[str, Any])
        entries.pop("__metadata__", None)
        tensors = msgspec.convert(entries, dict[str, TensorEntry])
    except (ValueError, RecursionError):  # msgspec.ValidationError is a ValueError
        raise BadSafetensors("has a damaged header; get the file again") from None
    needed = 8 + length + max((entry.data_offsets[1] for entry in tensors.values()), default=0)
    if size < needed:
        raise BadSafetensors(f"is truncated: it has {size:,} of {needed:,} bytes; get the file again")
    if size > needed:
        raise BadSafetensors(f"has {size - needed:,} bytes too many; get the file again")
    return tensors


def problem(path: Path) -> str:
    """Why a file cannot be loaded, as a sentence that begins with its name; "" for a complete one."""
    try:
        read_header(path)
    except BadSafetensors as error:
        return f"{path.name} {error}"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror or error})"
    return ""
