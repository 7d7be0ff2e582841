"""Shapes of data sets that people bring: each column has a role or is named as not used."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tui_lab.core.errors import LabError
from tui_lab.data import formats, streams
from tui_lab.data.formats import DataSource

NAN = float("nan")
HI = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
CALL = {"name": "lookup", "arguments": {"q": "bees"}}


def source_of(folder: Path, *rows: Any, columns: str = "") -> DataSource:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return formats.read(str(path), columns=columns)


def turns(source: DataSource) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in source.rows[0].messages or ()]


ASKED = [("user", "Hi?"), ("assistant", "Hello.")]
SHAPES: dict[str, tuple[dict[str, Any], list[tuple[str, str]], list[str]]] = {
    "dolly": (
        {"instruction": "Sum.", "context": "1 2", "response": "3", "category": "x"},
        [("user", "Sum.\n\n1 2"), ("assistant", "3")],
        ["category"],
    ),
    "input and output": ({"input": "Hi?", "output": "Hello."}, ASKED, []),
    "inputs and targets": ({"inputs": "Hi?", "targets": "Hello."}, ASKED, []),
    "capitals": ({"Question": "Hi?", "ANSWER": "Hello."}, ASKED, []),
    "context and response": ({"Context": "Hi?", "Response": "Hello."}, ASKED, []),
    "squad": (
        {"id": "7", "context": "A bee.", "question": "What?", "answers": {"text": ["bee"], "start": [2]}},
        [("user", "A bee.\n\nWhat?"), ("assistant", "bee")],
        ["id"],
    ),
    "arc": (
        {"question": "Q?", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"},
        [("user", "Q?\nA. a\nB. b"), ("assistant", "B. b")],
        [],
    ),
    "arc, a number": (
        {"question": "Q?", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": 1},
        [("user", "Q?\nA. a\nB. b"), ("assistant", "A. a")],
        [],
    ),
    "boolq": (
        {"question": "is it", "passage": "It is.", "answer": True},
        [("user", "It is.\n\nis it"), ("assistant", "yes")],
        [],
    ),
    "race": (
        {"article": "A.", "question": "Q?", "options": ["a", "b"], "answer": "B"},
        [("user", "A.\n\nQ?\nA. a\nB. b"), ("assistant", "B. b")],
        [],
    ),
    "medqa": (
        {"question": "Q?", "options": {"A": "a", "B": "b"}, "answer": "b", "answer_idx": "B"},
        [("user", "Q?\nA. a\nB. b"), ("assistant", "B. b")],
        ["answer_idx"],
    ),
    "spread choices": (
        {"question": "Q?", "opa": "a", "opb": "b", "cop": 1},
        [("user", "Q?\nA. a\nB. b"), ("assistant", "B. b")],
        [],
    ),
    "numbers as choices": (
        {"question": "What is 0 plus 2?", "choices": [1, 2, 3], "answer": 1},
        [("user", "What is 0 plus 2?\nA. 1\nB. 2\nC. 3"), ("assistant", "B. 2")],
        [],
    ),
    "history and system": (
        {"system": "Be kind.", "query": "Hi?", "response": "Hello.", "history": [["a", "b"]]},
        [("system", "Be kind."), ("user", "a"), ("assistant", "b"), *ASKED],
        [],
    ),
    "history as objects": (
        {"instruction": "Hi?", "output": "Hello.", "history": [{"user": "a", "assistant": "b"}]},
        [("user", "a"), ("assistant", "b"), *ASKED],
        [],
    ),
    "system prompt": (
        {"system_prompt": "Short.", "question": "Hi?", "response": "Hello."},
        [("system", "Short."), *ASKED],
        [],
    ),
    "prompt with a system turn": (
        {"prompt": "Hi?", "completion": "Hello.", "system": "Short."},
        [("system", "Short."), *ASKED],
        [],
    ),
    "preferences": (
        {"conversations": [*HI, {"role": "user", "content": "More?"}], "chosen": {}, "rejected": {}},
        [*ASKED, ("user", "More?")],
        ["chosen", "rejected"],
    ),
    "images": ({"messages": HI, "images": ["a.png"]}, ASKED, ["images"]),
    "prompter": ({"messages": [{"role": "prompter", "content": "Hi?"}, HI[1]]}, ASKED, []),
    "lists by column": (
        {"messages": {"role": ["user", "assistant"], "content": ["Hi?", "Hello."]}},
        ASKED,
        [],
    ),
    "JSON in a cell": ({"messages": json.dumps(HI)}, ASKED, []),
    "Python in a cell": ({"messages": repr(HI)}, ASKED, []),
    "numpy in a cell": ({"messages": f"[{HI[0]}\n {HI[1]}]"}, ASKED, []),
    "pairs": ({"conversation": [{"human": "Hi?", "assistant": "Hello."}]}, ASKED, []),
    "alternating texts": ({"data": ["Hi?", "Hello."]}, ASKED, []),
    "other names around a question": (
        {
            "systemPrompt": "Short.",
            "past_turns": [["a", "b"]],
            "documents": ["D.", {"title": "T", "text": "E."}],
            "question": "Hi?",
            "answer": "Hello.",
        },
        [("system", "Short."), ("user", "a"), ("assistant", "b"), ("user", "D.\n\nT\nE.\n\nHi?"), ASKED[1]],
        [],
    ),
    "other names of choices": (
        {"question": "Q?", "answer_choices": ["a", "b"], "correct_answer_index": 1},
        [("user", "Q?\nA. a\nB. b"), ("assistant", "B. b")],
        [],
    ),
    "candidates": (
        {"question": "Q?", "candidates": ["a", "b"], "answer": 1},
        [("user", "Q?\nA. a\nB. b"), ("assistant", "B. b")],
        [],
    ),
    "hellaswag": (
        {"ctx": "Q", "endings": ["a", "b"], "label": "1"},
        [("user", "Q\nA. a\nB. b"), ("assistant", "B. b")],
        [],
    ),
    "piqa": (
        {"goal": "Q", "sol1": "a", "sol2": "b", "label": 0},
        [("user", "Q\nA. a\nB. b"), ("assistant", "A. a")],
        [],
    ),
    "pubmedqa": (
        {"question": "Hi?", "context": {"contexts": ["C.", "D."]}, "answer": "Hello."},
        [("user", "C.\n\nD.\n\nHi?"), ASKED[1]],
        [],
    ),
    "a summary": ({"document": "Hi?", "summary": "Hello."}, ASKED, []),
    "a text that is no history": (
        {"question": "Hi?", "answer": "Hello.", "history": "of bees"}, ASKED, ["history"]
    ),
    "a prompt of turns": ({"prompt": HI[:1], "completion": "Hello."}, ASKED, []),
    "a completion of turns": ({"prompt": "Hi?", "completion": HI[1:]}, ASKED, []),
    "senders": (
        {"chat": [{"sender": "user", "text": "Hi?"}, {"sender": "bot", "text": "Hello."}]},
        ASKED,
        [],
    ),
    "tool calls that are empty cells": (
        {"messages": [HI[0], {**HI[1], "tool_calls": NAN, "function_call": NAN, "reasoning_content": NAN}]},
        ASKED,
        [],
    ),
    "a greeting in the history": (
        {"question": "Hi?", "answer": "Hello.", "history": [[None, "b"]]}, [("assistant", "b"), *ASKED], []
    ),
    "empty cells of pandas": (
        {"instruction": "Hi?", "input": NAN, "system": NAN, "history": NAN, "output": "Hello."},
        ASKED,
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(tmp_path: Path, name: str) -> None:
    row, expected, unused = SHAPES[name]
    source = source_of(tmp_path, row)
    assert turns(source) == expected
    assert source.unused == unused
    named = {*source.columns, *unused}
    assert {column for column, value in row.items() if value == value} <= named, "every column is named"
    assert bool(source.warnings) == bool(unused)
    for column in unused:
        assert column in source.warnings[0]


@pytest.mark.parametrize(
    "flag",
    [{"train_on_turn": False}, {"masked": True}, {"ignore": "true"}, {"loss": 0.0}, {"trainable": "False"}],
)
def test_turns_that_are_marked_as_not_to_be_trained(tmp_path: Path, flag: dict[str, Any]) -> None:
    source = source_of(tmp_path, {"messages": [HI[0], {**HI[1], **flag}, *HI]})
    assert [message.get("weight") for message in source.rows[0].messages or ()] == [None, 0, None, None]


def test_a_flag_that_is_an_empty_cell_says_nothing(tmp_path: Path) -> None:
    source = source_of(tmp_path, {"messages": [HI[0], {**HI[1], "weight": NAN, "masked": NAN}]})
    assert "weight" not in (source.rows[0].messages or ())[1]


def test_reasoning_in_a_column_of_its_own(tmp_path: Path) -> None:
    source = source_of(tmp_path, {"prompt": "Hi?", "thinking": "Hm.", "response": "Hello."})
    assert turns(source) == ASKED and source.unused == []
    assert (source.rows[0].messages or ())[1]["reasoning_content"] == "Hm."


def test_completions_that_are_not_wanted_are_left_out(tmp_path: Path) -> None:
    """KTO marks good and bad completions of one prompt."""
    rows = [
        {"prompt": "Hi?", "completion": text, "label": text == "Hello."} for text in ("Go away.", "Hello.")
    ]
    source = source_of(tmp_path, *rows)  # plain tuning leaves the first out: test_preferences.py
    assert [row.task for row in source.rows] == ["undesirable", "desirable"]
    other = source_of(tmp_path, {"prompt": "Hi?", "completion": "Hello.", "label": 0})
    assert len(other.rows) == 1 and other.unused == ["label"]


def test_a_row_is_a_list_of_turns(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([HI, HI]))
    assert turns(formats.read(str(tmp_path / "a.json"))) == ASKED
    (tmp_path / "b.jsonl").write_text(json.dumps(HI))
    assert turns(formats.read(str(tmp_path / "b.jsonl"))) == ASKED


def test_tools_in_both_shapes(tmp_path: Path) -> None:
    tool = {"name": "lookup", "parameters": {}}
    called = [("user", "Hi?"), ("assistant", ""), ("tool", "Honey."), ("assistant", "Hello.")]
    sharegpt = {
        "conversations": [
            {"from": "human", "value": "Hi?"},
            {"from": "function_call", "value": json.dumps(CALL)},
            {"from": "observation", "value": "Honey."},
            {"from": "gpt", "value": "Hello."},
        ],
        "tools": json.dumps([tool]),
    }
    text = {**CALL, "arguments": json.dumps(CALL["arguments"])}
    openai = {
        "messages": [
            HI[0],
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": text}]},
            {"role": "tool", "content": "Honey.", "tool_call_id": "1"},
            HI[1],
        ],
        "tools": [{"type": "function", "function": tool}],
    }
    for row in (sharegpt, openai):
        source = source_of(tmp_path, row)
        assert turns(source) == called
        [example] = source.rows
        assert example.tools == ({"type": "function", "function": tool},)
        [call] = (example.messages or ())[1].get("tool_calls", [])
        assert call["function"] == CALL, "arguments are an object, whatever the data writes"


def test_numbers_of_choices_count_from_one_where_no_row_has_zero(tmp_path: Path) -> None:
    rows = [{"question": "Q?", "option1": "a", "option2": "b", "answer": n} for n in ("1", "2", "2")]
    assert [row.expected for row in source_of(tmp_path, *rows).rows] == ["A. a", "B. b", "B. b"]
    texts = [{"question": "Q?", "choices": ["2", "3"], "answer": n} for n in ("2", "3")]
    assert [row.expected for row in source_of(tmp_path, *texts).rows] == ["A. 2", "B. 3"]


def test_a_mapping_gives_columns_their_roles(tmp_path: Path) -> None:
    row = {"utterance": "Hi?", "reply_text": "Hello.", "persona": "Kind.", "id": 3}
    with pytest.raises(LabError, match=r"the columns utterance, reply_text, persona, id.*--columns"):
        source_of(tmp_path, row)
    for mapping in (
        "question=utterance,answer=reply_text, system=persona",
        "utterance=question,reply_text=answer,persona=system",
    ):
        source = source_of(tmp_path, row, columns=mapping)
        assert turns(source) == [("system", "Kind."), *ASKED]
        assert source.unused == ["id"]
    assert (
        turns(source_of(tmp_path, {"prompt": "Hi?", "x": "Hello."}, columns="question=prompt,answer=x"))
        == ASKED
    )
    assert turns(source_of(tmp_path, {"thread": HI}, columns="messages=thread")) == ASKED
    assert source_of(tmp_path, {"body": "A text."}, columns="text=body").rows[0].text == "A text."


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("question", "not name=column"),
        ("question=nothing,answer=b", "no column nothing; it has the columns a, b"),
        ("colour=a", "colour is no role"),
        ("question=a,question=b", "given twice"),
    ],
)
def test_a_wrong_mapping_is_refused(tmp_path: Path, mapping: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        source_of(tmp_path, {"a": "x", "b": "y"}, columns=mapping)


def test_columns_that_only_later_rows_have_are_named(tmp_path: Path) -> None:
    rows = [{"question": "Hi?", "answer": "Hello."}] * 250 + [
        {"question": "Q", "answer": "A", "context": "c"}
    ]
    [warning] = source_of(tmp_path, *rows).warnings
    assert "context (first in line 251)" in warning


def test_lists_that_a_table_fills_up(tmp_path: Path) -> None:
    row = {"context": ["C.", NAN], "question": "Hi?", "choices": ["a", "b", None], "answer": 1}
    assert turns(source_of(tmp_path, row)) == [("user", "C.\n\nHi?\nA. a\nB. b"), ("assistant", "B. b")]
    with pytest.raises(LabError, match="answer is inf, not text"):
        source_of(tmp_path, {"question": "Hi?", "answer": float("inf")})


LONE = "\ud83d"


@pytest.mark.parametrize(
    "row",
    [
        {"context": [{"title": LONE, "text": LONE}], "question": "Hi?", "answer": "Hello."},
        {"question": "Hi?", "answer": "Hello.", "task": LONE, LONE: 1},
        {f"row{LONE}": {"question": LONE, "answer": "Hello."}},
        {"messages": json.dumps([{**HI[0], "content": LONE}, HI[1]])},
        {"messages": [HI[0], {**HI[1], "tool_calls": [{"name": LONE, "arguments": {LONE: LONE}}]}]},
        {"question": "Hi?", "options": {LONE: LONE, "B": "b"}, "answer": "B"},
    ],
)
def test_lone_surrogates_are_replaced_wherever_they_stand(tmp_path: Path, row: dict[str, Any]) -> None:
    """An example with one could not be stored, and breaks every tokenizer."""
    source = source_of(tmp_path, row)
    assert msgspec.json.encode([*source.rows, source.columns, source.unused])


def test_an_answer_that_is_nan_is_empty(tmp_path: Path) -> None:
    source = source_of(tmp_path, {"question": "a", "answer": NAN}, {"question": "b", "answer": "c"})
    assert (len(source.rows), source.rows_empty, source.rows_bad) == (1, 1, 0)


# --- files and folders ------------------------------------------------------------------------------

LINES = "".join(json.dumps({"question": f"Q{n}?", "answer": f"A{n}."}) + "\n" for n in range(3))


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


FILES: dict[str, bytes] = {
    "a.jsonl.gz": gzip.compress(LINES.encode()),
    "a.jsonl.zst": zstd(LINES.encode()),
    "a.jsonl.bz2": bz2.compress(LINES.encode()),
    "a.jsonl.xz": lzma.compress(LINES.encode()),
    "a.csv.gz": gzip.compress(b"question,answer\nQ0?,A0.\nQ1?,A1.\nQ2?,A2.\n"),
    "cr.jsonl": LINES.replace("\n", "\r").encode(),
    "cr.csv": b"question,answer\rQ0?,A0.\rQ1?,A1.\rQ2?,A2.\r",
    "crlf.jsonl": LINES.replace("\n", "\r\n").encode(),
    "sep.csv": b"sep=;\r\nquestion;answer\r\nQ0?;A0.\r\nQ1?;A1.\r\nQ2?;A2.\r\n",
    "pipe.csv": b"question|answer\nQ0?|A0.\nQ1?|A1.\nQ2?|A2.\n",
    "columns.json": json.dumps(
        {"question": ["Q0?", "Q1?", "Q2?"], "answer": ["A0.", "A1.", "A2."]}
    ).encode(),
    "pandas.json": json.dumps(
        {"question": {"0": "Q0?", "1": "Q1?", "2": "Q2?"}, "answer": {"0": "A0.", "1": "A1.", "2": "A2."}}
    ).encode(),
    "splits.json": json.dumps(
        {"validation": [{"question": "V?", "answer": "v"}],
         "train": [{"question": f"Q{n}?", "answer": f"A{n}."} for n in range(3)]}
    ).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    source = formats.read(str(tmp_path / name))
    assert [(row.generation_prompt[-1]["content"], row.expected) for row in source.rows] == [  # type: ignore[index]
        (f"Q{n}?", f"A{n}.") for n in range(3)
    ]
    assert len(source.validation or []) == (name == "splits.json")


def test_damaged_compression_is_one_sentence(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "a.jsonl.zst", "a.jsonl.xz"):
        (tmp_path / name).write_bytes(FILES[name][:-9])
        with pytest.raises(LabError, match=name):
            formats.read(str(tmp_path / name))


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FREE_BYTES", 1 << 12)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 100_000))
    with pytest.raises(LabError, match="unpacks to more than"):
        formats.read(str(tmp_path / "a.jsonl.gz"))


def test_a_clone_of_a_hub_set(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist([{"question": "Hi?", "answer": "Hello."}] * 2)
    (tmp_path / "data").mkdir()
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        pq.write_table(rows, tmp_path / "data" / f"{name}.parquet")
    (tmp_path / "README.md").write_text("# no metadata")
    source = formats.read(str(tmp_path))
    assert (len(source.rows), len(source.validation or [])) == (4, 2)
    assert source.rows[2].place == "data/train-00001-of-00002.parquet row 1"
    readme = (
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/val*\n---\n"
    )
    (tmp_path / "README.md").write_text(readme)
    assert len(formats.read(str(tmp_path)).rows) == 2, "the README decides"
    (tmp_path / "README.md").write_text(readme.replace("data/val*", "../../*"))
    assert len(formats.read(str(tmp_path)).rows) == 4, "patterns that leave the folder are ignored"
