"""Rows that repeat another one, exactly or nearly, in bounded memory.

Exact duplicates are equal after normalising case, blanks and punctuation. A near-duplicate has a nearly equal
question and a nearly equal answer: of long texts nearly all word 5-grams are shared (MinHash (Broder 1997)
finds candidates, the exact Jaccard index decides), short ones are equal. Rows from a template that differ in
one name or number are different rows: numbers must agree, n-grams that many rows share are ignored, and the
first, the last and every asking sentence of a question must agree by themselves, whatever stands between.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_lab.data.formats import Example

SHINGLE_WORDS = 5
NEAR = 0.8  # texts with at least this Jaccard index of word n-grams are nearly equal
COMMON_ROWS = 10  # an n-gram in more rows of the sample than this is boilerplate and is ignored
SAMPLE_ROWS = 20_000  # rows among which boilerplate is looked for: all of a smaller set
SAMPLE_SHINGLES = 8_000_000
MIN_SHINGLES = 12  # texts with fewer distinctive n-grams are compared exactly only
BANDS, BAND_ROWS = 8, 3  # finds 99.7% of the pairs at a Jaccard index of 0.8, more above
CHUNK_CHARS = 1_000_000
MAX_COMPARED = 25  # rows of one bucket that a row is compared with
MAX_PAIRS = 2_000_000  # candidates of one band
CACHED_ROWS = 4_096
_WORDS = re.compile(r"\w+")
_NO_WORDS = {code: " " for code in range(128) if not _WORDS.match(chr(code))}  # of ASCII
_SIGNS = re.compile(r"(?<=\d)\s*[-+*/^%.,:=<>]\s*(?=[\d(])|[+*/^=<>%€$£°]")
_MAYBE_SIGNS = re.compile(r"[\d+*/^=<>%€$£°]")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|\n+")

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]


def normalise(text: str) -> str:
    """The words, case-folded, with single blanks; a text without words keeps its characters."""
    if text.isascii():  # the same, faster
        return " ".join(text.lower().translate(_NO_WORDS).split()) or " ".join(text.split())
    text = unicodedata.normalize("NFKC", text)
    return " ".join(_WORDS.findall(text.casefold())) or " ".join(text.split())


def _operators(text: str) -> str:
    # Punctuation does not make two rows different, but these signs change what is asked: 3 + 4, 3 - 4, x < y.
    if _MAYBE_SIGNS.search(text) is None:
        return ""
    return "".join(_SIGNS.findall(text)).replace(" ", "")


@dataclass(frozen=True)
class RowText:
    """The texts of a row that are compared: system turns, question and answer, as they are."""

    context: str
    question: str
    answer: str

    @functools.cached_property
    def prompt(self) -> str:
        """The normalised question; for a raw text all of it."""
        text = self.question if self.question.strip() else self.answer
        return f"{normalise(text)}|{_operators(text)}"

    @property
    def words(self) -> str:
        """The normalised words of question and answer."""
        question = normalise(self.question) if self.question.strip() else ""
        return f"{question} {normalise(self.answer)}".strip()

    @property
    def row(self) -> str:
        """The normalised row."""
        if not self.question.strip():
            return self.prompt
        return f"{self.prompt}\n{normalise(self.answer)}|{_operators(self.answer)}"


def text_of(example: Example) -> RowText:
    """The compared texts of an example. All of a raw text is its answer."""
    if example.messages is None:
        return RowText("", example.prompt or "", example.expected)
    last = example.last_answer
    context = "\n".join(str(m["content"]) for m in example.messages if m["role"] == "system")
    prompt = "\n".join(_said(m) for m in example.messages[:last] if m["role"] != "system")
    return RowText(normalise(context), prompt, _said(example.messages[last]))


def _said(message: object) -> str:
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    content = str(message["content"]) if isinstance(message, dict) else ""
    return f"{content}\n{calls}" if calls else content


@dataclass(frozen=True)
class RowKeys:
    """Hashes (N,) of rows: of all that is compared, and of the question with its system turns."""

    row: Hashes
    prompt: Hashes


def hash_row(text: RowText) -> tuple[int, int]:
    """The two hashes of a row, see :class:`RowKeys`."""
    return _hash(text.context, text.row), _hash(text.context, text.prompt)


def _hash(context: str, text: str) -> int:
    data = f"{context}\0{text}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def keys_of(examples: Iterable[Example]) -> RowKeys:
    """The hashes of examples."""
    pairs = [hash_row(text_of(example)) for example in examples]
    table = np.array(pairs, dtype=np.uint64).reshape(-1, 2)
    return RowKeys(table[:, 0], table[:, 1])


# --- nearly equal texts -------------------------------------------------------------------------------


def alike(one: str, other: str) -> bool:
    """Whether two texts are nearly equal: the same words, or long ones that share nearly all word n-grams and
    have the same numbers."""
    a, b = normalise(one), normalise(other)
    if a == b:
        return _operators(one) == _operators(other)
    runs, others = _runs(a), _runs(b)
    if min(len(runs), len(others)) < MIN_SHINGLES or numbers(a) != numbers(b):
        return False
    return len(runs & others) >= NEAR * len(runs | others)


def same_question(one: RowText, other: RowText) -> bool:
    """Whether two rows ask nearly the same under the same system turns. A long passage in common is not
    enough: what is asked about it must agree as well."""
    if one.context != other.context:
        return False
    if one.prompt == other.prompt:
        return True
    if not one.question.strip() or not other.question.strip():
        return not one.question.strip() and not other.question.strip() and alike(one.answer, other.answer)
    if not alike(one.question, other.question):
        return False
    pairs = list(zip(_asking(one.question), _asking(other.question), strict=False))
    return len(_asking(one.question)) == len(_asking(other.question)) and all(alike(a, b) for a, b in pairs)


def same_row(one: RowText, other: RowText) -> bool:
    """Whether two rows have nearly the same question and nearly the same answer."""
    return same_question(one, other) and alike(one.answer, other.answer)


def _asking(text: str) -> list[str]:
    """The first and the last sentence of a question, and those that end with a question mark."""
    sentences = [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
    inner = [part for part in sentences[1:-1] if part.endswith(("?", "？"))]
    return [*sentences[:1], *inner, *sentences[-1:]]


def _runs(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)}


def numbers(text: str) -> Counter[str]:
    """The words of a normalised text that hold a digit."""
    return Counter(word for word in text.split() if any(char.isdigit() for char in word))


# --- candidates by MinHash ----------------------------------------------------------------------------


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The powers of an odd number, and of its inverse modulo 2^64."""
    base, inverse = 0x9E3779B97F4A7C15, pow(0x9E3779B97F4A7C15, -1, 1 << 64)
    both = []
    for factor in (base, inverse):
        powers = np.full(count, np.uint64(factor))
        powers[:1] = 1
        both.append(np.multiply.accumulate(powers))
    return both[0], both[1]


