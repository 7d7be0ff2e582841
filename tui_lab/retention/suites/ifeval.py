"""The 25 verifiable instructions of IFEval (Zhou et al. 2023, arXiv 2311.07911) as rules on an answer.

They decide as lm-evaluation-harness 0.4.13 does, with three differences that need no model or download:
sentences end at marks, not where NLTK's Punkt ends them; a language is recognised by its script or its small
words; and keywords are literal text, not patterns. No torch."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from tui_lab.retention.suites.language import most_likely

#: The arguments of a rule, as the data set has them: validated by :func:`problem_of`.
Arguments = Mapping[str, Any]
Rule = Callable[[str, Arguments], bool]

RELATIONS = ("less than", "at least")
_FIXED_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")
#: Languages that their script tells, among those that IFEval asks for.
_SCRIPTS = {
    "ARABIC": "ar ur fa", "CYRILLIC": "ru uk bg", "DEVANAGARI": "hi mr ne", "BENGALI": "bn", "THAI": "th",
    "TAMIL": "ta", "TELUGU": "te", "HANGUL": "ko", "HEBREW": "he", "KANNADA": "kn", "GUJARATI": "gu",
    "GURMUKHI": "pa", "MALAYALAM": "ml", "HIRAGANA": "ja",
}  # fmt: skip
_SCRIPT_OF = {code: script for script, codes in _SCRIPTS.items() for code in codes.split()}
_LATIN = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese",
    "pl": "Polish", "fi": "Finnish", "sw": "Swahili", "vi": "Vietnamese",
}  # fmt: skip


def is_in_language(text: str, code: str) -> bool:
    """Whether a text is in the language of an ISO 639-1 code: at least half of its letters are of the script,
    or its small words are mostly those of the language. True for text without letters."""
    letters = [char for char in text if char.isalpha()]
    if not letters:
        return True
    if code in _LATIN:
        return most_likely(text) == _LATIN[code]
    names = [unicodedata.name(char, "") for char in letters]
    if code == "ja":  # kana among the characters that Chinese has too
        kana = sum(name.startswith(("HIRAGANA", "KATAKANA")) for name in names)
        return kana > 0 and 2 * (kana + sum(name.startswith("CJK") for name in names)) >= len(names)
    return 2 * sum(name.startswith(_SCRIPT_OF[code]) for name in names) >= len(names)


def _compared(count: int, arguments: Arguments, number: str, relation: str = "relation") -> bool:
    limit: int = arguments[number]
    return count < limit if arguments[relation] == RELATIONS[0] else count >= limit


def _sentences(text: str) -> int:
    stripped = text.strip()
    ends = len(_SENTENCE_END.findall(stripped))
    return ends + (not _SENTENCE_END.search(stripped[-1:])) if stripped else 0


def _paragraphs(text: str, arguments: Arguments) -> bool:
    """Parted by ``***``; an empty one is allowed only at the beginning and at the end."""
    parts = [bool(part.strip()) for part in re.split(r"\s?\*\*\*\s?", text)]
    return all(parts[1:-1]) and bool(sum(parts) == arguments["num_paragraphs"])


def _first_word(text: str, arguments: Arguments) -> bool:
    """The n-th of a number of paragraphs, parted by empty lines, begins with a word."""
    parts = text.split("\n\n")
    filled, nth = sum(bool(part.strip()) for part in parts), arguments["nth_paragraph"]
    if not 1 <= nth <= filled or not parts[nth - 1].strip():
        return False
    word = re.split(r"[.,?!'\"]", parts[nth - 1].split()[0].lstrip("'").lstrip('"').lower())[0]
    return bool(filled == arguments["num_paragraphs"] and word == arguments["first_word"].lower())


def _highlights(text: str, arguments: Arguments) -> bool:
    once = [found.strip("*") for found in re.findall(r"\*[^\n\*]*\*", text)]
    twice = [found[2:-2] for found in re.findall(r"\*\*[^\n\*]*\*\*", text)]
    return sum(bool(found.strip()) for found in once + twice) >= int(arguments["num_highlights"])


def _postscript(text: str, arguments: Arguments) -> bool:
    marker = arguments["postscript_marker"]
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return bool(re.search(patterns.get(marker, re.escape(marker.lower())), text.lower()))


def _json(text: str, _: Arguments) -> bool:
    plain = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        plain = plain.removeprefix(fence)
    try:
        json.loads(plain.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _two_responses(text: str, _: Arguments) -> bool:
    parts = [part.strip() for part in text.split("******")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def _capital_words(text: str, arguments: Arguments) -> bool:
    words = re.findall(r"\w(?:[\w.&-]*\w)?", text)
    count = sum(word.isupper() for word in words)
    return _compared(count, arguments, "capital_frequency", "capital_relation")


def _bullets(text: str, arguments: Arguments) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return bool(len(stars) + len(dashes) == arguments["num_bullets"])


def _sections(text: str, arguments: Arguments) -> bool:
    pattern = rf"\s?{re.escape(arguments['section_spliter'])}\s?\d+\s?"
    return len(re.findall(pattern, text)) >= int(arguments["num_sections"])


def _count(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text, re.IGNORECASE))


#: instruction → (the rule, its arguments with their types)
RULES: dict[str, tuple[Rule, dict[str, type]]] = {
    "keywords:existence": (
        lambda t, a: all(_count(re.escape(word), t) for word in a["keywords"]), {"keywords": list}),
    "keywords:frequency": (
        lambda t, a: _compared(_count(re.escape(a["keyword"]), t), a, "frequency"),
        {"keyword": str, "frequency": int, "relation": str}),
    "keywords:forbidden_words": (
        lambda t, a: not any(_count(rf"\b{re.escape(word)}\b", t) for word in a["forbidden_words"]),
        {"forbidden_words": list}),
    "keywords:letter_frequency": (
        lambda t, a: _compared(t.lower().count(a["letter"].lower()), a, "let_frequency", "let_relation"),
        {"letter": str, "let_frequency": int, "let_relation": str}),
    "language:response_language": (lambda t, a: is_in_language(t, a["language"]), {"language": str}),
    "length_constraints:number_sentences": (
        lambda t, a: _compared(_sentences(t), a, "num_sentences"), {"num_sentences": int, "relation": str}),
    "length_constraints:number_paragraphs": (_paragraphs, {"num_paragraphs": int}),
    "length_constraints:number_words": (
        lambda t, a: _compared(_count(r"\w+", t), a, "num_words"), {"num_words": int, "relation": str}),
    "length_constraints:nth_paragraph_first_word": (
        _first_word, {"num_paragraphs": int, "nth_paragraph": int, "first_word": str}),
    "detectable_content:number_placeholders": (
        lambda t, a: _count(r"\[.*?\]", t) >= int(a["num_placeholders"]), {"num_placeholders": int}),
    "detectable_content:postscript": (_postscript, {"postscript_marker": str}),
    "detectable_format:number_bullet_lists": (_bullets, {"num_bullets": int}),
    "detectable_format:constrained_response": (lambda t, _: any(one in t for one in _FIXED_ANSWERS), {}),
    "detectable_format:number_highlighted_sections": (_highlights, {"num_highlights": int}),
    "detectable_format:multiple_sections": (_sections, {"section_spliter": str, "num_sections": int}),
    "detectable_format:json_format": (_json, {}),
    "detectable_format:title": (
        lambda t, _: any(one.strip("<>").strip() for one in re.findall(r"<<[^\n]+>>", t)), {}),
    "combination:two_responses": (_two_responses, {}),
    "combination:repeat_prompt": (
        lambda t, a: t.strip().lower().startswith(a["prompt_to_repeat"].strip().lower()),
        {"prompt_to_repeat": str}),
    "startend:end_checker": (
        lambda t, a: t.strip().strip('"').lower().endswith(a["end_phrase"].strip().lower()),
        {"end_phrase": str}),
    "startend:quotation": (
        lambda t, _: len(t.strip()) > 1 and t.strip()[0] == t.strip()[-1] == '"', {}),
    "change_case:capital_word_frequency": (
        _capital_words, {"capital_frequency": int, "capital_relation": str}),
    "change_case:english_capital": (lambda t, _: t.isupper() and is_in_language(t, "en"), {}),
    "change_case:english_lowercase": (lambda t, _: t.islower() and is_in_language(t, "en"), {}),
    "punctuation:no_comma": (lambda t, _: "," not in t, {}),
}  # fmt: skip


def follows(text: str, rule: str, arguments: Arguments) -> bool:
    """Whether an answer follows an instruction; an empty one follows none."""
    return bool(text.strip()) and RULES[rule][0](text, arguments)


def problem_of(rule: object, arguments: object) -> str | None:
    """Why an instruction with its arguments is invalid, or None."""
    if not isinstance(rule, str) or rule not in RULES:
        return f"there is no instruction {str(rule)[:60]!r} in IFEval"
    if not isinstance(arguments, dict):
        return f"the arguments of {rule} are {type(arguments).__name__}, not an object"
    for name, kind in RULES[rule][1].items():
        value = arguments.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) or value in ("", []):
            return f"the instruction {rule} needs {name} as {kind.__name__}"
        if isinstance(value, list) and not all(isinstance(one, str) and one for one in value):
            return f"{name} of the instruction {rule} must be a list of texts"
        if name.endswith("relation") and value not in RELATIONS:
            return f"{name} of the instruction {rule} is {str(value)[:20]!r}, not {' or '.join(RELATIONS)}"
    if rule == "language:response_language" and arguments["language"] not in {**_SCRIPT_OF, **_LATIN}:
        return f"the language {arguments['language'][:20]!r} is none of those of IFEval"
    return None
