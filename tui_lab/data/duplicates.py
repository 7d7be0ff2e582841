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
PAIRS_AT_ONCE = 50_000
CACHED_ROWS = 4_096
_WORDS = re.compile(r"\w+")
_NO_WORDS = {code: " " for code in range(128) if not _WORDS.match(chr(code))}  # of ASCII
_DIGIT = re.compile(r"\d")
_SIGNS = re.compile(r"(?<=\d)\s*[-+*/^%.,:=<>]\s*(?=[\d(])|[+*/^=<>%&|~€$£°]")
_MAYBE_SIGNS = re.compile(r"[\d+*/^=<>%&|~€$£°]")
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
    def question_words(self) -> str:
        """The normalised question, "" for a raw text."""
        return normalise(self.question) if self.question.strip() else ""

    @functools.cached_property
    def answer_words(self) -> str:
        """The normalised answer, or all of a raw text."""
        return normalise(self.answer)

    @property
    def asked(self) -> str:
        """The normalised question; for a raw text all of it."""
        return self.question_words or self.answer_words

    @functools.cached_property
    def prompt(self) -> str:
        """The normalised question with its operators; for a raw text all of it."""
        return f"{self.asked}|{_operators(self.question if self.question_words else self.answer)}"

    @property
    def words(self) -> str:
        """The normalised words of question and answer."""
        return f"{self.question_words} {self.answer_words}".strip()

    @property
    def row(self) -> str:
        """The normalised row."""
        if not self.question_words:
            return self.prompt
        return f"{self.prompt}\n{self.answer_words}|{_operators(self.answer)}"

    @functools.cached_property
    def prompt_group(self) -> str:
        """What two rows that ask nearly the same have in common: numbers, and short texts as they are."""
        if not self.question_words:
            return "\0".join(["", _same_of(self.answer, self.answer_words)])
        parts = [_same_of(self.question, self.question_words)]
        if not _is_short(self.question_words):
            parts += [_same_of(sentence, normalise(sentence)) for sentence in _asking(self.question)]
        return "\0".join(parts)

    @property
    def row_group(self) -> str:
        """What two rows with nearly the same question and answer have in common."""
        return f"{self.prompt_group}\0{_same_of(self.answer, self.answer_words)}"


def _is_short(words: str) -> bool:
    return words.count(" ") + 1 < MIN_SHINGLES + SHINGLE_WORDS - 1


def _same_of(text: str, words: str) -> str:
    """What a text, whose normalised words are given, shares with every nearly equal one."""
    if _is_short(words):
        return f"{words}|{_operators(text)}"
    return " ".join(sorted(numbers(words).elements()))


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
    """Hashes (N,) of rows: of all that is compared, and of the question with its system turns; of what is
    equal in rows that nearly repeat each other, and in rows that ask nearly the same."""

    row: Hashes
    prompt: Hashes
    row_group: Hashes
    prompt_group: Hashes

    @classmethod
    def of(cls, hashes: Sequence[int]) -> RowKeys:
        """The keys from those of :func:`hash_row`, row after row."""
        table = np.array(hashes, dtype=np.uint64).reshape(-1, 4)
        return cls(*(np.ascontiguousarray(column) for column in table.T))


def hash_row(text: RowText) -> tuple[int, int, int, int]:
    """The hashes of a row, see :class:`RowKeys`."""
    return (
        _hash(text.context, text.row),
        _hash(text.context, text.prompt),
        _hash(text.context, text.row_group),
        _hash(text.context, text.prompt_group),
    )


def _hash(context: str, text: str) -> int:
    data = f"{context}\0{text}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def keys_of(examples: Iterable[Example]) -> RowKeys:
    """The hashes of examples."""
    return RowKeys.of([value for example in examples for value in hash_row(text_of(example))])


# --- nearly equal texts -------------------------------------------------------------------------------


def alike(one: str, other: str) -> bool:
    """Whether two texts are nearly equal: the same words, or long ones that share nearly all word n-grams and
    have the same numbers."""
    return _alike((one, normalise(one)), (other, normalise(other)))


