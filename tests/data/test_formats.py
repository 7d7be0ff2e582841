"""Every format out of every kind of file, and a sentence for every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.data import formats, hub, streams

CHAT = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
ROWS: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": "Add.", "input": "1 2", "output": "3"},
    "messages": {"messages": CHAT},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]},
    "prompt_completion": {"prompt": "Once", "completion": " upon"},
    "question_answer": {"question": "1+1?", "answer": "2"},
    "text": {"text": "A story."},
}
FLAT = ("alpaca", "prompt_completion", "question_answer", "text")


def write(path: Path, rows: list[Any]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix in (".csv", ".tsv"):
        mark = "\t" if path.suffix == ".tsv" else ","
        lines = [mark.join(rows[0])] + [mark.join(f'"{v}"' for v in row.values()) for row in rows]
        path.write_text("\n".join(lines) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
def test_every_format_in_every_file(tmp_path: Path, name: str, suffix: str) -> None:
    if suffix in (".csv", ".tsv") and name not in FLAT:
        pytest.skip("tables hold no lists")
    path = write(tmp_path / f"data{suffix}", [ROWS[name]] * 3)
    source = formats.read(str(path))
    assert source.format == name
    assert formats.LABELS[name] in source.reason
    assert len(source.rows) == 3 and source.validation is None and not source.warnings
    assert formats.read(str(path), name).rows == source.rows
    example = source.rows[0]
    if name == "alpaca":
        assert [m["content"] for m in example.messages or ()] == ["Add.\n\n1 2", "3"]
    elif name in ("messages", "sharegpt"):
        assert [(m["role"], m["content"]) for m in example.messages or ()] == [
            ("user", "Hi?"),
            ("assistant", "Hello."),
        ]
    elif name == "prompt_completion":
        assert (example.prompt, example.completion) == ("Once", " upon")
    elif name == "question_answer":
        assert example.expected == "2" and source.scorer == "exact"
    else:
        assert example.text == "A story."


def test_reasons_name_the_columns(tmp_path: Path) -> None:
    both = {**ROWS["alpaca"], "text": "all of it"}
    source = formats.read(str(write(tmp_path / "a.json", [both])))
    assert source.reason == ("columns instruction, input, output → Alpaca (it would also pass as raw text)")
    assert formats.read(str(tmp_path / "a.json"), "text").rows[0].text == "all of it"


def test_a_list_of_strings_and_an_object_with_one_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["One story.", "Two."]')
    assert [row.text for row in formats.read(str(tmp_path / "a.json")).rows] == ["One story.", "Two."]
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "data": [ROWS["question_answer"]]}))
    assert formats.read(str(tmp_path / "b.json")).format == "question_answer"


def test_json_and_jsonl_mixed_up(tmp_path: Path) -> None:
    lines = "".join(json.dumps(ROWS["alpaca"]) + "\n" for _ in range(3))
    (tmp_path / "a.json").write_text(lines)
    (tmp_path / "b.jsonl").write_text(json.dumps([ROWS["alpaca"]] * 3, indent=1))
    assert (
        len(formats.read(str(tmp_path / "a.json")).rows)
        == len(formats.read(str(tmp_path / "b.jsonl")).rows)
        == 3
    )


def test_plain_text_is_split_at_blank_lines_or_at_its_marks(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffOne,\r\nstill one.\r\n \r\n\r\nTwo.\n".encode())
    assert [row.text for row in formats.read(str(tmp_path / "a.txt")).rows] == ["One,\nstill one.", "Two.\n"]
    marked = "One.\n\nStill one.\n<|endoftext|>\nTwo.\n<|endoftext|>\n"
    (tmp_path / "b.txt").write_text(marked)
    assert [row.text for row in formats.read(str(tmp_path / "b.txt")).rows] == [
        "One.\n\nStill one.\n",
        "\nTwo.\n",
    ]


def test_semicolons_and_quoted_line_breaks_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question;answer\n"a, b\nc";"d ""e"""\n')
    [row] = formats.read(str(tmp_path / "a.csv")).rows
    assert row.messages is not None
    assert [m["content"] for m in row.messages] == ["a, b\nc", 'd "e"']


