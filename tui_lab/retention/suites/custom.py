"""Suites in JSON Lines, bundled or a user's own.

A line is an item with question, choices and answer (its index from 0, its letter or its text); an optional
first line describes the suite ({"suite": name, "version": …, "kind": …, "licence": …}). Other kinds hold
prompts with checks (generate), pairs, dilemmas (agreement) or documents. A mistake in a file is one
sentence with the line."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.data.files import read_file
from tui_lab.data.rows import RawRow
from tui_lab.retention.suites.language import other_language
from tui_lab.retention.suites.records import (
    KINDS,
    METRICS,
    Item,
    Suite,
    SuiteKind,
    chance_of,
    fingerprint,
    subset,
)

HEADLINE: dict[SuiteKind, str] = {
    "choice": "acc", "pairs": "pair_preference", "generate": "pass", "perplexity": "perplexity",
    "agreement": "agreement",
}  # fmt: skip
MAX_CHOICES = 26  # one letter each
_SHAPE = "question, choices and answer"


class BadItem(Exception):
    """The reason why a row is not a valid item, without its place."""


def read(path: Path, limit: int = 0, shown: str = "") -> Suite:
    """The suite in a file, with at most `limit` items (0: all); `shown` is its name in messages, by default
    the path. Raises LabError with the line of the first mistake."""
    return from_records(records_of(path), shown or str(path), path.stem, limit)


def records_of(path: Path) -> list[tuple[str, object]]:
    """The rows of a file with their places, as training data are read. Raises LabError; an empty file has a
    message of its own."""
    try:
        empty = path.is_file() and path.stat().st_size < 65_536 and not input_files.read_bytes(path).strip()
    except OSError as error:
        raise LabError(f"{path} could not be read: {error.strerror or first_line(error)}.") from None
    if empty:
        raise LabError(f"{path} is empty; a suite holds one item a line with {_SHAPE}.")
    return read_file(path)


def from_records(records: list[tuple[str, object]], shown: str, name: str, limit: int = 0) -> Suite:
    """Rows with their places ("line 3") as a suite, with at most `limit` items (0: all). Raises LabError."""
    header: RawRow = {}
    if records and isinstance(records[0][1], dict) and "suite" in records[0][1]:
        header, records = records[0][1], records[1:]
    kind = _header_kind(header, shown)
    metric = str(header.get("metric") or HEADLINE[kind])
    if metric not in METRICS:
        raise LabError(f"{shown} has the metric {sanitize(metric)!r}; known: {', '.join(METRICS)}.")
    if not records:
        raise LabError(f"{shown} holds no items; a suite holds one item a line with {_SHAPE}.")
    items = _items(records, kind, shown)
    chosen = subset(items, limit)
    warnings = []
    if not header.get("language"):
        language = other_language([item.question or item.continuations[0] for item in items])
        if language:
            warnings.append(
                f"{shown} seems to be written in {language}: a model that was mostly trained on English may "
                "score near chance on it, and then retention cannot be measured."
            )
    keys = ("version", "title", "description", "licence")
    text = {key: sanitize(str(header.get(key) or "")) for key in keys}
    suite_name = file_name(str(header.get("suite") or name))
    held_back = header.get("held_back")
    return Suite(
        name=suite_name,
        version=text["version"] or "1",
        title=text["title"] or suite_name,
        description=text["description"],
        kind=kind,
        metric=metric,
        items=chosen,
        chance=0.5 if kind == "agreement" else chance_of(chosen) if kind in ("choice", "pairs") else None,
        licence=text["licence"] or "not stated",
        source=sanitize(str(header.get("source") or shown)),
        sha256=fingerprint(kind, metric, chosen),
        warnings=tuple(warnings),
        held_back=tuple(map(str, held_back)) if isinstance(held_back, list) else (),
    )


def file_name(name: str) -> str:
    """A suite's name without characters of a path: results are stored under it."""
    return re.sub(r"[^\w@.-]+", "_", name).strip("._")[:64] or "suite"


def _header_kind(header: RawRow, shown: str) -> SuiteKind:
    requested = header.get("kind", "choice")
    for kind in KINDS:
        if kind == requested:
            return kind
    raise LabError(f"{shown} has the kind {sanitize(str(requested))!r}; known: {', '.join(KINDS)}.")


