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

from tui_lab.core import input_files

#: The library refuses a longer header, too (MAX_HEADER_SIZE).
MAX_HEADER_BYTES: Final = 100_000_000
#: Bits of a value of each type; other types have at least four.
_BITS: Final = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16,
    "I16": 16, "U16": 16, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8,
}  # fmt: skip
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
    with input_files.open_regular(path) as file:
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
    except (ValueError, RecursionError, OverflowError):  # msgspec.ValidationError is a ValueError
        raise BadSafetensors("has a damaged header; get the file again") from None
    for name, entry in tensors.items():
        _check_entry(name, entry)
    needed = 8 + length + max((entry.data_offsets[1] for entry in tensors.values()), default=0)
    if size < needed:
        raise BadSafetensors(f"is truncated: it has {size:,} of {needed:,} bytes; get the file again")
    if size > needed:
        raise BadSafetensors(f"has {size - needed:,} bytes too many; get the file again")
    return tensors


def _check_entry(name: str, entry: TensorEntry) -> None:
    """Raises BadSafetensors for a tensor whose bytes are not those of its shape."""
    begin, end = entry.data_offsets
    values = 1
    for count in entry.shape:
        values *= max(0, count)
        if values > 8 * end:
            break  # a product of absurd sizes is never computed
    bits = _BITS.get(entry.dtype)
    fits = values * bits == 8 * (end - begin) if bits else values <= 8 * (end - begin)
    if begin < 0 or end < begin or min(entry.shape, default=0) < 0 or not fits:
        shown = f"tensor {name[:80]!r} does not have the bytes of its shape"
        raise BadSafetensors(f"has a damaged header: {shown}; get the file again")


def problem(path: Path) -> str:
    """Why a file cannot be loaded, as a sentence that begins with its name; "" for a complete one."""
    try:
        read_header(path)
    except BadSafetensors as error:
        return f"{path.name} {error}"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror or error})"
    return ""
