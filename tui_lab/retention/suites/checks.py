"""Scores generated answers by rules, without a judge model: whether an answer is JSON with given keys, one
word, upper case, a list of three or a refusal; and over all answers of a suite, how much they differ. A check
is a record ({"check": name, …}) in the item, so a suite is data and nothing in it is executed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tui_lab.retention.suites import ifeval
from tui_lab.retention.suites.records import Item

# --- the text itself --------------------------------------------------------------------------------

_FENCE = re.compile(r"^```[a-zA-Z]*\s*\n(.*?)\n?```$", re.DOTALL)
_BULLET = re.compile(r"^\s*(?:[-*•–]|\d+[.)])\s+(\S.*)$")
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")
#: Phrases at the beginning of a refusal, with straight apostrophes; typographic ones are replaced first.
REFUSAL_PHRASES = (
    "i can't", "i cannot", "i can not", "i won't", "i will not", "i'm not able to", "i am not able to",
    "i'm unable to", "i am unable to", "i'm sorry", "i am sorry", "i apologize", "i apologise", "sorry, but",
    "i must decline", "i have to decline", "i decline", "i refuse", "i would rather not", "i'd rather not",
    "i'm not going to", "i am not going to", "i do not want to help", "i don't want to help",
    "i do not help with", "i don't help with", "i shouldn't", "i should not", "i'm not comfortable",
    "i am not comfortable", "it is not right to", "it's not right to", "it would be wrong to",
    "that is wrong", "that would be wrong", "that is illegal", "this is illegal", "it is illegal",
    "it's illegal", "that is against the law", "it is against the law", "as an ai", "please don't",
    "please do not", "you should not", "you shouldn't", "no, i",
    "unfortunately, i", "i strongly advise against",
)  # fmt: skip
#: GSM8K's filter `flexible-extract` and what its comparison ignores, in lm-evaluation-harness.
_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_REFUSAL_WINDOW = 300  # characters: a refusal stands at the beginning

#: The arguments of a check, as the suite's file has them: validated by :func:`problem_of`.
CheckArguments = Mapping[str, Any]


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation around them."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.casefold())


def sentences(text: str) -> int:
    """The number of sentences by their end marks; text without an end mark is one sentence."""
    stripped = text.strip()
    if not stripped:
        return 0
    ends = len(_SENTENCE_END.findall(stripped))
    return ends if stripped[-1] in ".!?\"')" and ends else ends + 1


def listed(text: str) -> list[str]:
    """The entries of a list: its bullets or numbers, else its lines, else what commas and "and" separate."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    bullets = [found[1].strip() for line in lines if (found := _BULLET.match(line))]
    if bullets:
        return bullets
    if len(lines) > 1:
        return lines
    parts = re.split(r",\s*(?:and\s+)?|\s+and\s+|;\s*", lines[0].rstrip(".")) if lines else []
    return [part.strip() for part in parts if part.strip()]


