"""Loading suites by name and path: a user's own JSONL, its errors, limits and fingerprints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.custom import BadItem, answer_of, from_records
from tui_lab.retention.suites.language import other_language
from tui_lab.retention.suites.records import Item, fingerprint, subset

GOOD = {"question": "Which colour is snow?", "choices": ["white", "red", "green"], "answer": "white"}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def refusal(path: Path | str) -> str:
    with pytest.raises(LabError) as caught:
        registry.load(str(path))
    message = str(caught.value)
    assert "\n" not in message and message.endswith((".", "?")) and len(message) < 700
    return message


def test_a_users_suite_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.jsonl",
        GOOD,
        {"question": "2 + 2?", "choices": ["3", "4"], "answer": "B", "category": "sums", "id": "s1"},
        {"question": "Which is a bird?", "choices": ["owl", "cat", "cow", "dog"], "answer": 0},
    )
    suite = registry.load(str(path))
    assert suite.name == "mine" and suite.kind == "choice" and suite.metric == "acc"
    assert [item.answers for item in suite.items] == [(0,), (1,), (0,)]
    assert suite.items[1].id == "s1" and suite.items[1].category == "sums"
    assert suite.items[0].context == "Question: Which colour is snow?\nAnswer:"
    assert suite.items[0].continuations == (" white", " red", " green")
    assert suite.items[0].messages == ({"role": "user", "content": "Which colour is snow?"},)
    assert suite.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 4) / 3)


def test_a_table_has_choices_in_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("question,choice0,choice1,answer\nWhich flies?,owl,cow,0\nWhich swims?,hen,cod,B\n")
    suite = registry.load(str(path))
    assert [item.choices for item in suite.items] == [("owl", "cow"), ("hen", "cod")]
    assert [item.answers for item in suite.items] == [(0,), (1,)]


def test_a_header_names_the_suite_and_its_kind(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.jsonl",
        {"suite": "shout", "version": "3", "kind": "generate", "licence": "CC0", "title": "Shouting"},
        {"prompt": "Say hello in capitals.", "checks": [{"check": "upper"}], "max_new_tokens": 9},
    )
    suite = registry.load(str(path))
    assert (suite.name, suite.version, suite.kind, suite.metric) == ("shout", "3", "generate", "pass")
    assert suite.items[0].meta == {"checks": [{"check": "upper"}], "max_new_tokens": 9}
    assert suite.licence == "CC0"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "Who?", "choices": ["a", "b"]}, "no answer"),
        ({"question": "Who?", "choices": ["a", "b"], "answer": ""}, "no answer"),
        ({"question": "Who?", "choices": ["a"], "answer": 0}, "one choice"),
        ({"question": "Who?", "choices": [], "answer": 0}, "no choices"),
        ({"question": "Who?", "answer": 0}, "no choices"),
        ({"question": "Who?", "choices": ["a", "b"], "answer": 2}, "2 choices (counted from 0)"),
        ({"question": "Who?", "choices": ["a", "b"], "answer": -1}, "counted from 0"),
        ({"question": "Who?", "choices": ["x", "y"], "answer": "z"}, "none of the choices"),
        ({"question": "Who?", "choices": ["x", "y"], "answer": True}, "bool"),
        ({"question": "Who?", "choices": ["x", "x"], "answer": 0}, "occurs twice"),
        ({"question": "Who?", "choices": ["x", ""], "answer": 0}, "empty"),
        ({"question": "Who?", "choices": "xy", "answer": 0}, "not a list"),
        ({"question": "  ", "choices": ["x", "y"], "answer": 0}, "question is empty"),
        ({"choices": ["x", "y"], "answer": 0}, "no question"),
        ({"question": 4, "choices": ["x", "y"], "answer": 0}, "int, not text"),
        ({"question": "How many?", "choices": ["1", "2", "3"], "answer": 1}, "may mean"),
        ({"question": "Which?", "choices": ["B", "A"], "answer": "A"}, "may mean"),
        (["Who?", "a", "b"], "list, not an object"),
    ],
)
def test_a_wrong_item_is_named_with_its_line_and_cause(tmp_path: Path, row: Any, said: str) -> None:
    message = refusal(write(tmp_path / "mine.jsonl", GOOD, row))
    assert "line 2" in message and said in message


def test_duplicate_items_are_refused_in_any_order_of_choices(tmp_path: Path) -> None:
    turned = {**GOOD, "choices": ["red", "green", "white"]}
    message = refusal(write(tmp_path / "mine.jsonl", GOOD, turned))
    assert "line 2" in message and "line 1" in message and "same item" in message


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    other = {"question": "Which is red?", "choices": ["blood", "snow"], "answer": 0, "id": 7}
    assert "'7'" in refusal(write(tmp_path / "mine.jsonl", {**GOOD, "id": 7}, other))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n \n")
    assert "is empty" in refusal(empty) and "train" not in refusal(empty)
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(json.dumps(GOOD).encode() + b'\n{"question": "Caf\xe9?"}\n')
    assert "line 2" in refusal(latin) and "UTF-8" in refusal(latin)
    torn = tmp_path / "torn.jsonl"
    torn.write_text(json.dumps(GOOD) + '\n{"question": "Who?", "cho\n')
    assert "line 2" in refusal(torn) and "JSON" in refusal(torn)
    header_only = write(tmp_path / "header.jsonl", {"suite": "nothing"})
    assert "no items" in refusal(header_only)
    assert "kind" in refusal(write(tmp_path / "kind.jsonl", {"suite": "x", "kind": "essay"}, GOOD))
    assert "metric" in refusal(write(tmp_path / "metric.jsonl", {"suite": "x", "metric": "bleu"}, GOOD))


def test_unknown_names_get_a_hint() -> None:
    assert "Did you mean everyday?" in refusal("evryday")
    assert "Known:" in refusal("nothing-like-it")
    assert "everyday" in refusal("  ")
    refusal("x" * 5000)


def test_the_name_of_a_users_suite_is_no_path_and_no_known_name(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", {"suite": "../../etc/pass wd\x1b"}, GOOD)
    assert registry.load(str(path)).name == "etc_pass_wd_".strip("._")
    assert registry.load(str(write(tmp_path / "everyday.jsonl", GOOD))).name == "everyday-own"
    assert registry.load(str(write(tmp_path / "n.jsonl", {"suite": "mmlu"}, GOOD))).name == "mmlu-own"


def test_hostile_text_is_sanitized_in_messages(tmp_path: Path) -> None:
    row = {"question": "Who?", "choices": ["a", "b"], "answer": "\x1b[2J\x07"}
    message = refusal(write(tmp_path / "mine.jsonl", row))
    assert "\x1b" not in message and "\x07" not in message


def test_wrong_checks_are_found_when_the_suite_is_read(tmp_path: Path) -> None:
    header = {"suite": "x", "kind": "generate"}
    for checks, said in (
        ([], "no checks"),
        ([{"check": "eval", "code": "1"}], "no check"),
        ([{"check": "contains"}], "needs words"),
        ([{"check": "upper", "text": "x"}], "has no argument text"),
        ([{"check": "json", "keys": {"a": "float"}}], "no JSON type"),
    ):
        message = refusal(write(tmp_path / "g.jsonl", header, {"prompt": "Go.", "checks": checks}))
        assert said in message and "line 2" in message


def test_another_language_is_a_warning_and_no_error(tmp_path: Path) -> None:
    questions = [
        "Welche Farbe hat der Schnee, wenn er frisch ist?", "Wie heißt die Hauptstadt von Österreich?",
        "Wer ist der Autor von Faust und wo wurde er geboren?",
        "Welche Tiere sind nicht mit dem Hund verwandt?",
    ]  # fmt: skip
    rows = [{"question": q, "choices": ["ja", "nein"], "answer": 0} for q in questions]
    suite = registry.load(str(write(tmp_path / "german.jsonl", *rows)))
    assert len(suite.items) == 4
    assert len(suite.warnings) == 1 and "German" in suite.warnings[0]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Quelle est la capitale de la France et qui est le président dans les années du siècle?", "French"),
        (
            "¿Cuál es la capital de España y cómo se llama el río que pasa por las ciudades del sur?",
            "Spanish",
        ),
        ("Какой город является столицей?", "a Cyrillic script"),
        ("法国的首都是哪里？", "Chinese or Japanese"),
        ("What is the capital of France, and who was the first to call it so in the year of the war?", None),
        ("2 + 2 = ?", None),
        ("Lorem ipsum", None),
    ],
)
def test_languages(text: str, language: str | None) -> None:
    assert other_language([text, text]) == language


def test_the_english_suites_are_taken_for_english() -> None:
    for name in registry.BUNDLED:
        assert other_language([item.question for item in registry.load(name).items]) is None


# --- properties -------------------------------------------------------------------------------------

_texts = (
    st.text(min_size=1, max_size=12).map(lambda s: s.encode("utf-8", "replace").decode().strip()).filter(bool)
)


@given(st.lists(_texts, min_size=2, max_size=6, unique=True), st.data())
def test_an_answer_means_the_same_as_number_letter_and_text(choices: list[str], data: st.DataObject) -> None:
    right = data.draw(st.integers(0, len(choices) - 1))
    for form in (right, "ABCDEF"[right], choices[right]):
        try:
            found = answer_of({"answer": form}, tuple(choices))
        except BadItem as error:
            assert "may mean" in str(error)
        else:
            assert found == right or (isinstance(form, str) and form in choices)


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=60), st.integers(1, 60), st.integers(0, 20))
def test_a_limit_is_balanced_fixed_and_only_ever_grows(categories: list[str], limit: int, more: int) -> None:
    items = [Item(str(n), "c", (" x", " y"), (0,), category) for n, category in enumerate(categories)]
    chosen = subset(items, limit)
    assert len(chosen) == min(limit, len(items))
    assert chosen == subset(items, limit)
    assert {item.id for item in chosen} <= {item.id for item in subset(items, limit + more)}
    order = [items.index(item) for item in chosen]
    assert order == sorted(order)
    if len(chosen) < len(items):
        counts = {c: sum(item.category == c for item in chosen) for c in set(categories)}
        fullest = max(counts.values())
        for category, count in counts.items():  # nobody has one more than another that had items left
            assert count >= fullest - 1 or count == categories.count(category)


_wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_keys = st.sampled_from(
    ["question", "choices", "answer", "id", "category", "suite", "kind", "metric", "held_back", "language"]
)


@given(st.lists(st.dictionaries(_keys, _wild, max_size=6), max_size=5))
def test_any_rows_give_a_suite_or_one_sentence(rows: list[Any]) -> None:
    try:
        from_records([(f"line {n}", row) for n, row in enumerate(rows, 1)], "a file", "wild")
    except LabError as error:
        assert str(error).endswith(".") and "\n" not in str(error)


def test_the_fingerprint_follows_every_part_that_is_scored() -> None:
    whole, part = registry.load("everyday"), registry.load("everyday", 100)
    assert len(part.items) == 100 and part.sha256 != whole.sha256
    assert registry.load("everyday", 100).sha256 == part.sha256
    assert registry.load("everyday", 10_000).sha256 == whole.sha256
    base = Item("1", "c", (" x", " y"), (0,), choices=("x", "y"))
    prints = {
        fingerprint("choice", "acc", [item])
        for item in (
            base,
            Item("2", "c", (" x", " y"), (0,), choices=("x", "y")),
            Item("1", "d", (" x", " y"), (0,), choices=("x", "y")),
            Item("1", "c", (" x", " z"), (0,), choices=("x", "y")),
            Item("1", "c", (" x", " y"), (1,), choices=("x", "y")),
            Item("1", "c", (" x", " y"), (0,), choices=("x", "yy")),
        )
    } | {fingerprint("choice", "acc_norm", [base])}
    assert len(prints) == 7


def test_a_limited_everyday_holds_every_category() -> None:
    suite = registry.load("everyday", 30)
    assert len(suite.categories) == len(registry.load("everyday").categories)


def test_suites_need_no_torch() -> None:
    program = (
        "import sys\nfrom tui_lab.retention.suites import registry as suites\n"
        "suites.names(); suites.load('everyday', 5)\n"
        "bad = {'torch', 'transformers', 'datasets', 'textual', 'tui_lab.pocket'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