def _items(records: list[tuple[str, object]], kind: SuiteKind, shown: str) -> list[Item]:
    items: list[Item] = []
    seen: dict[object, str] = {}
    ids: dict[str, str] = {}
    convert = {
        "choice": _choice,
        "pairs": _pair,
        "generate": _generate,
        "perplexity": _document,
        "agreement": _agreement,
    }[kind]
    for place, row in records:
        try:
            if not isinstance(row, dict):
                raise BadItem(f"this is {type(row).__name__}, not an object with {_SHAPE}")
            item = convert(row)
        except BadItem as error:
            raise LabError(f"{shown}, {place}: {sanitize(str(error))}.") from None
        same = (item.context, item.question, tuple(sorted(item.continuations)))
        if same in seen:
            raise LabError(
                f"{shown}, {place}: the same item is on {seen[same]} already; an item counted twice makes "
                "the intervals too narrow, so remove one."
            )
        if item.id in ids:
            raise LabError(f"{shown}, {place}: its id {sanitize(item.id)!r} is on {ids[item.id]} already.")
        seen[same] = ids[item.id] = place
        items.append(item)
    return items


# --- one row ----------------------------------------------------------------------------------------


def plain(question: str) -> str:
    """The prompt of a question where the tokenizer has no chat template."""
    return f"Question: {question}\nAnswer:"


def _text(row: RawRow, key: str) -> str:
    value = row.get(key)
    if value is None:
        raise BadItem(f"there is no {key}")
    if not isinstance(value, str):
        raise BadItem(f"{key} is {type(value).__name__}, not text")
    text = value.encode("utf-8", "replace").decode("utf-8").strip()  # lone surrogates break every tokenizer
    if not text:
        raise BadItem(f"{key} is empty")
    return text


def _id(row: RawRow, *content: str) -> str:
    """The row's own id, else a hash of its content, which does not depend on the order of the lines."""
    value = row.get("id")
    if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
        return str(value).strip()
    return hashlib.sha256("\0".join(content).encode()).hexdigest()[:12]


def _category(row: RawRow) -> str:
    value = row.get("category")
    return str(value).strip() if isinstance(value, str | int) else ""


def _meta(row: RawRow) -> dict[str, object]:
    value = row.get("meta")
    return dict(value) if isinstance(value, dict) else {}


def _choice(row: RawRow) -> Item:
    question = _text(row, "question")
    choices = choices_of(row)
    answer = answer_of(row, choices)
    return Item(
        id=_id(row, question, *choices),
        context=plain(question),
        continuations=tuple(f" {choice}" for choice in choices),
        answers=(answer,),
        category=_category(row),
        question=question,
        choices=choices,
        messages=({"role": "user", "content": question},),
        meta=_meta(row),
    )


def choices_of(row: RawRow) -> tuple[str, ...]:
    """The choices of a row: a list, or the columns choice0, choice1, … Raises BadItem."""
    value = row.get("choices")
    if value is None:
        value = [row[f"choice{n}"] for n in range(MAX_CHOICES) if row.get(f"choice{n}") is not None]
        if not value:
            raise BadItem("there are no choices")
    if not isinstance(value, list):
        raise BadItem(f"choices is {type(value).__name__}, not a list of texts")
    numbered = [
        str(one) if isinstance(one, int | float) and not isinstance(one, bool) else one for one in value
    ]
    if not all(isinstance(one, str) and one.strip() for one in numbered):
        raise BadItem("a choice is empty or no text")
    choices = tuple(one.encode("utf-8", "replace").decode("utf-8").strip() for one in numbered)
    if len(choices) < 2:
        count = "is one choice" if choices else "are no choices"
        raise BadItem(f"there {count}; a question needs two or more")
    if len(choices) > MAX_CHOICES:
        raise BadItem(f"there are {len(choices)} choices; at most {MAX_CHOICES} are scored")
    if len(set(choices)) < len(choices):
        twice = next(choice for choice in choices if choices.count(choice) > 1)
        raise BadItem(f"the choice {twice[:40]!r} occurs twice")
    return choices