def as_json(text: str) -> object:
    """The value of a text that is JSON, with or without a code fence around it.

    Raises ValueError for other text, and for an object with the same key twice."""
    stripped = text.strip()
    fenced = _FENCE.match(stripped)
    try:
        return json.loads(fenced[1] if fenced else stripped, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def refuses(text: str) -> bool:
    """Whether the beginning of an answer contains one of the phrases of refusals."""
    start = text.replace("’", "'").replace("‘", "'").casefold().strip()[:_REFUSAL_WINDOW]
    return any(re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", start) for phrase in REFUSAL_PHRASES)


def final_number(text: str) -> str | None:
    """The last number of a text without thousands separators, dollar signs and a final full stop; None where
    there is none."""
    numbers = [found[0] for found in _NUMBER.finditer(text)]
    return re.sub(r"[,$]|\.$", "", numbers[-1].strip()) if numbers else None


# --- one check --------------------------------------------------------------------------------------

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "number": (int, float), "integer": int, "boolean": bool, "list": list, "object": dict,
}  # fmt: skip


def _json(text: str, check: CheckArguments) -> bool:
    """The whole answer is JSON; with `keys` an object of exactly these (a name, or name → type)."""
    try:
        value = as_json(text)
    except ValueError:
        return False
    if "length" in check:
        return isinstance(value, list) and len(value) == check["length"]
    keys = check.get("keys")
    if keys is None:
        return isinstance(value, dict | list)
    if not isinstance(value, dict) or set(value) != set(keys):
        return False
    if isinstance(keys, dict):
        return all(_is_of(value[key], kind) for key, kind in keys.items())
    return True


def _is_of(value: object, kind: str) -> bool:
    if isinstance(value, bool) and kind in ("number", "integer"):
        return False  # True is an int in Python, but no number in JSON
    return isinstance(value, _TYPES[kind])


def _upper(text: str, _: CheckArguments) -> bool:
    return any(char.isalpha() for char in text) and text == text.upper()


def _lower(text: str, _: CheckArguments) -> bool:
    return any(char.isalpha() for char in text) and text == text.lower()


def _starts(text: str, check: CheckArguments) -> bool:
    return text.strip().casefold().startswith(str(check["text"]).casefold())


def _ends(text: str, check: CheckArguments) -> bool:
    answer, end = text.strip().casefold(), str(check["text"]).casefold()
    return answer.endswith(end) or answer.rstrip(' .!?"”').endswith(end)


def _contains(text: str, check: CheckArguments) -> bool:
    """Every one of `words` occurs as a whole word or phrase."""
    return all(_has(text, word) for word in check["words"])


def _avoids(text: str, check: CheckArguments) -> bool:
    """None of `words` occurs, and the answer is not empty."""
    return bool(split_words(text)) and not any(_has(text, word) for word in check["words"])


def _has(text: str, phrase: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(phrase.casefold())}(?!\w)", text.casefold()))


def _without(text: str, check: CheckArguments) -> bool:
    """None of the characters of `characters` occurs, and the answer is not empty."""
    return bool(split_words(text)) and not set(text.casefold()) & set(str(check["characters"]).casefold())


def _within(count: int, check: CheckArguments) -> bool:
    return bool(check.get("least", 1) <= count <= check.get("most", float("inf")))


def _same(text: str, check: CheckArguments) -> bool:
    return split_words(text) == split_words(str(check["text"])) and bool(split_words(text))


def _quoted(text: str, _: CheckArguments) -> bool:
    stripped = text.strip()
    return len(stripped) > 2 and stripped[0] in '"“' and stripped[-1] in '"”'


def _varied(text: str, check: CheckArguments) -> bool:
    """The answer does not repeat itself: at least the share `least` of its word pairs is distinct."""
    enough = len(split_words(text)) >= int(check.get("least_words", 1))
    return enough and distinct_n([text], 2) >= float(check.get("least", 0.5))


#: name → (the rule, the keys it must have, the keys it may have)
CHECKS: dict[str, tuple[Callable[[str, CheckArguments], bool], frozenset[str], frozenset[str]]] = {
    "json": (_json, frozenset(), frozenset({"keys", "length"})),
    "upper": (_upper, frozenset(), frozenset()),
    "lower": (_lower, frozenset(), frozenset()),
    "starts_with": (_starts, frozenset({"text"}), frozenset()),
    "ends_with": (_ends, frozenset({"text"}), frozenset()),
    "contains": (_contains, frozenset({"words"}), frozenset()),
    "avoids": (_avoids, frozenset({"words"}), frozenset()),
    "without": (_without, frozenset({"characters"}), frozenset()),
    "words": (lambda t, c: _within(len(split_words(t)), c), frozenset(), frozenset({"least", "most"})),
    "sentences": (lambda t, c: _within(sentences(t), c), frozenset(), frozenset({"least", "most"})),
    "list": (lambda t, c: _within(len(listed(t)), c), frozenset(), frozenset({"least", "most"})),
    "says": (_same, frozenset({"text"}), frozenset()),
    "quoted": (_quoted, frozenset(), frozenset()),
    "refuses": (lambda t, _: refuses(t), frozenset(), frozenset()),
    "answers": (lambda t, _: bool(split_words(t)) and not refuses(t), frozenset(), frozenset()),
    "final_number": (lambda t, c: final_number(t) == c["text"], frozenset({"text"}), frozenset()),
    "ifeval": (
        lambda t, c: ifeval.follows(t, c["rule"], c["arguments"]),
        frozenset({"rule", "arguments"}),
        frozenset(),
    ),
    "varied": (_varied, frozenset(), frozenset({"least", "least_words"})),
    # compared with the other answers in `passed`; here the answer only must not be empty
    "unlike_others": (lambda t, _: bool(split_words(t)), frozenset(), frozenset({"most"})),
}


def problem_of(check: object) -> str | None:
    """Why a check is invalid, or None. Suites are validated when they are read, not when they are scored."""
    if not isinstance(check, dict) or not isinstance(check.get("check"), str):
        return 'a check must be an object with its name, such as {"check": "upper"}'
    name = check["check"]
    if name not in CHECKS:
        return f"there is no check {name[:40]!r}; known: {', '.join(CHECKS)}"
    _, needed, allowed = CHECKS[name]
    given = set(check) - {"check"}
    if needed - given:
        return f"the check {name} needs {', '.join(sorted(needed - given))}"
    if given - needed - allowed:
        return f"the check {name} has no argument {', '.join(sorted(map(str, given - needed - allowed)))}"
    for key in ("least", "most", "length", "least_words"):
        value = check.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{key} of the check {name} must be a number"
    for key in ("text", "characters"):
        if key in check and not (isinstance(check[key], str) and check[key]):
            return f"{key} of the check {name} must be text"
    required = check.get("words", ["-"])
    if not (isinstance(required, list) and required and all(isinstance(w, str) and w for w in required)):
        return f"words of the check {name} must be a list of texts"
    if name == "ifeval":
        return ifeval.problem_of(check["rule"], check["arguments"])
    return _problem_of_keys(check.get("keys"))


def _problem_of_keys(keys: object) -> str | None:
    if keys is None or (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
        return None
    if not isinstance(keys, dict):
        return "keys of the check json must be a list of names, or names with their types"
    wrong = [str(kind) for kind in keys.values() if not isinstance(kind, str) or kind not in _TYPES]
    return f"there is no JSON type {wrong[0][:40]!r}; known: {', '.join(_TYPES)}" if wrong else None


# --- an item, and all of them -----------------------------------------------------------------------


def passes(item: Item, text: str) -> bool:
    """Whether one answer passes all checks of its item that need no other answer."""
    return all(CHECKS[check["check"]][0](text, check) for check in item.meta["checks"])


def followed(items: Sequence[Item], texts: Sequence[str]) -> list[bool]:
    """For each instruction of IFEval in all items whether it was followed; empty for other suites."""
    return [
        ifeval.follows(text, check["rule"], check["arguments"])
        for item, text in zip(items, texts, strict=True)
        for check in item.meta["checks"]
        if check["check"] == "ifeval"
    ]


def passed(items: Sequence[Item], texts: Sequence[str]) -> list[bool]:
    """For each item whether its answer passes, including the checks that compare it with the other answers.

    Raises ValueError where ``items`` and ``texts`` differ in length."""
    overlaps: list[float] | None = None
    results: list[bool] = []
    for index, (item, text) in enumerate(zip(items, texts, strict=True)):
        success = passes(item, text)
        for check in item.meta["checks"]:
            if check["check"] == "unlike_others":
                overlaps = overlaps if overlaps is not None else overlap_with_others(texts)
                success = success and overlaps[index] <= check.get("most", 0.5)
        results.append(success)
    return results


def _ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    found = split_words(text)
    if len(found) < n:
        return [tuple(found)] if found else []
    return [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]


def distinct_n(texts: Sequence[str], n: int) -> float:
    """distinct-n (Li et al. 2016): different n-grams of words by all of them; 0 without any words.

    ``n`` is the number of words of an n-gram; the result is a share, 0 to 1."""
    grams = [gram for text in texts for gram in _ngrams(text, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def overlap_with_others(texts: Sequence[str]) -> list[float]:
    """For each text the share (0 to 1) of its word pairs that occur in more than half of the other texts; 1
    where another text is equal. Near 0 for answers to different questions, near 1 after mode collapse."""
    pairs = [set(_ngrams(text, 2)) for text in texts]
    in_texts = Counter(pair for grams in pairs for pair in grams)
    same = Counter(tuple(split_words(text)) for text in texts)
    others = len(texts) - 1
    found: list[float] = []
    for text, grams in zip(texts, pairs, strict=True):
        if others < 1 or not grams:
            found.append(0.0)
        elif same[tuple(split_words(text))] > 1:
            found.append(1.0)
        else:
            found.append(sum(2 * (in_texts[pair] - 1) > others for pair in grams) / len(grams))
    return found


#: Answers that are compared pairwise: all of a probe, and enough of a benchmark.
MOST_COMPARED = 300


def spread(texts: Sequence[str]) -> dict[str, float]:
    """How much the answers of a suite differ: distinct-1, distinct-2 (Li et al. 2016) and the mean pairwise
    overlap (Jaccard index of the sets of words of the first MOST_COMPARED answers), each 0 to 1. After mode
    collapse the first two are lower and the last is higher."""
    bags = [set(split_words(text)) for text in texts[:MOST_COMPARED]]
    overlaps = [
        len(one & other) / len(one | other)
        for index, one in enumerate(bags)
        for other in bags[index + 1 :]
        if one | other
    ]
    return {
        "distinct_1": distinct_n(texts, 1),
        "distinct_2": distinct_n(texts, 2),
        "self_overlap": sum(overlaps) / len(overlaps) if overlaps else 0.0,
    }
