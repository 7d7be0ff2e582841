"""General rows: how many, what they teach, what is left out; for the bundled model and from files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.errors import LabError
from tui_lab.data import formats, replay, row_tokens, templates
from tui_lab.data.store import TokenRows
from tui_lab.pocket import MODEL_DIR
from tui_lab.pocket.builder.corpus import Corpus
from tui_lab.pocket.builder.relation import Relation
from tui_lab.pocket.builder.world import relations
from tui_lab.retention.suites import registry


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return templates.load_tokenizer(str(MODEL_DIR))


@pytest.mark.parametrize(("fraction", "wanted"), [(0.25, 240), (0.01, 7), (0.5, 720), (0.001, 1)])
def test_fraction_is_of_all_rows(fraction: float, wanted: int) -> None:
    assert replay.rows_wanted(720, fraction) == wanted


def _taught(tokenizer: Any, row: dict[str, list[int]]) -> str:
    return str(tokenizer.decode([label for label in row["labels"] if label != row_tokens.IGNORED]))


def test_corpus_rows_are_reproducible_and_within_length(tokenizer: Any) -> None:
    one, same, other = (
        replay.general_rows("auto", tokenizer, 60, max_length=128, seed=seed) for seed in (1, 1, 2)
    )
    assert len(one.rows) == 60 and one.rows == same.rows and one.rows != other.rows
    assert all(2 <= len(row["input_ids"]) == len(row["labels"]) <= 128 for row in one.rows)
    assert all(_taught(tokenizer, row) for row in one.rows)
    # answers are taught, questions are not
    chats = [row for row in one.rows if tokenizer.decode(row["input_ids"]).startswith("<|user|>")]
    assert chats
    for row in chats:
        assert "<|user|>" not in _taught(tokenizer, row)


def test_corpus_is_read_again_for_more_rows(tokenizer: Any) -> None:
    rows = replay.general_rows("auto", tokenizer, 4_500, max_length=32, seed=1).rows
    assert len(rows) == 4_500


def test_categories_that_the_suite_holds_back_are_not_rehearsed(tokenizer: Any) -> None:
    """No question with the wording of a held-back relation, and no question of the suite itself."""
    suite = registry.load("everyday")
    left_out = [found for found in relations() if found.category in suite.held_back]

    def openings(found: Iterable[Relation], nouns: bool) -> set[str]:
        templates = [t for one in found for t in (*one.questions, *(one.noun_phrases if nouns else ()))]
        return {re.split(r"\{an?\}|\{s\}", template)[0].strip() for template in templates}

    others = openings([found for found in relations() if found not in left_out], nouns=True)
    telling = {
        text
        for text in openings(left_out, nouns=False) - others
        if len(text) > 18 and not any(text in other for other in others)
    }
    assert len(telling) >= 5
    text = (resources.files("tui_lab.data") / "bundled_sets" / "replay.jsonl").read_text("utf-8")
    assert not [start for start in telling if start in text]
    assert not [item.question for item in suite.items if item.question in text]
    everything = "\n".join(
        piece.text for document in islice(Corpus(3).documents(), 2_000) for piece in document
    )
    assert [start for start in telling if start in everything], "the wordings occur in the whole corpus"


def test_length_of_general_rows_follows_the_task() -> None:
    task = [{"input_ids": [1] * 9, "labels": [-100] * 6 + [1] * 3}] * 4
    assert replay.max_trained_tokens(TokenRows.of(task)) == 12
    row = {"input_ids": list(range(9)), "labels": [0, -100, 2, 3, -100, 5, 6, -100, 8]}
    assert replay.truncate(row, 3) == {"input_ids": [0, 1, 2, 3, 4, 5], "labels": [0, -100, 2, 3, -100, 5]}
    assert replay.truncate(row, 5) == row


def test_rows_from_a_file(tokenizer: Any, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text(
        "".join(json.dumps({"question": f"What is {i}?", "answer": f"It is {i}."}) + "\n" for i in range(40))
    )
    found = replay.general_rows(str(chats), tokenizer, 10, max_length=64, seed=0)
    assert len(found.rows) == 10 and not found.warnings
    assert all(
        "It is" in _taught(tokenizer, row) and "What" not in _taught(tokenizer, row) for row in found.rows
    )
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(f"This is text number {i}, and it is a text." for i in range(4)))
    found = replay.general_rows(str(texts), tokenizer, 10, max_length=64, seed=0)
    assert len(found.rows) == 4 and "gave 4 general rows where 10 were wanted" in found.warnings[0]
    assert all("This is text" in _taught(tokenizer, row) for row in found.rows), "text is taught whole"


def test_bad_sources_are_refused_in_a_sentence(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(LabError):
        replay.general_rows(str(tmp_path / "none.jsonl"), tokenizer, 5, max_length=64, seed=0)
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"question": "word " * 300, "answer": "yes"}) + "\n")
    with pytest.raises(LabError, match="can be trained on"):
        replay.general_rows(str(long), tokenizer, 5, max_length=32, seed=0)


def test_task_column_is_preserved(tokenizer: Any, tmp_path: Path) -> None:
    from tui_lab.data.prepare import Preparation, prepare

    data = tmp_path / "tasks.jsonl"
    data.write_text(
        "".join(
            json.dumps({"question": f"What is {i * 37}?", "answer": f"{i}", "task": "sum" if i % 2 else 7})
            + "\n"
            for i in range(30)
        )
    )
    prepared = prepare(formats.open_data(str(data)), tokenizer, Preparation(64))
    assert {row["task"] for row in prepared.train} == {"sum", "7"}
