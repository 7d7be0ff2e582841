"""Splits examples into training and validation with a seed, and removes duplicates and leaks.

Exact duplicates are equal after normalising case, blanks and punctuation; near-duplicates share nearly all
their word 5-grams (MinHash (Broder 1997) finds candidates, the exact Jaccard index decides). A leak is a
training row whose prompt is also in the validation set, whatever its answer. Rows from a template that
differ in one name or number are different rows: numbers must agree, n-grams that many rows share are
ignored, and short rows are never near-duplicates."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tui_lab.data.formats import Example

MAX_VALIDATION = 1_000  # more rows only make each evaluation slower
SHINGLE_WORDS = 5
NEAR = 0.8  # rows with at least this Jaccard index of word n-grams are near-duplicates
COMMON_ROWS = 10  # an n-gram in more rows than this is boilerplate and is ignored
MIN_SHINGLES = 12  # rows with fewer distinctive n-grams are compared exactly only
BANDS, BAND_ROWS = 8, 3  # finds 99.7% of the pairs at a Jaccard index of 0.8, more above
CHUNK_HASHES = 65_536
MAX_COMPARED = 25  # rows of one bucket that a row is compared with
_WORDS = re.compile(r"\w+")


def normalise(text: str) -> str:
    """The words, case-folded, with single blanks; a text without words keeps its characters."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(_WORDS.findall(text.casefold())) or " ".join(text.split())


def _operators(text: str) -> str:
    # Punctuation does not make two rows different, but these signs change what is asked: 3 + 4, 3 - 4, x < y.
    return "".join(re.findall(r"(?<=\d)\s*[-+*/^%.,:=<>]\s*(?=[\d(])|[+*/^=<>%€$£°]", text)).replace(" ", "")


@dataclass(frozen=True)
class ComparisonKey:
    """The normalised texts by which rows are compared: system turns, prompt, and the row with its answer."""

    context: str
    prompt: str
    row: str


def key_of(example: Example) -> ComparisonKey:
    """The comparison key of an example; all of a raw text is its prompt."""
    if example.messages is not None:
        last = example.last_answer
        context = "\n".join(str(m["content"]) for m in example.messages if m["role"] == "system")
        prompt = "\n".join(str(m["content"]) for m in example.messages[:last] if m["role"] != "system")
    else:
        context, prompt = "", example.prompt or ""
    answer = example.expected
    if not prompt.strip():
        prompt, answer = answer, ""
    question = f"{normalise(prompt)}|{_operators(prompt)}"
    row = f"{question}\n{normalise(answer)}|{_operators(answer)}"
    return ComparisonKey(normalise(context), question, row)


@dataclass
class Split:
    """Training and validation rows, the numbers of rows removed from training, and notes for the user."""

    train: list[Example]
    validation: list[Example]
    duplicates: int = 0
    near_duplicates: int = 0
    leaks: int = 0
    near_leaks: int = 0
    notes: list[str] = field(default_factory=list)


# --- near-duplicates --------------------------------------------------------------------------------