def test_choices_become_part_of_the_question(tmp_path: Path) -> None:
    spread = {"question": "Which?", "choice0": "red", "choice1": "blue", "answer": "1"}
    listed = {"question": "Which?", "choices": ["red", "blue"], "answer": 1}
    for number, row in enumerate((spread, listed)):
        [example] = formats.read(str(write(tmp_path / f"{number}.jsonl", [row]))).rows
        assert [m["content"] for m in example.messages or ()] == ["Which?\nA. red\nB. blue", "B. blue"]


def test_roles_parts_and_systems(tmp_path: Path) -> None:
    row = {
        "system": "Be brief.",
        "conversations": [
            {"from": "Human", "value": "Hi?"},
            {"from": "chatgpt", "value": "Hello."},
        ],
    }
    [example] = formats.read(str(write(tmp_path / "a.jsonl", [row]))).rows
    assert [m["role"] for m in example.messages or ()] == ["system", "user", "assistant"]
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        CHAT[1],
    ]
    [example] = formats.read(str(write(tmp_path / "b.jsonl", [{"messages": parts}]))).rows
    assert (example.messages or ())[0]["content"] == "ab"
    turns = {"prompt": [*CHAT, {"role": "user", "content": "More?"}], "completion": [CHAT[1]]}
    [example] = formats.read(str(write(tmp_path / "c.jsonl", [turns]))).rows
    assert [m.get("weight") for m in example.messages or ()] == [None, 0, None, None]
    assert len(example.generation_prompt) == 3


def test_bad_rows_are_counted_and_named(tmp_path: Path) -> None:
    rows: list[Any] = [{"messages": CHAT}] * 3
    rows += [{"messages": CHAT[:1]}] * 7 + [
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": []},
        7,
    ]
    rows += [{"messages": [CHAT[0], {"role": "assistant", "content": {"a": 1}}]}]
    source = formats.read(str(write(tmp_path / "a.jsonl", rows)))
    assert len(source.rows) == 3
    assert source.rows_bad + source.rows_empty == 11 and source.rows_empty == 1
    [warning] = source.warnings
    assert warning.startswith(
        "11 rows left out: line 4, line 5, line 6, line 7, line 8 and 2 more: no assistant turn"
    )
    assert "line 11: unknown speaker robot: --columns robot=user says who is who" in warning
    assert "line 14: content of turn 2 is dict, not text" in warning


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz"])
def test_the_byte_order_mark_decides_about_the_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, encoding: str
) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 7)  # characters that lie in two blocks
    text = {".csv": "question,answer\nWo?,Köln 日😀\n"}.get(
        Path(name).suffix, json.dumps([{"question": "Wo?", "answer": "Köln 日😀"}], ensure_ascii=False)
    )
    blob = ("\ufeff" * encoding.endswith("-be") + text).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(blob) if name.endswith(".gz") else blob)
    [row] = formats.read(str(tmp_path / name)).rows
    assert [m["content"] for m in row.messages or ()] == ["Wo?", "Köln 日😀"]


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.jsonl", b"", "a.jsonl is empty"),
    "blank": ("a.json", b" \n ", "nothing but blank space"),
    "header only": ("a.csv", b"question,answer\n", "holds no rows"),
    "bad line": ("a.jsonl", b'{"text": "a"}\n\n{"text": "b"\n', r"line 3, column 13: invalid JSON"),
    "bad json": ("a.json", b'[{"text": "a"},\n {"text": }]', r"line 2, column 11: invalid JSON"),
    "single object": ("a.json", b'{"prompt": "a", "completion": "b"}', "single JSON object"),
    "single chat": ("a.json", json.dumps({"messages": CHAT}).encode(), "single JSON object"),
    "number": ("a.json", b"3", "single JSON int"),
    "deep": ("a.json", b"[" * 100_000, "nested too deeply"),
    "columns": (
        "a.csv",
        b"foo,bar\n1,2\n",
        r"the columns foo, bar; .*instruction \+ output.*must name its columns",
    ),
    "repeated columns": ("a.csv", b"a,a\n1,2\n", "column names repeat"),
    "latin-1": ("a.txt", "eins\nzw\xf6lf".encode("latin-1"), "line 2: byte 0xf6 is not valid UTF-8"),
    "utf-16 without its mark": ("a.txt", "hello".encode("utf-16-le"), "UTF-16 without its byte-order mark"),
    "half a utf-16": ("a.txt", "hello".encode("utf-16")[:-1], "begins as UTF-16, but is none"),
    "binary": ("a.csv", b"\x7fELF\x00\x01\x02", "binary file"),
    "not parquet": ("a.parquet", b"question,answer", "not a readable Parquet"),
    "extension": ("a.exe", b"MZ", r"ending in \.exe are not read"),
    "no extension": ("passwd", b"a:b", "files without an ending, such as .jsonl, are not read"),
    "no assistant": (
        "a.jsonl",
        json.dumps({"messages": CHAT[:1]}).encode(),
        "none of its 1 rows.*no assistant turn",
    ),
    "all empty": ("a.jsonl", b'{"question": "a", "answer": null}', "none of its 1 rows.*answer is None"),
    "two lists": ("a.json", b'{"a": [1], "b": [2]}', r"several lists \(a, b\)"),
    "no training rows": ("a.json", b'{"train": []}', "holds no training rows"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_one_sentence(tmp_path: Path, name: str) -> None:
    file, blob, message = BROKEN[name]
    (tmp_path / file).write_bytes(blob)
    with pytest.raises(LabError, match=message) as caught:
        formats.read(str(tmp_path / file))
    assert str(tmp_path / file) in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_messages_quote_hostile_names_harmlessly(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"\x1b[31mred\u202e": 1}))
    with pytest.raises(LabError, match=r"␛\[31mred⟨U\+202E⟩"):
        formats.read(str(tmp_path / "a.jsonl"))
    turns = {"messages": [{"role": "user", "content": "x"}, {"ro\x07le": 1}]}
    (tmp_path / "b.jsonl").write_text(json.dumps(turns))
    with pytest.raises(LabError, match=r"turn 2 has no role .it has ro␇le"):
        formats.read(str(tmp_path / "b.jsonl"))


