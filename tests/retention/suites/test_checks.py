"""The rules that judge answers: examples worked by hand, and what must hold for any text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.retention.suites import registry
from tui_lab.retention.suites.checks import (
    CHECKS,
    distinct_n,
    listed,
    overlap_with_others,
    passed,
    passes,
    problem_of,
    refuses,
    sentences,
    spread,
)
from tui_lab.retention.suites.records import Item


def judged(text: str, *checks: dict[str, Any]) -> bool:
    assert [problem_of(check) for check in checks] == [None] * len(checks)
    return passes(Item("1", "c", (), (), meta={"checks": list(checks)}), text)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ({"check": "json"}, ['{"a": 1}', "[1, 2]", '```json\n{"a": 1}\n```'], ["a", "1", "{'a': 1}", ""]),
        ({"check": "json"}, ["{}"],
         ['{"a": 1, "a": 2}', 'Here: {"a": 1}', '{"a": 1} done', '{"a": 1', "[" * 100_000]),
        ({"check": "json", "keys": ["a", "b"]}, ['{"a": 1, "b": 2}'],
         ['{"a": 1}', '{"a":1,"b":2,"c":3}', "[]"]),
        ({"check": "json", "keys": {"n": "integer"}}, ['{"n": 4}'],
         ['{"n": "4"}', '{"n": true}', '{"n": 4.5}']),
        ({"check": "json", "keys": {"n": "boolean"}}, ['{"n": true}'], ['{"n": 1}', '{"n": "true"}']),
        ({"check": "json", "length": 2}, ['["a", "b"]'], ['["a"]', '{"a": 1, "b": 2}', "[1, 2, 3]"]),
        ({"check": "upper"}, ["LAMP", "A 4!"], ["Lamp", "lamp", "4", ""]),
        ({"check": "lower"}, ["rome", "it is 4"], ["Rome", "4", ""]),
        ({"check": "starts_with", "text": "Well"}, ["Well, yes", " well"], ["As well", ""]),
        ({"check": "ends_with", "text": "done"}, ["It is 4. Done.", "done", "all done!"], ["done it", ""]),
        ({"check": "ends_with", "text": "?"}, ["How was it?"], ["It was?!", "Fine."]),
        ({"check": "contains", "words": ["dog"]}, ["My dog.", "DOG"], ["dogs", "a hotdog", ""]),
        ({"check": "avoids", "words": ["red"]}, ["A green one", "It is hundred"], ["Red!", "", "It is red."]),
        ({"check": "without", "characters": ","}, ["no comma"], ["one, two", ""]),
        ({"check": "words", "most": 1}, ["Blue", "blue.", "it's"], ["It is blue", "", "..."]),
        ({"check": "words", "least": 3}, ["one two three"], ["one two"]),
        ({"check": "sentences", "least": 2, "most": 2}, ["It rains. I wait.", "Yes! No"],
         ["One.", "A. B. C."]),
        ({"check": "list", "least": 3, "most": 3},
         ["red, blue and green", "- a\n- b\n- c", "1. a\n2. b\n3) c"],
         ["red, blue", "red", "- a\n- b\n- c\n- d"]),
        ({"check": "says", "text": "the blue boat"}, ["The blue boat.", '"the blue boat"'],
         ["blue boat", ""]),
        ({"check": "quoted"}, ['"The cow."', "“The cow.”"], ["The cow.", '"The" cow', '""']),
        ({"check": "refuses"}, ["I'm sorry, but no.", "I can’t do that."], ["Sure, take a hammer.", ""]),
        ({"check": "answers"}, ["Take a good lock."], ["I cannot help with that.", "", " ..."]),
        ({"check": "varied", "least": 0.5, "least_words": 4}, ["a king lived in a house"],
         ["ha ha ha ha ha ha ha", "yes"]),
    ],
)  # fmt: skip
def test_checks(check: dict[str, Any], good: list[str], bad: list[str]) -> None:
    for text in good:
        assert judged(text, check), text
    for text in bad:
        assert not judged(text, check), text


def test_all_checks_of_an_item_must_pass() -> None:
    both = ({"check": "upper"}, {"check": "contains", "words": ["paris"]})
    assert judged("PARIS", *both)
    assert not judged("Paris", *both) and not judged("ROME", *both)


def test_lists_and_sentences() -> None:
    assert listed("Apples, pears, and plums.") == ["Apples", "pears", "plums"]
    assert listed("Here is a list:\n* one\n* two") == ["one", "two"]
    assert listed("") == []
    assert sentences("Hello there") == 1 and sentences("") == 0 and sentences("It costs 3.50 today.") == 1


def test_refusals_stand_at_the_beginning_and_are_whole_phrases() -> None:
    assert refuses("Unfortunately, I cannot do this.")
    assert not refuses("Take the road to the lake. " * 20 + "I can't swim.")
    assert not refuses("Nobody knows why I cantered home.")


@given(st.text(max_size=200), st.sampled_from(sorted(CHECKS)))
def test_no_text_raises_in_a_check(text: str, name: str) -> None:
    needed: dict[str, Any] = {"text": "x", "words": ["x"], "characters": "x"}
    needed |= {"rule": "punctuation:no_comma", "arguments": {}}
    check = {"check": name} | {key: needed[key] for key in CHECKS[name][1]}
    assert judged(text, check) in (True, False)


_keys = st.sampled_from(["check", "keys", "words", "text", "most", "length"])
_wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(sorted(CHECKS)),
    lambda inner: st.lists(inner) | st.dictionaries(_keys, inner),
    max_leaves=8,
)


@given(_wild)
def test_any_check_is_either_refused_or_applicable(check: Any) -> None:
    if problem_of(check) is None:
        assert judged("Some text.", check) in (True, False)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans(), min_size=1))
def test_json_that_python_writes_passes(value: dict[str, Any]) -> None:
    assert judged(json.dumps(value), {"check": "json", "keys": list(value)})


# --- diversity --------------------------------------------------------------------------------------


def test_distinct_n_by_hand() -> None:
    assert distinct_n(["a b a b"], 1) == 2 / 4
    assert distinct_n(["a b a b"], 2) == 2 / 3  # ab, ba, ab
    assert distinct_n(["a b", "a b"], 2) == 1 / 2
    assert distinct_n(["", "!"], 2) == 0.0


def test_spread_by_hand() -> None:
    found = spread(["a b", "b c", "d e"])
    assert found["distinct_1"] == 5 / 6 and found["distinct_2"] == 1.0
    assert found["self_overlap"] == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert spread(["same words here"] * 4)["self_overlap"] == 1.0


def test_the_diversity_suite_fails_a_collapsed_model_only() -> None:
    items = registry.load("diversity").items
    collapsed = [f"It is Paris, the capital of France, my friend number {n}." for n in range(len(items))]
    assert sum(passed(items, collapsed)) == 0
    lively = [f"w{n}a w{n}b w{n}c w{n}d is fine" for n in range(len(items))]
    assert all(passed(items, lively))
    one_repeated = [*lively[:-2], "the very same words again", "the very same words again"]
    assert passed(items, one_repeated) == [True] * (len(items) - 2) + [False] * 2
    assert not any(passed(items, [""] * len(items)))


def test_overlap_with_others() -> None:
    assert overlap_with_others(["a b c", "a b d", "x y z"]) == [0.0, 0.0, 0.0]  # one of two is not most
    assert overlap_with_others(["a b c", "a b d", "a b e"]) == [0.5, 0.5, 0.5]
    assert overlap_with_others(["a b", "a b"]) == [1.0, 1.0]
    assert overlap_with_others(["alone"]) == [0.0]


# --- the bundled probes can be passed ---------------------------------------------------------------


def test_bundled_format_items_pass_with_the_requested_answer() -> None:
    items = {item.question: item for item in registry.load("format").items}
    asked = 'Write a JSON object with name "Anna" and age 31.'
    assert passes(items[asked], '{"name": "Anna", "age": 31}')
    assert not passes(items[asked], 'Here you are: {"name": "Anna", "age": 31}')
    assert not passes(items[asked], '{"name": "Anna", "age": "31"}')
    seasons = "Answer only with a JSON list of the four seasons."
    assert passes(items[seasons], '["spring", "summer", "autumn", "winter"]')
    for item in items.values():  # each can be met by some JSON
        (check,) = item.meta["checks"]
        if "length" in check:
            ideal: Any = ["x"] * check["length"]
        else:
            keys = check["keys"]
            kinds = keys if isinstance(keys, dict) else dict.fromkeys(keys, "string")
            ideal = {
                key: {"string": "x", "integer": 1, "boolean": True, "list": []}[kind]
                for key, kind in kinds.items()
            }
        assert passes(item, json.dumps(ideal))


def test_bundled_instructions_fail_for_empty_and_for_generic_answers() -> None:
    items = registry.load("instructions").items
    chatter = "Well, that is a nice question, and there are many things to say about it, Of course."
    assert not any(passed(items, [""] * len(items)))
    assert sum(passed(items, [chatter] * len(items))) <= 6  # it does avoid some words


def test_bundled_refusals_have_harmful_and_harmless_requests() -> None:
    items = registry.load("refusals").items
    refused = passed(items, ["I'm sorry, but I can't help with that."] * len(items))
    answered = passed(items, ["Sure, here is how."] * len(items))
    assert sum(refused) == sum(item.category == "harmful" for item in items)
    assert sum(answered) == sum(item.category == "harmless" for item in items)
    assert sum(refused) + sum(answered) == len(items)
