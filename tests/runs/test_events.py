"""The event log: whole lines only, under killed writers, several writers and damaged files."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.runs.events import NUMERIC_FIELDS, EventTail, EventWriter, LineWriter, decode, encode
from tui_lab.runs.schema import StepEvent

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
plain_keys = st.text(min_size=1).filter(lambda key: key not in NUMERIC_FIELDS)


def replaced(value: Any) -> Any:
    """What a value is after a trip: infinities as words, lone surrogates as question marks."""
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [replaced(item) for item in value]
    if isinstance(value, dict):
        return {replaced(key): replaced(item) for key, item in value.items()}
    return value


@given(st.dictionaries(plain_keys, json_values, max_size=6))
def test_a_record_is_one_line_and_reads_back(record: dict[str, Any]) -> None:
    line = encode(record)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode(line) == replaced(record)
    json.loads(line, parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity


@given(st.sampled_from(sorted(NUMERIC_FIELDS)), st.floats())
def test_numbers_survive_as_numbers(field: str, value: float) -> None:
    back = decode(encode({field: value}))
    assert back is not None
    assert math.isnan(back[field]) if math.isnan(value) else back[field] == value


def test_a_text_that_says_nan_stays_a_text() -> None:
    assert decode(encode({"kind": "sample", "text": "nan"})) == {"kind": "sample", "text": "nan"}


@given(st.binary())
def test_any_bytes_are_a_record_or_none(line: bytes) -> None:
    assert decode(line) is None or isinstance(decode(line), dict)


def test_deep_nesting_is_no_record() -> None:
    assert decode(b'{"a":' * 100_000) is None


def test_events_carry_version_time_and_kind(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "events.jsonl")
    before = time.time()
    writer.write(StepEvent(step=1, loss=math.nan))
    (event,) = EventTail(tmp_path / "events.jsonl").read()
    assert (event["v"], event["kind"], event["step"]) == (1, "step", 1)
    assert math.isnan(event["loss"])
    assert before - 0.01 <= event["t"] <= time.time() + 0.01
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == 0o600


def test_half_a_line_is_not_yet(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []  # there is no file yet
    path.write_bytes(b'{"kind":"a"}\n{"kind":')
    assert [e["kind"] for e in tail.read()] == ["a"]
    assert tail.read() == []
    with path.open("ab") as file:
        file.write(b'"b"}\n')
    assert [e["kind"] for e in tail.read()] == ["b"]
    assert tail.skipped == 0


def test_the_half_line_of_a_killed_writer_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind":"a"}\n{"kind":"los')
    tail = EventTail(path)
    tail.read()
    EventWriter(path).append({"kind": "b"})
    assert [e["kind"] for e in tail.read()] == ["b"]
    assert tail.skipped == 1
    assert [e["kind"] for e in EventTail(path).read_all()] == ["a", "b"]


def test_lines_that_are_no_records_are_counted_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\n\n[1]\n"x"\nnull\n\xff\xfe\n{"kind":"a"}\n{bad}\n{"kind":"b"}\n')
    tail = EventTail(path)
    assert [e["kind"] for e in tail.read_all()] == ["a", "b"]
    assert tail.skipped == 5


def test_reading_is_bounded_by_count_and_by_time(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(encode({"n": n}) for n in range(5_000)))
    tail = EventTail(path)
    assert [e["n"] for e in tail.read(max_records=7, max_s=60)] == list(range(7))
    assert [e["n"] for e in tail.read(max_records=100, max_s=0)] == [7]  # never nothing, so it gets on
    rest = tail.read_all()
    assert [e["n"] for e in rest] == list(range(8, 5_000))
    began = time.monotonic()
    EventTail(path).read(max_records=1 << 62, max_s=0.001)
    assert time.monotonic() - began < 1


def test_a_line_longer_than_a_chunk_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    long = "é" * 700_000
    path.write_bytes(encode({"text": long}) + encode({"n": 1}))
    assert EventTail(path).read_all() == [{"text": long}, {"n": 1}]


def test_a_shorter_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode({"n": 1}) + encode({"n": 2}))
    tail = EventTail(path)
    tail.read()
    path.write_bytes(encode({"n": 3}))
    assert tail.read() == [{"n": 3}]
    assert tail.restarts == 1


WRITER = """
import sys
from pathlib import Path
from tui_lab.runs.events import LineWriter
writer = LineWriter(Path(sys.argv[1]))
for n in range(int(sys.argv[3])):
    writer.append({"who": sys.argv[2], "n": n, "text": "x" * (n % 700)})
"""


def test_several_writers_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    children = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(who), "400"]) for who in range(4)
    ]
    assert [child.wait(timeout=60) for child in children] == [0] * 4
    tail = EventTail(path)
    records = tail.read_all()
    assert tail.skipped == 0
    for who in range(4):
        assert [r["n"] for r in records if r["who"] == str(who)] == list(range(400))


def test_a_writer_killed_at_random_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """Five times over: a process writes as fast as it can and is killed; the next goes on."""
    path = tmp_path / "events.jsonl"
    chance = random.Random(1)
    for attempt in range(5):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(attempt), "100000000"])
        tail = EventTail(path)
        deadline = time.monotonic() + 60
        while not any(r.get("who") == str(attempt) for r in tail.read()) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(chance.random() * 0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
    LineWriter(path).append({"who": "last", "n": 0})
    tail = EventTail(path)
    records = tail.read_all()
    assert tail.skipped <= 5
    assert records[-1]["who"] == "last"
    for attempt in range(5):
        numbers = [r["n"] for r in records if r["who"] == str(attempt)]
        assert numbers and numbers == list(range(len(numbers)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="No space"):
        LineWriter(Path("/dev/full")).append({"n": 1})


def test_a_line_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = os.write
    writer = LineWriter(tmp_path / "events.jsonl")
    monkeypatch.setattr(os, "write", lambda fd, data: sizes.append(len(data)) or real(fd, data))
    writer.append({"text": "y" * 10_000})
    assert len(sizes) == 1
