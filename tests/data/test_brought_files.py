"""Files and folders as people bring them: each is read, or refused with one sentence. All have three rows."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tui_lab.core.errors import LabError
from tui_lab.data import formats

Row = dict[str, Any]
ROWS: list[Row] = [{"question": f"Q{n}?", "answer": f"A{n}."} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLE = "question,answer\nQ0?,A0.\nQ1?,A1.\nQ2?,A2.\n"


def table(delimiter: str, **options: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n", **options)
    writer.writerows([["question", "answer"], *([row["question"], row["answer"]] for row in ROWS)])
    return text.getvalue()


def arrow(rows: list[Row], stream: bool) -> bytes:
    sink, found = io.BytesIO(), pa.Table.from_pylist(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, found.schema) as writer:
        writer.write_table(found)
    return sink.getvalue()


def feather(rows: list[Row]) -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def parquet(found: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(found, sink)
    return sink.getvalue()


FILES: dict[str, bytes] = {
    # JSON
    "list.json": json.dumps(ROWS).encode(),
    "indented.json": json.dumps(ROWS, indent=2).encode(),
    "mark.json": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "mark.jsonl": b"\xef\xbb\xbf" + LINES.encode(),
    "blank-lines.jsonl": LINES.replace("\n", "\n\n").encode(),
    "no-end.jsonl": LINES.rstrip().encode(),
    "lines.jsonlines": LINES.encode(),
    "lines.ndjson": LINES.encode(),
    "lines.json": LINES.encode(),
    "list.jsonl": json.dumps(ROWS).encode(),
    "objects.jsonl": "".join(json.dumps(row, indent=2) + "\n" for row in ROWS).encode(),
    "objects.json": "\n".join(json.dumps(row, indent=4) for row in ROWS).encode(),
    "run-together.json": "".join(map(json.dumps, ROWS)).encode(),
    **{
        f"{key}.json": json.dumps({key: ROWS}).encode()
        for key in ("data", "rows", "examples", "items", "train", "instances", "records", "anything")
    },
    "version.json": json.dumps({"version": "1.1", "data": ROWS}).encode(),
    "other-lists.json": json.dumps({"tags": ["a", "b"], "data": ROWS}).encode(),
    "server.json": json.dumps(
        {
            "features": [{"name": "question"}, {"name": "answer"}],
            "rows": [{"row_idx": n, "row": row, "truncated_cells": []} for n, row in enumerate(ROWS)],
            "num_rows_total": 3,
        }
    ).encode(),
    "pandas-records.json": json.dumps(ROWS).encode(),
    "pandas-columns.json": json.dumps(
        {name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]}
    ).encode(),
    "pandas-index.json": json.dumps({str(n): row for n, row in enumerate(ROWS)}).encode(),
    "pandas-split.json": json.dumps(
        {"columns": list(ROWS[0]), "index": [0, 1, 2], "data": [list(row.values()) for row in ROWS]}
    ).encode(),
    "pandas-table.json": json.dumps({"schema": {"fields": [1, 2]}, "data": ROWS}).encode(),
    "lists-by-column.json": json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}).encode(),
    "ids.json": json.dumps({f"row-{n}": row for n, row in enumerate(ROWS)}).encode(),
    "nested.json": json.dumps({"result": {"data": ROWS}}).encode(),
    # tables
    "comma.csv": TABLE.encode(),
    "semicolon.csv": table(";").encode(),
    "tab.csv": table("\t").encode(),
    "tab.tsv": table("\t").encode(),
    "pipe.csv": table("|").encode(),
    "quoted.csv": table(",", quoting=csv.QUOTE_ALL).encode(),
    "quoted-semicolon.csv": table(";", quoting=csv.QUOTE_ALL).encode(),
    "excel.csv": b"\xef\xbb\xbf" + table(";").replace("\n", "\r\n").encode(),
    "excel-unicode.txt.csv": table("\t").encode("utf-16"),
    "index.csv": b",question,answer\n0,Q0?,A0.\n1,Q1?,A1.\n2,Q2?,A2.\n",
    "empty-columns.csv": b"question,answer,,\nQ0?,A0.,,\nQ1?,A1.,,\nQ2?,A2.,,\n",
    "trailing-comma.csv": b"question,answer\nQ0?,A0.,\nQ1?,A1.,\nQ2?,A2.,\n",
    "blank-rows.csv": TABLE.replace("\n", "\n\n").encode(),
    "blank-header.csv": b" question , answer \nQ0?,A0.\nQ1?,A1.\nQ2?,A2.\n",
    "comma-in-header.csv": b'"question";"answer (short, please)"\nQ0?;A0.\nQ1?;A1.\nQ2?;A2.\n',
    # the ending says something else
    "lines.txt": LINES.encode(),
    "lines.csv": LINES.encode(),
    "list.txt": json.dumps(ROWS).encode(),
    "packed.jsonl": gzip.compress(LINES.encode()),
    # compressed
    "a.jsonl.gz": gzip.compress(LINES.encode()),
    "a.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "a.csv.bz2": bz2.compress(TABLE.encode()),
    "a.tsv.xz": lzma.compress(table("\t").encode()),
    "a.ndjson.zst": pa.compress(LINES.encode(), "zstd", asbytes=True),
    "parts.jsonl.gz": b"".join(gzip.compress((json.dumps(row) + "\n").encode()) for row in ROWS),
    # Arrow and Parquet
    "a.arrow": arrow(ROWS, stream=False),
    "stream.arrow": arrow(ROWS, stream=True),
    "a.feather": feather(ROWS),
    "a.parquet": parquet(pa.Table.from_pylist(ROWS)),
    "large.parquet": parquet(
        pa.table({name: pa.array([row[name] for row in ROWS], pa.large_string()) for name in ROWS[0]})
    ),
    "bytes.parquet": parquet(
        pa.table({name: pa.array([row[name].encode() for row in ROWS], pa.binary()) for name in ROWS[0]})
    ),
    "categories.parquet": parquet(
        pa.table({name: pa.array([row[name] for row in ROWS]).dictionary_encode() for name in ROWS[0]})
    ),
    "nested.parquet": parquet(pa.Table.from_pylist([{"row": row} for row in ROWS])),
}
#: A Parquet file whose only group has -2,458 rows and no columns.
NEGATIVE_ROWS = (
    "504152311504191c35001806736368656d611500001600191c190c160016b32600160000191c180c4152574f573a7363"
    "68656d61184c2f2f2f2f2f7a41414141415141fa41414141414b41417741426741464141674143674141414141424241"
    "414d414141414341414941414141424141494141414142410b41414141414141413d001820706172717565742d637070"
    "2d6172726f772076657273696f6e2032362e302e31190c00a400000050415231"
)
REFUSED: dict[str, tuple[bytes, str]] = {
    "a.xlsx": (b"PK\x03\x04", r"ending in \.xlsx are not read as data"),
    "a.zip": (b"PK\x03\x04", r"ending in \.zip are not read as data"),
    "a.pkl": (b"\x80\x04", r"ending in \.pkl are not read as data"),
    "a.yaml": (b"- question: x", r"ending in \.yaml are not read as data"),
    "cut.arrow": (FILES["a.arrow"][:-40], "not a readable Arrow file"),
    "text.arrow": (b"hello", "not a readable Arrow file"),
    "cut.parquet": (FILES["a.parquet"][:-9], "not a readable Parquet file"),
    "no-columns.parquet": (parquet(pa.table({})), "its counts of rows and columns are damaged"),
    "negative.parquet": (bytes.fromhex(NEGATIVE_ROWS), "its counts of rows and columns are damaged"),
    "python.jsonl": (b"{'question': 'Q?', 'answer': 'A.'}\n", "line 1, column 2: invalid JSON"),
    "single.json": (json.dumps(ROWS[0]).encode(), "a single JSON object"),
    "page.json": (b"<!DOCTYPE html><html></html>", "line 1, column 1: invalid JSON"),
    "half.jsonl": ((LINES + '{"question": "Q').encode(), "line 4"),
    "half-objects.json": (("\n".join(json.dumps(row, indent=1) for row in ROWS) + "{").encode(), "line 12"),
    "unnamed.csv": (b",,\n1,2,3\n", "holds no rows"),
}


def asked(source: formats.DataSource) -> list[tuple[str, str | None]]:
    return [(row.generation_prompt[-1]["content"], row.expected) for row in source.rows]  # type: ignore[index]


EXPECTED = [(f"Q{n}?", f"A{n}.") for n in range(3)]


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    source = formats.read(str(tmp_path / name))
    assert asked(source) == EXPECTED
    assert not source.rows_bad


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LabError, match=re.escape(name) + ".*" + message) as caught:
        formats.read(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_squad_as_it_is_published(tmp_path: Path) -> None:
    """Articles with paragraphs, paragraphs with questions."""
    questions = [
        {"id": str(n), "question": f"Q{n}?", "answers": [{"text": f"A{n}.", "answer_start": 0}]}
        for n in range(2)
    ]
    article = {
        "title": "T",
        "paragraphs": [{"context": "C.", "qas": questions}, {"context": "D.", "qas": []}],
    }
    (tmp_path / "dev-v1.1.json").write_text(json.dumps({"version": "1.1", "data": [article]}))
    source = formats.read(str(tmp_path / "dev-v1.1.json"))
    assert asked(source) == [("C.\n\nQ0?", "A0."), ("C.\n\nQ1?", "A1.")]


def test_folders(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "README.md").write_text("About.")
    (notes / "one.md").write_text("One.")
    (notes / "two.md").write_text("Two.")
    assert [row.text for row in formats.read(str(notes)).rows] == ["One.", "Two."]
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "dataset_info.json").write_text("{}")
    (cache / "my_set-train.arrow").write_bytes(arrow(ROWS, stream=True))
    (cache / "my_set-validation.arrow").write_bytes(arrow(ROWS[:1], stream=True))
    source = formats.read(str(cache))
    assert asked(source) == EXPECTED and len(source.validation or []) == 1


def test_what_pandas_writes_for_an_empty_cell_is_empty(tmp_path: Path) -> None:
    """ "None" and "N/A" may be answers; "nan" is none."""
    path = tmp_path / "a.csv"
    path.write_text("question,context,answer\nA?,nan,yes\nB?,,nan\nC?,NaN,None\nD?,<NA>,N/A\n")
    source = formats.read(str(path))
    found = [[message["content"] for message in row.messages or ()] for row in source.rows]
    assert found == [["A?", "yes"], ["C?", "None"], ["D?", "N/A"]]
    assert source.rows_empty == 1