def test_importing_formats_is_light() -> None:
    heavy = ("torch", "transformers", "datasets", "pyarrow")
    code = f"import sys, tui_lab.data.formats; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_files_suggest_a_similar_name(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    with pytest.raises(
        LabError, match=r"no data file or folder .*trian\.jsonl\. Did you mean .*train\.jsonl"
    ):
        formats.read(str(tmp_path / "trian.jsonl"))
    with pytest.raises(LabError, match="Did you mean pirate"):
        formats.read("pirates")
    here = tmp_path / "train.jsonl"
    with pytest.raises(LabError, match=r"The weight 'much' of .*train\.jsonl is no number\."):
        formats.read(f"{here}:much")
    with pytest.raises(LabError, match=r"A weight needs a second data set beside .*train\.jsonl\."):
        formats.read(f"{here}:0.5")
    with pytest.raises(LabError, match="No data set was given"):
        formats.read(" ")
    with pytest.raises(LabError, match="zero byte"):
        formats.read("a\0b")


def test_given_format_is_checked(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.jsonl", [ROWS["alpaca"]]))
    with pytest.raises(
        LabError, match=r"columns instruction, input, output, which do not fit.*look like Alpaca"
    ):
        formats.read(path, "sharegpt")
    with pytest.raises(LabError, match="no data format 'xml'"):
        formats.read(path, "xml")


def test_folders_and_their_splits(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="holds no data files"):
        formats.read(str(tmp_path))
    (tmp_path / "README.md").write_text("About this set.")
    write(tmp_path / "train.jsonl", [ROWS["text"]] * 3)
    write(tmp_path / "test.jsonl", [ROWS["text"]] * 2)
    source = formats.read(str(tmp_path))
    assert len(source.rows) == 3 and len(source.validation or []) == 2
    assert "validation rows are the split “test”" in source.reason
    write(tmp_path / "valid.csv", [ROWS["text"]])
    source = formats.read(str(tmp_path))
    assert len(source.validation or []) == 1 and "“valid”" in source.reason
    assert source.rows[0].place == "train.jsonl line 1"


def test_splits_in_one_json_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"train": [ROWS["text"]] * 4, "dev": [ROWS["text"]]}))
    source = formats.read(str(path), max_rows=2)
    assert len(source.rows) == 2 and len(source.validation or []) == 1


