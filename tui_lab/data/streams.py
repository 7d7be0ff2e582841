"""Lines of data files, plain or compressed (gzip, zstd, bzip2, xz), read as a stream.

No file is held in memory. A line, the size that a file unpacks to and its encoding are checked while it is
read; every failure is one sentence with file, line and cause."""

from __future__ import annotations

import bz2
import codecs
import gzip
import itertools
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import first_line

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20  # one row of data; longer ones are refused
#: A compressed file may unpack to this much, or to MAX_RATIO times its own size, whichever is more.
FREE_BYTES, MAX_RATIO = 1 << 30, 200
_WIDE = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ": "xz"}
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")

SNIFFED_ROWS = 200  # first rows by which the form of data is found
FileRecord = tuple[str, object]  # (its place in the file, the value: usually a dict or a string)
Records = Iterable[FileRecord]  # can be iterated again
Line = tuple[int, str]  # its number, its text
OnBytes = Callable[[int], None]  # called with the bytes read of the file itself


def data_suffix(path: Path) -> str:
    """The ending that names the format: ".jsonl" of rows.jsonl and of rows.jsonl.gz."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix


def data_stem(path: Path) -> str:
    """The name without the endings of format and compression."""
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSED else path.stem


def check_expansion(path: Path, unpacked: int) -> None:
    """Raises LabError for a file that unpacks to far more than its own size."""
    if unpacked > max(FREE_BYTES, MAX_RATIO * path.stat().st_size):
        raise LabError(
            f"{path} unpacks to more than {unpacked >> 20:,} MiB, over {MAX_RATIO} times its size; it is not "
            "read as data. Unpack and check it first."
        )


def blocks(path: Path, on_bytes: OnBytes | None = None) -> Iterator[bytes]:
    """The unpacked bytes of a file. Raises LabError, or OSError where the file cannot be read."""
    with path.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        kind = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")
        stream = _unpacked(file, kind)
        total = 0
        try:
            while block := stream.read(BLOCK_BYTES):
                total += len(block)
                if kind:
                    check_expansion(path, total)
                if on_bytes is not None:
                    on_bytes(total if not kind else file.tell())
                yield bytes(block)
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if not kind:
                raise
            raise LabError(f"{path} could not be unpacked ({kind}): {first_line(error)}.") from None


def _unpacked(file: IO[bytes], kind: str) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=file)
    if kind == "bz2":
        return bz2.BZ2File(file)
    if kind == "xz":
        return lzma.LZMAFile(file)
    if kind == "zstd":
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.PythonFile(file), "zstd")
    return file


def lines(path: Path, on_bytes: OnBytes | None = None, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[str]:
    """The lines of a text file, each with its line feed. Line ends of Windows and of old Macs count as one.

    A byte-order mark decides between UTF-8, UTF-16 and UTF-32; without one it is UTF-8. Raises LabError for
    what is no such text, and for a line of more than ``max_line_bytes``."""
    for number, raw in enumerate(_raw_lines(path, on_bytes, max_line_bytes), 1):
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise LabError(
                f"{path}, line {number}: byte 0x{raw[error.start]:02x} is not valid UTF-8. "
                "The file has another encoding (Latin-1 or Windows-1252 perhaps); save it as UTF-8."
            ) from None
        yield text


def _raw_lines(path: Path, on_bytes: OnBytes | None, max_line_bytes: int) -> Iterator[bytes]:
    end = b""
    rest: list[bytes] = []  # the beginning of a line that goes on in the next block
    waiting = 0
    for block in _utf8(path, blocks(path, on_bytes)):
        if not end:
            _check_text(path, block)
            # a file of old Macs has no line feed at all
            end = b"\r" if b"\r" in block and b"\n" not in block else b"\n"
        first, *others = block.split(end)
        rest.append(first)
        waiting += len(first)
        if waiting > max_line_bytes:
            raise LabError(
                f"{path} has a line of more than {max_line_bytes >> 20} MiB, which is not read as one row. "
                "Split it, or write one row a line."
            )
        if others:
            yield _ended(b"".join(rest), end)
            for line in others[:-1]:
                yield _ended(line, end)
            rest, waiting = [others[-1]], len(others[-1])
    if waiting:
        yield _ended(b"".join(rest), end).removesuffix(b"\n")


def _ended(line: bytes, end: bytes) -> bytes:
    return line + b"\n" if end == b"\r" else line.removesuffix(b"\r") + b"\n"


def _utf8(path: Path, found: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks of a text as UTF-8: a file whose byte-order mark names UTF-16 or UTF-32 is converted."""
    first = next(found, b"")
    # the mark of UTF-32 begins with that of UTF-16
    encoding = next((name for mark, name in _WIDE if first.startswith(mark)), "")
    if not encoding:
        yield from itertools.chain([first], found)
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in itertools.chain([first], found):
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError:
        raise LabError(f"{path} begins as {encoding.upper()}, but is none; save it as UTF-8.") from None


def _check_text(path: Path, block: bytes) -> None:
    start = block[:65536]
    if b"\x00" not in start:
        return
    halves = start[::2], start[1::2]
    if any(half.count(0) > 0.9 * len(half) for half in halves) and not all(half.count(0) for half in halves):
        raise LabError(f"{path} looks like UTF-16 without its byte-order mark; save it as UTF-8.")
    raise LabError(
        f"{path} is a binary file, not text (it holds zero bytes), although it ends in {path.suffix}."
    )