def _alike(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """The same of texts with their normalised words."""
    (a_text, a), (b_text, b) = one, other
    if a == b:
        return _operators(a_text) == _operators(b_text)
    if _is_short(a) or _is_short(b):
        return False
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
    if not one.question_words or not other.question_words:
        return not one.question_words and not other.question_words and _same_answer(one, other)
    asked, others = _asking(one.question), _asking(other.question)
    return (
        len(asked) == len(others)
        and all(alike(a, b) for a, b in zip(asked, others, strict=True))
        and _alike((one.question, one.question_words), (other.question, other.question_words))
    )


def same_row(one: RowText, other: RowText) -> bool:
    """Whether two rows have nearly the same question and nearly the same answer."""
    return same_question(one, other) and _same_answer(one, other)


def _same_answer(one: RowText, other: RowText) -> bool:
    return _alike((one.answer, one.answer_words), (other.answer, other.answer_words))


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
    if _DIGIT.search(text) is None:
        return Counter()
    return Counter(word for word in text.split() if _DIGIT.search(word))


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


def _chunks(texts: Sequence[str], rows: Indices) -> Iterator[tuple[Indices, list[str]]]:
    """The texts of some rows in lists of about CHUNK_CHARS, each with its rows."""
    start = size = 0
    waiting: list[str] = []
    for number, row in enumerate(rows.tolist(), 1):
        waiting.append(texts[row])
        size += len(waiting[-1])
        if size > CHUNK_CHARS or number == len(rows):
            yield rows[start:number], waiting
            start, size, waiting = number, 0, []


def boilerplate(texts: Sequence[str]) -> Hashes:
    """The n-grams, sorted, that many of the texts share."""
    sample = np.arange(0, len(texts), max(1, -(-len(texts) // SAMPLE_ROWS)))
    parts: list[Hashes] = []
    for _, chunk in _chunks(texts, sample):
        parts.append(_shingles(chunk)[0])
        if sum(part.size for part in parts) > SAMPLE_SHINGLES:
            break
    values, counts = np.unique(np.concatenate(parts or [np.empty(0, np.uint64)]), return_counts=True)
    common: Hashes = values[counts > COMMON_ROWS]
    return common


class _Candidates:
    """Of the ``rows`` of ``texts`` those whose distinctive n-grams probably agree, and whose group does."""

    def __init__(
        self, texts: Sequence[str], rows: Indices, common: Hashes, alive: Callable[[], None] | None
    ) -> None:
        self._texts, self._common, self.rows = texts, common, rows
        self.keys = np.zeros((len(rows), BANDS), dtype=np.uint64)
        self.many = np.zeros(len(rows), dtype=np.int64)
        done = 0
        for chosen, chunk in _chunks(texts, rows):
            if alive is not None:
                alive()
            self._add(done, *self._distinctive(*_shingles(chunk)))
            done += len(chosen)
        self.hashes = functools.lru_cache(CACHED_ROWS)(self._hashes)

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
        return self._distinctive(*_shingles([self._texts[row]]))[0]

    def pairs(self, fixed: int, groups: Hashes) -> Iterator[tuple[int, int]]:
        """Each row with an earlier one of its group (N,), sorted; with ``fixed`` only pairs of a later row
        with one of the first so many."""
        enough = np.flatnonzero(self.many >= MIN_SHINGLES)
        found = np.empty(0, dtype=np.int64)  # later * N + earlier
        for band in range(BANDS):
            keys = self.keys[enough, band] ^ _mix(groups[self.rows[enough]])
            order = np.lexsort((enough, keys))
            rows, keys = self.rows[enough[order]], keys[order]
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
            found = np.union1d(found, later * len(groups) + earlier)
        for start in range(0, len(found), PAIRS_AT_ONCE):
            later, earlier = np.divmod(found[start : start + PAIRS_AT_ONCE], len(groups))
            yield from zip(later.tolist(), earlier.tolist(), strict=True)


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


def _with_company(groups: Hashes, fixed: int) -> Indices:
    """The rows whose group another row has, too; with ``fixed`` one of the first so many."""
    if fixed:
        return np.flatnonzero(np.isin(groups, groups[:fixed]))
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[inverse] > 1)


@dataclass(frozen=True)
class NearSearch:
    """How near-duplicates are looked for. ``groups`` (N,): rows of different ones are different; ``fixed`` >
    0: the first so many texts are given, and only the others are looked up, among those. ``common``
    gives the n-grams that are ignored, by default those of these texts; ``same`` decides further about a row
    and an earlier one; ``alive`` is called now and then."""

    groups: Hashes | None = None
    fixed: int = 0
    common: Callable[[], Hashes] | None = None
    same: Callable[[int, int], bool] | None = None
    alive: Callable[[], None] | None = None


def near_duplicates(texts: Sequence[str], how: NearSearch | None = None) -> dict[int, int]:
    """{row: the earlier row that it nearly repeats} for texts that are already normalised."""
    how = how or NearSearch()
    groups = np.zeros(len(texts), dtype=np.uint64) if how.groups is None else how.groups
    rows = _with_company(groups, how.fixed)
    if len(rows) < 2:
        return {}
    common = how.common() if how.common is not None else boilerplate(texts)
    candidates = _Candidates(texts, rows, common, how.alive)
    repeats: dict[int, int] = {}
    for row, other in candidates.pairs(how.fixed, groups):
        if row in repeats or other in repeats:
            continue
        a, b = candidates.hashes(row), candidates.hashes(other)
        shared = np.intersect1d(a, b, assume_unique=True).size
        if shared < NEAR * (a.size + b.size - shared) or numbers(texts[row]) != numbers(texts[other]):
            continue
        if how.same is None or how.same(row, other):
            repeats[row] = other
    return repeats
