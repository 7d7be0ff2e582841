"""Replies that were given before, kept in the user's cache by what was asked: a judge, a classifier or a
model is asked each question once, and an interrupted job goes on. The cache is bounded."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from tui_lab.core import files, input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import cache_dir
from tui_lab.core.records import to_json
from tui_lab.core.sanitize import sanitize

#: Files in the cache, one for each who replies, and their size together: the oldest beyond are removed.
CACHED_FILES, CACHED_BYTES = 100, 128 << 20
#: A larger file loses the older half of its replies.
FILE_BYTES = 16 << 20


class _Reply(msgspec.Struct, frozen=True):
    """A line: the digest of a question, and the reply (``letter``: a judge's replies came first)."""

    of: str
    text: str = msgspec.field(name="letter")


class KnownReplies:
    """The replies of one who is asked. A context manager."""

    def __init__(self, identity: str) -> None:
        """``identity``: all that a reply depends on besides the question. Raises LabError."""
        digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:32]
        self.path = cache_dir() / "judgements" / f"{digest}.jsonl"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._known = _read(self.path) if self.path.exists() else {}
            self._file = self.path.open("a", encoding="utf-8")
            self._file.write("\n" * bool(self._known))  # after a line that was cut off
        except OSError as error:
            raise LabError(f"{sanitize(str(self.path))} cannot be written ({error.strerror})") from None

    def __enter__(self) -> KnownReplies:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file, and removes the oldest ones beyond the bounds of the cache."""
        self._file.close()
        files.prune(self.path.parent, "*.jsonl", CACHED_FILES, CACHED_BYTES)

    def find(self, question: str) -> str | None:
        """The reply to a question; None where it was not asked before."""
        return self._known.get(_key(question))

    def reply(self, question: str, ask: Callable[[str], str]) -> str:
        """The reply to a question, asked where it is not known."""
        if (known := self.find(question)) is None:
            self.add(question, known := ask(question))
        return known

    def add(self, question: str, reply: str) -> None:
        """Keeps a reply. Raises LabError."""
        key = _key(question)
        self._known[key] = reply
        try:
            self._file.write(to_json(_Reply(key, reply)) + "\n")
            self._file.flush()
        except OSError as error:
            raise LabError(f"{sanitize(str(self.path))} cannot be written ({error.strerror})") from None


def _key(question: str) -> str:
    return hashlib.sha256(question.encode("utf-8", "replace")).hexdigest()


def _read(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    lines = input_files.read_text(path, input_files.SCORES_BYTES, "replace").splitlines()
    if path.stat().st_size > FILE_BYTES:
        lines = lines[len(lines) // 2 :]
        files.write_atomically(path, "\n".join(lines) + "\n")
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):  # a line that was cut off: it is asked again
            known = msgspec.json.decode(line, type=_Reply)
            found[known.of] = known.text
    return found
