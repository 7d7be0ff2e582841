"""Splits, duplicates and leaks: near-duplicates against a brute-force Jaccard index written apart."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.data import duplicates, split
from tui_lab.data.formats import Example

WORDS = [a + b + c for a in "bdfg" for b in "aeiou" for c in "klmnprst"]


def ask(question: str, answer: str = "yes", system: str = "") -> Example:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Example(messages=tuple([{"role": "system", "content": system}] * bool(system) + turns))


@dataclass
class Rows:
    """A split with its rows in place of their indices."""

    train: list[Example]
    validation: list[Example]
    found: split.Split

    def __getattr__(self, name: str) -> Any:
        return getattr(self.found, name)


def divide(examples: list[Example], validation: list[Example] | None = None, **options: Any) -> Rows:
    found = split.split(examples, validation, **options)
    held_out = examples if validation is None else validation
    return Rows([examples[i] for i in found.train], [held_out[i] for i in found.validation], found)


def sentence(rng: random.Random, words: int) -> list[str]:
    return [rng.choice(WORDS) for _ in range(words)]


def prompts(rows: list[Example]) -> list[str]:
    return [next(m["content"] for m in row.messages or () if m["role"] == "user") for row in rows]


def test_equal_rows_but_for_case_blanks_and_punctuation() -> None:
    found = divide([ask("What  is it?"), ask("what is it"), ask("What is it?", "no")], validation_fraction=0)
    assert found.duplicates == 1 and len(found.train) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 3 + 4?", "What is 3 + 5?"),
        ("What is 3 + 4?", "What is 3 - 4?"),
        ("What is 3 * 4?", "What is 3 / 4?"),
        ("Is 3 < 4?", "Is 3 > 4?"),
        ("Is 1.5 more?", "Is 15 more?"),
        ("What is the capital of France?", "What is the capital of Spain?"),
        ("?", "!"),
    ],
)
def test_different_questions_are_not_removed(one: str, other: str) -> None:
    assert divide([ask(one), ask(other)], validation_fraction=0).duplicates == 0


def test_templated_questions_are_no_near_duplicates() -> None:
    """Long word problems that differ in one number, or in one name under a shared instruction."""
    rng = random.Random(0)
    frame = " ".join(sentence(rng, 60))
    numbers = [ask(f"{frame} {n} apples {frame[:40]} how many are left") for n in range(30)]
    names = [ask(f"{frame} the word to judge is {word}") for word in WORDS[:60]]
    found = divide(numbers + names, validation_fraction=0)
    assert (found.duplicates, found.near_duplicates) == (0, 0)


def test_a_changed_word_in_a_long_row_is_a_near_duplicate() -> None:
    rng = random.Random(1)
    rows = [sentence(rng, 60) for _ in range(40)]
    copies = [[*row[:30], "changed", *row[31:]] for row in rows[:7]]
    found = divide([ask(" ".join(row)) for row in rows + copies], validation_fraction=0)
    assert (found.duplicates, found.near_duplicates) == (0, 7)
    assert prompts(found.train) == [" ".join(row) for row in rows], "the first of each pair stays"
    other = [ask(" ".join(row), system=f"s{i}") for i, row in enumerate(rows[:3] + copies[:3])]
    assert divide(other, validation_fraction=0).near_duplicates == 0, "another system turn is another task"


def brute_force(texts: list[str]) -> set[int]:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {
            tuple(words[i : i + duplicates.SHINGLE_WORDS])
            for i in range(len(words) - duplicates.SHINGLE_WORDS + 1)
        }

    sets = [shingles(text) for text in texts]
    repeats: set[int] = set()
    for row, mine in enumerate(sets):
        if len(mine) < duplicates.MIN_SHINGLES:
            continue
        for other in range(row):
            if other in repeats or len(sets[other]) < duplicates.MIN_SHINGLES:
                continue
            if len(mine & sets[other]) / len(mine | sets[other]) >= duplicates.NEAR:
                repeats.add(row)
                break
    return repeats


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_near_duplicates_agree_with_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    rows = [sentence(rng, rng.randint(5, 80)) for _ in range(40)]
    for row in rng.sample(rows, 12):
        copy = list(row)
        for _ in range(rng.randint(1, 3)):
            copy[rng.randrange(len(copy))] = "other"
        rows.append(copy)
    texts = [" ".join(row) for row in rows]
    found = set(duplicates.near_duplicates(texts))
    expected = brute_force(texts)
    assert found <= expected, "never a row that is not one"
    assert len(expected - found) <= 1, "MinHash may miss one of hundreds"


def test_leaks_are_removed_from_train_whatever_the_answer() -> None:
    rng = random.Random(2)
    long = sentence(rng, 50)
    validation = [ask("Who  is it?", "me"), ask(" ".join(long))]
    train = [
        ask("who is it", "you"),
        ask("Who was it?"),
        ask(" ".join([*long[:20], "x", *long[21:]]), "other"),
    ]
    found = divide(train, validation)
    assert (found.leaks, found.near_leaks) == (1, 1)
    assert prompts(found.train) == ["Who was it?"] and found.validation == validation
    kept = divide(train, validation, deduplicate_rows=False)
    assert len(kept.train) == 3


def test_sizes_of_the_validation_split() -> None:
    assert [split.validation_size(n, 0.1) for n in (0, 1, 2, 9, 100, 50_000)] == [0, 0, 1, 1, 10, 1_000]
    assert split.validation_size(10, 0) == 0 and split.validation_size(3, 0.99) == 2


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=2, max_size=40),
    fraction=st.floats(0.01, 0.9),
    seed=st.integers(0, 99),
)
def test_split_properties(rows: list[tuple[int, int]], fraction: float, seed: int) -> None:
    examples = [ask(f"question {'abcdefghijklm'[q]}", f"answer {a}") for q, a in rows]
    found = divide(examples, validation_fraction=fraction, seed=seed)
    again = divide(examples, validation_fraction=fraction, seed=seed)
    assert (found.train, found.validation) == (again.train, again.validation)
    assert found.duplicates == len(rows) - len(set(rows))
    assert len(found.train) + len(found.validation) + found.leaks == len(set(rows))
    if len(set(rows)) > 1:
        assert found.train and found.validation
    shared = set(prompts(found.train)) & set(prompts(found.validation))
    assert not shared or found.notes, "no prompt on both sides, unless there is nothing else to split by"


def test_seeds_differ() -> None:
    rows = [ask(f"question {word}") for word in WORDS]
    one, other = (divide(rows, seed=seed).validation for seed in (0, 1))
    assert len(one) == len(other) == 16 and one != other


def test_one_prompt_for_all_rows_is_split_by_row() -> None:
    rows = [ask("Tell a story.", word) for word in WORDS[:20]]
    found = divide(rows)
    assert len(found.validation) == 2 and found.leaks == 0
    assert found.notes and "share one prompt" in found.notes[0]


def test_a_big_validation_set_is_drawn_from() -> None:
    given_rows = [ask(f"{a} {b}") for a in WORDS for b in WORDS[:10]]
    found = divide([ask("something else")], given_rows)
    assert len(found.validation) == split.MAX_VALIDATION and found.notes and "1,600" in found.notes[0]


def test_raw_text_is_compared_as_a_whole() -> None:
    rows = [Example(text=text) for text in ("One story.", "one  story", "Another.", "A third.")]
    found = divide(rows)
    assert found.duplicates == 1 and len(found.train) == 2 and len(found.validation) == 1


def passages(rng: random.Random, shape: str, answers: list[str]) -> list[Example]:
    """Four questions on each of ten long passages."""
    rows = []
    for _ in range(10):
        passage = " ".join(sentence(rng, 150))
        names = rng.sample(WORDS, 4)
        rows += [
            ask(shape.format(passage=passage, name=name), a) for name, a in zip(names, answers, strict=True)
        ]
    return rows


@pytest.mark.parametrize("answers", [["a", "b", "c", "d"], ["yes", "no", "yes", "no"], ["yes"] * 4])
@pytest.mark.parametrize(
    "shape",
    [
        "{passage}\n\nQuestion: What does {name} carry?",
        "What does {name} carry? {passage}",
        "Read. Does {name} carry it? Say yes or no.\n{passage}\nAnswer in one word.",
    ],
)
def test_questions_on_one_passage_are_different_rows(shape: str, answers: list[str]) -> None:
    rows = passages(random.Random(3), shape, answers)
    found = divide(rows, validation_fraction=0.2)
    assert (found.duplicates, found.near_duplicates, found.leaks, found.near_leaks) == (0, 0, 0, 0)
    assert len(found.train) + len(found.validation) == 40


def test_a_near_duplicate_has_nearly_the_same_answer() -> None:
    rng = random.Random(4)
    question, answer = " ".join(sentence(rng, 60)), sentence(rng, 60)
    changed = " ".join([*answer[:30], "changed", *answer[31:]])
    rows = [
        ask(question, " ".join(answer)),
        ask(question, changed),
        ask(question, "short"),
        ask(question, "brief"),
    ]
    found = divide(rows, validation_fraction=0)
    assert found.near_duplicates == 1 and len(found.train) == 3


def test_boilerplate_of_a_big_set_is_found_in_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "SAMPLE_ROWS", 100)
    monkeypatch.setattr(duplicates, "CHUNK_CHARS", 20_000)
    rng = random.Random(5)
    frame = " ".join(sentence(rng, 80))
    rows = [ask(f"{frame} {' '.join(sentence(rng, 25))}") for _ in range(300)]
    copies = [ask(f"{prompts([row])[0]} indeed") for row in rows[:20]]
    assert divide(rows + copies, validation_fraction=0).near_duplicates <= 20
    assert divide(rows, validation_fraction=0).near_duplicates == 0


def test_rows_of_different_groups_are_never_near_duplicates() -> None:
    """The groups only save time: rows that are nearly equal always share theirs."""
    rng = random.Random(6)
    for _ in range(200):
        question, answer = sentence(rng, rng.randint(1, 40)), sentence(rng, rng.randint(1, 40))
        rows = []
        for _ in range(2):
            asked, said = list(question), list(answer)
            for words in (asked, said):
                if rng.random() < 0.5:
                    words[rng.randrange(len(words))] = rng.choice(["other", "7", "other."])
            rows.append(duplicates.text_of(ask(" ".join(asked) + "? Why is it so?", " ".join(said))))
        one, other = rows
        if duplicates.same_row(one, other):
            assert one.row_group == other.row_group
        if duplicates.same_question(one, other):
            assert one.prompt_group == other.prompt_group


def test_many_questions_on_few_long_passages_are_told_apart_without_comparing_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = []
    monkeypatch.setattr(split, "same_row", lambda one, other: compared.append(one) or False)
    rng = random.Random(7)
    rows = [row for _ in range(5) for row in passages(rng, "{passage} Who is {name}?", ["a", "b", "c", "d"])]
    assert divide(rows, validation_fraction=0).near_duplicates == 0 and not compared