def test_a_saved_data_set(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_list([ROWS["question_answer"]] * 6)
    datasets.DatasetDict({"train": rows, "validation": rows.select([0])}).save_to_disk(str(tmp_path / "s"))
    source = formats.read(str(tmp_path / "s"), max_rows=4)
    assert len(source.rows) == 4 and len(source.validation or []) == 1


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(hub, "reachable", lambda: False)
    began = time.monotonic()
    with pytest.raises(LabError, match="hub is not reachable from here"):
        formats.read("someone/some-set")
    assert time.monotonic() - began < 20, "the hub's clients must not try again and again"
    assert not datasets.config.HF_HUB_OFFLINE, "offline for that moment only"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("no route"), "hub is not reachable from here"),
        (type("DatasetNotFoundError", (FileNotFoundError,), {})("x"), "nor such a set on the hub"),
        (type("GatedRepoError", (OSError,), {})("x"), "private or gated"),
        (ValueError("Config name is missing. Pick one of [en, de]"), "configurations .en, de.; choose one"),
        (ValueError("Bad split.\nDetails"), "could not be loaded: ValueError, Bad split"),
    ],
)
def test_errors_of_the_hub(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def load_dataset(*_: object) -> None:
        raise error

    monkeypatch.setattr(hub, "reachable", lambda: True)
    for name in ("load_dataset_builder", "load_dataset"):
        monkeypatch.setattr(f"datasets.{name}", load_dataset)
    with pytest.raises(LabError, match=message):
        formats.read("owner/name")


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_max_rows(tmp_path: Path, rows: int, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", [ROWS["question_answer"]] * 5)
    assert len(formats.read(str(path), max_rows=rows).rows) == rows


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "from", "value", "text", "weight"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(JSON, max_size=5), asked=st.sampled_from(["auto", *formats.FORMATS]))
def test_wild_rows_give_examples_or_a_sentence(tmp_path: Path, rows: list[Any], asked: str) -> None:
    if rows and isinstance(rows[0], list):
        return  # then the whole file is taken for one list
    path = tmp_path / "wild.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        source = formats.read(str(path), asked)
    except LabError as error:
        assert "wild.jsonl" in str(error)
        return
    assert len(source.rows) + source.rows_bad + source.rows_empty == len(rows)
    for row in source.rows:
        assert row.text or row.completion or any(m["role"] == "assistant" for m in row.messages or ())
        assert isinstance(row.expected, str)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    blob=st.binary(max_size=60),
    suffix=st.sampled_from([".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet"]),
)
def test_wild_bytes_give_rows_or_a_sentence(tmp_path: Path, blob: bytes, suffix: str) -> None:
    path = tmp_path / f"wild{suffix}"
    path.write_bytes(blob)
    try:
        assert formats.read(str(path)).rows
    except LabError as error:
        assert f"wild{suffix}" in str(error)


def test_real_data(shared: Path) -> None:
    gsm8k = formats.read(str(shared / "data/gsm8k/train.jsonl"), max_rows=50)
    assert gsm8k.reason == "columns question, answer → question–answer" and len(gsm8k.rows) == 50
    stories = formats.read(str(shared / "data/tinystories/tinystories_1000.json"))
    assert stories.format == "text" and len(stories.rows) == 1000
    hellaswag = formats.read(str(shared / "data/hellaswag/hellaswag_1k.jsonl"), max_rows=20)
    assert hellaswag.format == "question_answer" and len(hellaswag.rows) == 20
    assert hellaswag.rows[0].expected[:3] in ("A. ", "B. ", "C. ", "D. ")
    both = formats.read(str(shared / "data/gsm8k"), max_rows=20)
    assert both.validation and "“test”" in both.reason


def test_a_list_of_data_sets_is_no_saved_data_set(tmp_path: Path) -> None:
    """LLaMA-Factory's folder of data: dataset_info.json lists the files beside it."""
    write(tmp_path / "rows.jsonl", [ROWS["alpaca"]])
    (tmp_path / "dataset_info.json").write_text('{"rows": {"file_name": "rows.jsonl"}}')
    assert len(formats.read(str(tmp_path)).rows) == 1


@pytest.mark.parametrize("name", ["state.json", "train/state.json", "train/data-00000-of-00001.arrow"])
def test_a_pipe_in_a_saved_data_set_is_one_sentence(tmp_path: Path, name: str) -> None:
    for description in ("dataset_dict.json", "dataset_info.json"):
        (tmp_path / description).write_text('{"splits": ["train"]}')
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(LabError, match="holds a pipe or a device"):
        formats.read(str(tmp_path))