def _word_hashes(texts: Sequence[str]) -> tuple[Hashes, Indices]:
    """(hash, row) of each word of normalised texts, in order: a polynomial over the bytes of the word, as the
    difference of two prefix sums."""
    parts = [text.encode("utf-8", "replace") for text in texts]
    data = np.frombuffer(b"\n".join(parts) + b"\n", dtype=np.uint8)
    powers, inverses = _powers(data.size)
    sums = np.zeros(data.size + 1, dtype=np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * powers, out=sums[1:])
    ends = np.flatnonzero((data == 32) | (data == 10))  # normalised texts have single blanks, and no lines
    begins = np.r_[0, ends[:-1] + 1]
    filled = ends > begins
    rows = np.repeat(np.arange(len(parts)), [part.count(b" ") + 1 for part in parts])
    begins, ends, rows = begins[filled], ends[filled], rows[filled]
    return (sums[ends] - sums[begins]) * inverses[begins], rows


def _mix(values: Hashes) -> Hashes:
    """The finaliser of splitmix64: spreads every bit over the word (arithmetic modulo 2^64 on purpose)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _shingles(texts: Sequence[str]) -> tuple[Hashes, Indices]:
    """(hashes, owner row) of each distinct run of SHINGLE_WORDS words of each row, sorted by row."""
    flat, owner = _word_hashes(texts)
    if flat.size < SHINGLE_WORDS:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    hashes = np.zeros(flat.size - SHINGLE_WORDS + 1, dtype=np.uint64)
    for offset in range(SHINGLE_WORDS):
        hashes = _mix(
            hashes * np.uint64(0x9E3779B97F4A7C15) + flat[offset : offset + hashes.size] + np.uint64(1)
        )
    inside = owner[: hashes.size] == owner[SHINGLE_WORDS - 1 :]  # not across the end of a row
    hashes, owner = hashes[inside], owner[: hashes.size][inside]
    order = np.lexsort((hashes, owner))
    hashes, owner = hashes[order], owner[order]
    first = np.ones(hashes.size, dtype=bool)
    first[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    return hashes[first], owner[first]


def _chunks(texts: Sequence[str], step: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Every ``step``-th text in lists of about CHUNK_CHARS, each with the row that it begins with."""
    start = size = 0
    waiting: list[str] = []
    for row in range(0, len(texts), step):
        if not waiting:
            start = row
        waiting.append(texts[row])
        size += len(waiting[-1])
        if size > CHUNK_CHARS:
            yield start, waiting
            size, waiting = 0, []
    if waiting:
        yield start, waiting