def _shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, owner row) of each distinct run of SHINGLE_WORDS words of each text, without boilerplate."""
    ids: dict[str, int] = {}
    flat_ids: list[int] = []
    lengths = np.empty(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        split = text.split()
        lengths[row] = len(split)
        for word in split:
            flat_ids.append(ids.setdefault(word, len(ids)))
    flat = np.asarray(flat_ids, dtype=np.uint64)
    if flat.size < SHINGLE_WORDS:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    owner = np.repeat(np.arange(len(texts)), lengths)
    hashes = np.zeros(flat.size - SHINGLE_WORDS + 1, dtype=np.uint64)
    for offset in range(SHINGLE_WORDS):
        hashes = _mix(
            hashes * np.uint64(0x9E3779B97F4A7C15) + flat[offset : offset + hashes.size] + np.uint64(1)
        )
    inside = owner[: hashes.size] == owner[SHINGLE_WORDS - 1 :]  # not across the end of a row
    hashes, owner = hashes[inside], owner[: hashes.size][inside]
    order = np.lexsort((owner, hashes))
    hashes, owner = hashes[order], owner[order]
    first = np.ones(hashes.size, dtype=bool)
    first[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    hashes, owner = hashes[first], owner[first]
    starts = (
        np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]]) if hashes.size else np.empty(0, dtype=np.int64)
    )
    rows_with = np.diff(np.r_[starts, hashes.size])
    distinctive = np.repeat(rows_with <= COMMON_ROWS, rows_with)
    hashes, owner = hashes[distinctive], owner[distinctive]
    back = np.argsort(owner, kind="stable")
    return hashes[back], owner[back]


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: spreads every bit over the word (arithmetic modulo 2^64 on purpose)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def near_duplicates(texts: Sequence[str], fixed: int = 0) -> dict[int, int]:
    """{row: the earlier row that it nearly repeats} for texts that are already normalised.

    With ``fixed`` > 0 the first so many texts are given: only the others are looked up, and only among those.
    """
    hashes, owner = _shingles(texts)
    if not hashes.size:
        return {}
    rows, starts, counts = np.unique(owner, return_index=True, return_counts=True)
    enough = counts >= MIN_SHINGLES
    sets = {
        int(r): (int(s), int(s + c))
        for r, s, c in zip(rows[enough], starts[enough], counts[enough], strict=True)
    }
    signatures = dict(zip(rows.tolist(), _signatures(hashes, starts).tolist(), strict=True))
    repeats: dict[int, int] = {}
    seen: list[defaultdict[int, list[int]]] = [defaultdict(list) for _ in range(BANDS)]
    for row, (begin, end) in sets.items():
        keys = signatures[row]
        if row >= fixed:
            candidates = dict.fromkeys(
                other for band, k in enumerate(keys) for other in seen[band].get(k, ())
            )
            for other in candidates:
                alike = _jaccard(hashes, (begin, end), sets[other]) >= NEAR
                if alike and _numbers(texts[row]) == _numbers(texts[other]):
                    repeats[row] = other
                    break
            if fixed or row in repeats:
                continue
        for band, bucket_key in enumerate(keys):
            bucket = seen[band][bucket_key]
            if len(bucket) < MAX_COMPARED:
                bucket.append(row)
    return repeats


def _numbers(text: str) -> Counter[str]:
    return Counter(word for word in text.split() if any(char.isdigit() for char in word))


def _signatures(hashes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(rows, BANDS) uint64: rows with an equal entry are candidates.

    ``starts`` is where each row's hashes begin.
    """
    odd = np.random.default_rng(0).integers(1, 2**63, BANDS * BAND_ROWS, dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    signatures = np.zeros((starts.size, BANDS), dtype=np.uint64)
    ends = np.r_[starts[1:], hashes.size]
    first = 0
    while first < starts.size:  # in pieces that stay in the processor's cache
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + CHUNK_HASHES)))
        chunk, inner = hashes[starts[first] : ends[last - 1]], starts[first:last] - starts[first]
        for number, factor in enumerate(odd):
            # The hashes are well mixed already: a multiplication by an odd number permutes them well enough.
            least = np.minimum.reduceat(chunk * factor, inner)
            band = signatures[first:last, number // BAND_ROWS]
            signatures[first:last, number // BAND_ROWS] = _mix(band ^ least)
        first = last
    return signatures


def _jaccard(hashes: np.ndarray, one: tuple[int, int], other: tuple[int, int]) -> float:
    a, b = hashes[one[0] : one[1]], hashes[other[0] : other[1]]
    shared = np.intersect1d(a, b, assume_unique=True).size
    return float(shared / (a.size + b.size - shared))


# --- train and validation ---------------------------------------------------------------------------


KeyedExample = tuple[Example, ComparisonKey]


def deduplicate(rows: Sequence[KeyedExample]) -> tuple[list[KeyedExample], int, int]:
    """The rows without repetitions: (kept, exact duplicates removed, near-duplicates removed)."""
    first: dict[tuple[str, str], KeyedExample] = {}
    for row in rows:
        first.setdefault((row[1].context, row[1].row), row)
    distinct = list(first.values())
    repeats = near_duplicates([key.row for _, key in distinct])
    drop = {row for row, other in repeats.items() if _same_question(distinct[row][1], distinct[other][1])}
    return [row for i, row in enumerate(distinct) if i not in drop], len(rows) - len(distinct), len(drop)


def _same_question(one: ComparisonKey, other: ComparisonKey) -> bool:
    """Whether two rows have nearly the same prompt and the same system turns: equal long answers, such as
    refusals, are not enough."""
    if one.context != other.context:
        return False
    if one.prompt == other.prompt:
        return True
    a, b = _runs(one.prompt), _runs(other.prompt)
    return min(len(a), len(b)) >= MIN_SHINGLES and len(a & b) >= NEAR * len(a | b)


def _runs(text: str) -> set[tuple[str, ...]]:
    tokens = text.split()
    return {tuple(tokens[at : at + SHINGLE_WORDS]) for at in range(len(tokens) - SHINGLE_WORDS + 1)}


def remove_leaks(
    train: Sequence[KeyedExample], validation: Sequence[KeyedExample]
) -> tuple[list[KeyedExample], int, int]:
    """Training rows without those whose prompt is in the validation set: (rows, exact leaks, near leaks)."""
    keys = [key for _, key in validation]
    exact = {(key.context, key.prompt) for key in keys}
    fresh = [row for row in train if (row[1].context, row[1].prompt) not in exact]
    texts = [key.prompt for key in keys] + [key.prompt for _, key in fresh]
    near = {
        row - len(keys)
        for row, other in near_duplicates(texts, fixed=len(keys)).items()
        if fresh[row - len(keys)][1].context == keys[other].context
    }
    return [row for i, row in enumerate(fresh) if i not in near], len(train) - len(fresh), len(near)


def validation_size(rows: int, fraction: float) -> int:
    """The number of validation rows: at least 1, at most MAX_VALIDATION, never all."""
    if fraction <= 0 or rows < 2:
        return 0
    return min(max(1, round(rows * fraction)), MAX_VALIDATION, rows - 1)


def split(
    examples: Sequence[Example],
    validation: Sequence[Example] | None = None,
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    deduplicate_rows: bool = True,
) -> Split:
    """Training and validation rows. A given ``validation`` is used unchanged: leaks are removed from
    training.

    Rows with the same prompt stay on one side, so that several answers to one question do not become leaks.
    """
    rows = [(example, key_of(example)) for example in examples]
    duplicates = near = 0
    if deduplicate_rows:
        rows, duplicates, near = deduplicate(rows)
    notes: list[str] = []
    if validation is not None and validation_fraction <= 0:
        notes.append("The set's own validation rows are not used, because validation_fraction is 0.")
        return Split(_examples(rows), [], duplicates, near, notes=notes)
    by_prompt = True
    if validation is not None:
        held_out = [(example, key_of(example)) for example in validation]
        if len(held_out) > MAX_VALIDATION:
            chosen = np.sort(np.random.default_rng(seed).permutation(len(held_out))[:MAX_VALIDATION])
            rows_given = f"the set's {len(held_out):,} validation rows"
            notes.append(f"{MAX_VALIDATION:,} of {rows_given} are used, drawn by the seed.")
            held_out = [held_out[i] for i in chosen]
    else:
        groups: dict[tuple[str, str], list[int]] = {}
        for index, (_, key) in enumerate(rows):
            groups.setdefault((key.context, key.prompt), []).append(index)
        wanted = validation_size(len(rows), validation_fraction)
        if not wanted:
            return Split(_examples(rows), [], duplicates, near, notes=notes)
        if len(groups) < 2 or max(map(len, groups.values())) > len(rows) - wanted:
            by_prompt = False  # one prompt for (nearly) all rows: rows are the only thing left to split by
            groups = {("", str(index)): [index] for index in range(len(rows))}
            notes.append("Nearly all rows share one prompt, so the validation rows ask it too.")
        picked = _pick(list(groups.values()), wanted, len(rows), seed)
        held_out = [row for index, row in enumerate(rows) if index in picked]
        rows = [row for index, row in enumerate(rows) if index not in picked]
    leaks = near_leaks = 0
    if deduplicate_rows and by_prompt:
        rows, leaks, near_leaks = remove_leaks(rows, held_out)
    return Split(_examples(rows), _examples(held_out), duplicates, near, leaks, near_leaks, notes)


def _examples(rows: Sequence[KeyedExample]) -> list[Example]:
    return [example for example, _ in rows]


def _pick(groups: list[list[int]], wanted: int, rows: int, seed: int) -> set[int]:
    """Whole groups in the order of the seed until ``wanted`` rows are reached, never all of them."""
    picked: set[int] = set()
    for index in np.random.default_rng(seed).permutation(len(groups)):
        group = groups[int(index)]
        if len(picked) >= wanted:
            break
        if len(picked) + len(group) <= wanted:  # a big group would make far more than wanted
            picked.update(group)
    remaining = [group for group in groups if group[0] not in picked]
    if remaining and len(picked) < wanted / 2:  # nearly all groups are big: the smallest of them has to do
        smallest = min(remaining, key=len)
        if not picked or len(picked) + len(smallest) <= rows / 2:
            picked.update(smallest)
    return picked
