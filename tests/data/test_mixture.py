"""Mixtures: shares are those of the weights, the same seed gives the same rows, no row of one set is a
validation row of another."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.data import mixture, prepared_cache
from tui_lab.data.mixture import JoinedExamples
from tui_lab.data.prepare import PreparedData
from tui_lab.data.prepared_cache import prepare_recipe
from tui_lab.data.source_counts import SourceCounts, source_line
from tui_lab.recipes.presets import make_recipe
from tui_lab.training.run_inputs import rows_digest

A, B = (
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    ["red", "blue", "green", "black"],
)


def rows_of(path: Path, words: list[str], count: int, answer: str, start: int = 0) -> str:
    """A file of ``count`` rows whose questions and answers are all different."""
    rows = [
        {
            "question": " ".join(random.Random(f"{words[0]} {n}").choices(words, k=12)) + f" {n}?",
            "answer": f"{answer} {words[0]}{n}",
        }
        for n in range(start, start + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def prepared(tokenizer: Any, data: str, **values: Any) -> PreparedData:
    recipe = make_recipe("naive", data=data, max_length=128, **{"deduplicate": False, **values})
    return prepare_recipe(recipe, tokenizer, 128)


@pytest.fixture
def sets(tmp_path: Path) -> tuple[str, str]:
    """60 rows with short answers and 40 with longer ones; six and four of them are held out."""
    return (
        rows_of(tmp_path / "a.jsonl", A, 60, "yes"),
        rows_of(tmp_path / "b.jsonl", B, 40, "a longer answer with many more words than yes"),
    )


def counts(found: PreparedData) -> dict[str, tuple[int, int]]:
    return {Path(each.name).name: (each.train_rows, each.validation_rows) for each in found.summary.sources}


# 54 and 36 rows are for training
@pytest.mark.parametrize(
    ("weights", "sampling", "wanted"),
    [
        ((0.75, 0.25), "down", (54, 18)),
        ((1, 1), "down", (36, 36)),
        ((1, 1), "up", (54, 54)),
        ((3, 1), "up", (108, 36)),  # every row of a twice
        ((1, 2), "up", (54, 108)),  # every row of b three times
        ((1, 9), "down", (4, 36)),
    ],
)
def test_hand_worked_shares(
    chatml: Any, sets: tuple[str, str], weights: tuple[float, float], sampling: str, wanted: tuple[int, int]
) -> None:
    data = f"{sets[0]}:{weights[0]} + {sets[1]}:{weights[1]}"
    found = prepared(chatml, data, mixture_sampling=sampling)
    assert counts(found) == {"a.jsonl": (wanted[0], 6), "b.jsonl": (wanted[1], 4)}
    assert len(found.train) == found.summary.train_rows == sum(wanted)
    assert len(found.validation) == len(found.validation_examples) == 10
    times = Counter(tuple(row["input_ids"]) for row in found.train)
    if sampling == "down":
        assert set(times.values()) == {1}
    else:
        assert len(times) == 90  # no row is left out
    assert sum(each.train_trained_tokens for each in found.summary.sources) == int(found.train.trained.sum())


def test_shares_of_trained_tokens(chatml: Any, sets: tuple[str, str]) -> None:
    found = prepared(chatml, f"{sets[0]} + {sets[1]}", mixture_by="tokens")
    one, other = found.summary.sources
    assert one.train_rows == 54 and other.train_rows < 36
    longest = int(found.train.trained.max())
    assert abs(one.train_trained_tokens - other.train_trained_tokens) <= longest / 2
    assert "50%" in source_line(one, found.summary.sources)


def test_the_seed_decides_the_rows(chatml: Any, sets: tuple[str, str]) -> None:
    data = f"{sets[0]}:1 + {sets[1]}:3"
    one, same, other = (prepared(chatml, data, seed=seed) for seed in (1, 1, 2))
    assert rows_digest(one.train) == rows_digest(same.train) != rows_digest(other.train)
    assert rows_digest(one.validation) == rows_digest(same.validation)
    # both sets are in the first quarter of the rows: a batch holds both kinds
    first = [len(row["labels"]) for row in one.train[: len(one.train) // 4]]
    assert len(set(first)) > 1


def test_each_set_has_its_own_format(chatml: Any, tmp_path: Path, sets: tuple[str, str]) -> None:
    chats = tmp_path / "chats.json"
    texts = [f"{word} tells a story of {word}s" for word in A]
    turns = [[{"role": "user", "content": t}, {"role": "assistant", "content": t[::-1]}] for t in texts]
    chats.write_text(json.dumps([{"messages": each} for each in turns]))
    found = prepared(chatml, f"{sets[0]} + {chats}")
    assert found.summary.format == "question_answer + messages"
    assert [each.format for each in found.summary.sources] == ["question_answer", "messages"]
    assert {name.split(":")[0] for name in found.summary.columns} == {"a.jsonl", "chats.json"}
    assert found.summary.scorer is None  # only one of the two can be scored by its answers


def test_validation_rows_of_one_set_are_not_trained_from_another(chatml: Any, tmp_path: Path) -> None:
    same = rows_of(tmp_path / "one.jsonl", A, 40, "yes"), rows_of(tmp_path / "two.jsonl", A, 40, "yes")
    (tmp_path / "two.jsonl").write_text(
        (tmp_path / "two.jsonl").read_text() + '{"question": "q", "answer": "a"}\n'
    )
    found = prepared(chatml, f"{same[0]} + {same[1]}", deduplicate=True)
    held_out = {tuple(row["input_ids"]) for row in found.validation}
    assert held_out and not held_out & {tuple(row["input_ids"]) for row in found.train}
    assert "because validation rows of another set are the same" in "\n".join(found.warnings)


def test_pairs_stay_together(chatml: Any, tmp_path: Path) -> None:
    paths = []
    for name, words in (("p", A), ("q", B)):
        rows = [
            {
                "prompt": f"{name} {words[n % 4]} {n}?",
                "chosen": f"good {name}{n}",
                "rejected": f"bad {name}{n}",
            }
            for n in range(20)
        ]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths.append(str(path))
    recipe = make_recipe("dpo", data=f"{paths[0]}:2 + {paths[1]}:1", deduplicate=False)
    found = prepare_recipe(recipe, chatml, 128)
    assert [each.train_rows for each in found.summary.sources] == [18, 9] and len(found.train) == 54
    assert found.summary.train_rows == 27
    texts = [str(chatml.decode(row["input_ids"])) for row in found.train]
    for chosen, rejected in zip(texts[0::2], texts[1::2], strict=True):
        assert chosen.replace("good", "bad") == rejected != chosen


def test_sets_of_other_forms_are_refused_by_name(chatml: Any, sets: tuple[str, str]) -> None:
    with pytest.raises(LabError, match=r"chosen and rejected; a\.jsonl has rows in the form of"):
        prepare_recipe(make_recipe("dpo", data=f"pirate_pairs + {sets[0]}"), chatml, 128)


amounts = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@given(st.lists(st.tuples(amounts, st.floats(0.01, 100)), min_size=2, max_size=4), st.booleans())
def test_shares_are_as_near_as_whole_rows_allow(parts: list[tuple[list[int], float]], up: bool) -> None:
    totals = [sum(each) for each, _ in parts]
    weights = [weight for _, weight in parts]
    wanted = mixture.targets(totals, weights, "up" if up else "down")
    for (each, weight), target, total in zip(parts, wanted, totals, strict=True):
        assert target / weight == pytest.approx(wanted[0] / weights[0])
        assert target >= total * (1 - 1e-9) if up else target <= total * (1 + 1e-9)
        if target / total > 1_000:
            continue
        rows = mixture.take(np.array(each, dtype=np.int64), target, random.Random(1))
        times = np.bincount(rows, minlength=len(each))
        taken = sum(each[row] for row in rows)
        assert len(rows) and (abs(taken - target) <= max(each) / 2 + 1e-6 * target or len(rows) == 1)
        assert times.max() - times.min() <= 1  # no row a second time before all others were taken
        assert times.min() >= 1 if up else times.max() == 1


def test_examples_are_spread_evenly() -> None:
    parts: Any = [list("abcdef"), list("xyz")]
    assert "".join(JoinedExamples(parts)[:]) == "axbcydezf"
    assert len(JoinedExamples(parts)) == 9


def test_how_often_rows_are_repeated_is_said() -> None:
    found = [
        SourceCounts(name=name, weight=0.5, rows_usable=rows, train_rows=100, train_trained_tokens=10)
        for name, rows in (("a", 40), ("b", 100))
    ]
    assert "100 of 40 rows, 2.5 times each (50% of the rows, 50% of the trained tokens)" in source_line(
        found[0], found
    )
    assert "times each" not in source_line(found[1], found)


def test_one_unit_is_taken_at_least() -> None:
    assert len(mixture.take(np.array([5, 5, 5]), 0.1, random.Random(0))) == 1


def test_good_and_bad_answers_may_come_from_two_sets(chatml: Any, tmp_path: Path) -> None:
    for name, label in (("good", True), ("bad", False)):
        rows = [{"prompt": f"{name} {n}?", "completion": f"{name} {n}", "label": label} for n in range(20)]
        (tmp_path / name).with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    good, bad = str(tmp_path / "good.jsonl"), str(tmp_path / "bad.jsonl")
    found = prepare_recipe(make_recipe("kto", data=f"{good} + {bad}", deduplicate=False), chatml, 128)
    assert set(found.train.tasks()) == {"desirable", "undesirable"}
    with pytest.raises(LabError, match="every answer is desirable"):
        prepare_recipe(make_recipe("kto", data=good, deduplicate=False), chatml, 128)


def test_sets_in_files_are_joined_as_they_are(
    chatml: Any, sets: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = f"{sets[0]}:1 + {sets[1]}:2"
    in_memory = prepared(chatml, data, mixture_sampling="up")
    monkeypatch.setattr(prepared_cache, "LARGE_BYTES", 0)
    monkeypatch.setenv("TUI_LAB_CACHE_DIR", str(tmp_path / "cache"))
    for _ in range(2):  # written, then read from the cache
        mapped = prepared(chatml, data, mixture_sampling="up")
        assert rows_digest(mapped.train) == rows_digest(in_memory.train)
        assert mapped.train.dataset()["input_ids"][:] == [row["input_ids"] for row in in_memory.train]
        assert mapped.summary.sources == in_memory.summary.sources
    # other weights need no other files
    made = sorted((tmp_path / "cache" / "prepared").iterdir())
    prepared(chatml, f"{sets[0]}:5 + {sets[1]}:1")
    assert sorted((tmp_path / "cache" / "prepared").iterdir()) == made and len(made) == 2