class _Candidates:
    """Rows whose distinctive n-grams probably agree."""

    def __init__(self, texts: Sequence[str], alive: Callable[[], None] | None = None) -> None:
        self.texts = texts
        self.keys = np.zeros((len(texts), BANDS), dtype=np.uint64)
        self.many = np.zeros(len(texts), dtype=np.int64)
        step = max(1, -(-len(texts) // SAMPLE_ROWS))
        sample: list[tuple[int, Hashes, Indices]] = []
        total = 0
        for start, chunk in _chunks(texts, step):
            sample.append((start, *_shingles(chunk)))
            total += sample[-1][1].size
            if total > SAMPLE_SHINGLES:
                break
        values, counts = np.unique(np.concatenate([part[1] for part in sample]), return_counts=True)
        self._common: Hashes = values[counts > COMMON_ROWS]
        if step > 1 or total > SAMPLE_SHINGLES:  # the sample is not all rows
            sample.clear()
        for start, hashes, owner in sample or self._all_chunks(alive):
            self._add(start, *self._distinctive(hashes, owner))
        self.hashes = functools.lru_cache(CACHED_ROWS)(self._hashes)

    def _all_chunks(self, alive: Callable[[], None] | None) -> Iterator[tuple[int, Hashes, Indices]]:
        for start, chunk in _chunks(self.texts):
            if alive is not None:
                alive()
            yield (start, *_shingles(chunk))

    def _add(self, start: int, hashes: Hashes, owner: Indices) -> None:
        if hashes.size:
            rows, starts, counts = np.unique(owner, return_index=True, return_counts=True)
            self.keys[start + rows] = _signatures(hashes, starts)
            self.many[start + rows] = counts

    def _distinctive(self, hashes: Hashes, owner: Indices) -> tuple[Hashes, Indices]:
        if self._common.size:
            at = np.minimum(np.searchsorted(self._common, hashes), self._common.size - 1)
            rare = self._common[at] != hashes
            hashes, owner = hashes[rare], owner[rare]
        return hashes, owner

    def _hashes(self, row: int) -> Hashes:
        return self._distinctive(*_shingles([self.texts[row]]))[0]

    def pairs(self, fixed: int) -> Indices:
        """(P, 2) pairs of a row and an earlier one, sorted; with ``fixed`` only pairs of a later row with one
        of the first so many."""
        enough = np.flatnonzero(self.many >= MIN_SHINGLES)
        found: list[Indices] = []
        for band in range(BANDS):
            keys = self.keys[enough, band]
            order = np.lexsort((enough, keys))
            rows, keys = enough[order], keys[order]
            starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if keys.size else np.empty(0, int)
            sizes = np.diff(np.r_[starts, keys.size])
            begin = np.repeat(starts, sizes)
            inside = np.arange(keys.size) - begin
            if fixed:  # the first rows of a bucket are the given ones: rows are sorted
                given = np.add.reduceat((rows < fixed).astype(np.int64), starts) if starts.size else starts
                inside = np.where(rows < fixed, 0, np.repeat(given, sizes))
            many = np.minimum(inside, MAX_COMPARED)
            many[np.cumsum(many) > MAX_PAIRS] = 0
            later = np.repeat(rows, many)
            nth = np.arange(later.size) - np.repeat(np.cumsum(many) - many, many)
            earlier = rows[np.repeat(begin, many) + nth] if later.size else later
            found.append(np.stack([later, earlier], axis=1))
        together = np.concatenate(found) if found else np.empty((0, 2), dtype=np.int64)
        unique: Indices = np.unique(together, axis=0)
        return unique


def _signatures(hashes: Hashes, starts: Indices) -> Hashes:
    """(rows, BANDS): rows with an equal entry are candidates. ``starts`` is where each row's hashes begin."""
    odd = np.random.default_rng(0).integers(1, 2**63, BANDS * BAND_ROWS, dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    signatures = np.zeros((starts.size, BANDS), dtype=np.uint64)
    for number, factor in enumerate(odd):
        # The hashes are well mixed already: a multiplication by an odd number permutes them well enough.
        least = np.minimum.reduceat(hashes * factor, starts)
        band = signatures[:, number // BAND_ROWS]
        signatures[:, number // BAND_ROWS] = _mix(band ^ least)
    return signatures


def near_duplicates(
    texts: Sequence[str],
    fixed: int = 0,
    same: Callable[[int, int], bool] | None = None,
    alive: Callable[[], None] | None = None,
) -> dict[int, int]:
    """{row: the earlier row that it nearly repeats} for texts that are already normalised.

    With ``fixed`` > 0 the first so many texts are given: only the others are looked up, and only among those.
    ``same`` decides further about a row and an earlier one; ``alive`` is called now and then.
    """
    if len(texts) < 2:
        return {}
    candidates = _Candidates(texts, alive)
    repeats: dict[int, int] = {}
    for row, other in candidates.pairs(fixed).tolist():
        if row in repeats or other in repeats:
            continue
        a, b = candidates.hashes(row), candidates.hashes(other)
        shared = np.intersect1d(a, b, assume_unique=True).size
        if shared < NEAR * (a.size + b.size - shared) or numbers(texts[row]) != numbers(texts[other]):
            continue
        if same is None or same(row, other):
            repeats[row] = other
    return repeats