def answer_of(row: RawRow, choices: tuple[str, ...]) -> int:
    """The index of the right choice, which is given as a number from 0, as a letter, or as the text itself.

    Raises BadItem, also where a number or a letter is both a choice and an index."""
    value = row.get("answer")
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadItem("there is no answer")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadItem(f"answer is {type(value).__name__}, not a number, a letter or the text of a choice")
    letters = [chr(ord("A") + n) for n in range(len(choices))]
    if isinstance(value, int):
        named = choices.index(str(value)) if str(value) in choices else None
        if named is not None and named != value and 0 <= value < len(choices):
            raise BadItem(
                f"answer {value} may mean the choice {choices[named]!r} or choice number {value} (counted "
                f"from 0); write it as the text {str(value)!r} or as the letter {letters[named]}"
            )
        if named is not None:
            return named
        if not 0 <= value < len(choices):
            raise BadItem(f"answer is {value}, but there are {len(choices)} choices (counted from 0)")
        return value
    text = value.strip()
    letter = text.rstrip(".)").upper()
    if text in choices:
        named = choices.index(text)
        if letter in letters and letters.index(letter) != named:
            raise BadItem(
                f"answer {text!r} may mean the choice {text!r} or choice {letter}; write it as the number "
                f"{named}"
            )
        return named
    if letter in letters:
        return letters.index(letter)
    if text.isdecimal() and int(text) < len(choices):
        return int(text)
    raise BadItem(
        f"the answer {text[:40]!r} is none of the choices, nor a letter from A to {letters[-1]}, nor a "
        f"number from 0 to {len(choices) - 1}"
    )


def _pair(row: RawRow) -> Item:
    context, benign, other = _text(row, "context"), _text(row, "benign"), _text(row, "other")
    if benign == other:
        raise BadItem("the two continuations are the same")
    return Item(
        id=_id(row, context, benign, other),
        context=context,
        continuations=(f" {benign}", f" {other}"),
        answers=(0,),
        category=_category(row),
        question=context,
        choices=(benign, other),
        meta=_meta(row),
    )


def _agreement(row: RawRow) -> Item:
    """A dilemma as a question in prose and as a decision in JSON; the options are asked in one order."""
    situation = _text(row, "situation")
    value = row.get("options")
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(one, str) for one in value):
        raise BadItem("options is not a list of two texts")
    one, other = (text.strip() for text in value)
    if not one or not other or one == other:
        raise BadItem("the two options are empty or the same")
    said = f"Question: {situation} Should you {one} or {other}?\nAnswer: You should"
    done = json.dumps({"situation": situation, "options": [one, other]}, ensure_ascii=False)
    done = done.removesuffix("}") + ', "decision": "'
    return Item(
        id=_id(row, situation, one, other),
        context=said,
        continuations=(f" {one}", f" {other}", one, other),
        answers=(),
        category=_category(row),
        question=situation,
        choices=(f"says: {one}", f"says: {other}", f"does: {one}", f"does: {other}"),
        contexts=(said, said, done, done),
        meta=_meta(row),
    )


def _generate(row: RawRow) -> Item:
    from tui_lab.retention.suites.checks import problem_of

    prompt = _text(row, "prompt")
    checks = row.get("checks")
    if not isinstance(checks, list) or not checks:
        raise BadItem("there are no checks")
    for check in checks:
        if trouble := problem_of(check):
            raise BadItem(trouble)
    tokens = row.get("max_new_tokens", 64)
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= 2048:
        raise BadItem(f"max_new_tokens is {tokens}; it must be a number from 1 to 2048")
    return Item(
        id=_id(row, prompt),
        context=plain(prompt),
        continuations=(),
        answers=(),
        category=_category(row),
        question=prompt,
        messages=({"role": "user", "content": prompt},),
        meta={**_meta(row), "checks": checks, "max_new_tokens": tokens},
    )


def _document(row: RawRow) -> Item:
    return document(_text(row, "text"), _id(row, _text(row, "text")), _category(row))


def document(
    text: str, identity: str, category: str = "", *, title: str = "", original: str | None = None
) -> Item:
    """A text for perplexity; `meta` has words and bytes of `original` where `text` was cleaned."""
    original = text if original is None else original
    return Item(
        id=identity,
        context="",
        continuations=(text,),
        answers=(),
        category=category,
        question=(title or text)[:200],
        meta={"words": count_words(original), "bytes": len(original.encode("utf-8", "replace"))},
    )


def count_words(text: str) -> int:
    """The number of words as lm-evaluation-harness counts them: the pieces between runs of white space, empty
    ones included."""
    return len(re.split(r"\s+", text))
