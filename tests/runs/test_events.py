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

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import read_log
from tui_lab.retention.statistics import Interval
from tui_lab.runs import events
from tui_lab.runs.event_lines import DamagedRecord, decode_event, encode_event
from tui_lab.runs.event_parts import MOST_STEPS, Acquisition
from tui_lab.runs.events import EventLineWriter, EventTail, EventWriter, LineTail
from tui_lab.runs.schema import (
    ChoiceEvent,
    EndEvent,
    KlProbeEvent,
    RunEvent,
    SampleEvent,
    StepEvent,
    UnknownEvent,
    WarningEvent,
    kind_of,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
numbers = st.floats() | st.none()
texts = st.text(max_size=30)
known_events = st.one_of(
    st.builds(
        StepEvent,
        step=st.integers(0, MOST_STEPS),
        loss=numbers,
        eta_s=numbers,
        memory=st.dictionaries(texts, st.floats(), max_size=3),
    ),
    st.builds(SampleEvent, step=st.integers(0, 9), prompt=texts, text=texts),
    st.builds(ChoiceEvent, field=texts, value=json_values, reason=texts),
    st.builds(
        KlProbeEvent,
        step=st.integers(0, 9),
        general=st.builds(Interval, st.floats(), st.floats(), st.floats()),
        task=st.builds(Interval, st.floats(), st.floats(), st.floats()),
    ),
    st.builds(
        EndEvent,
        state=texts,
        train_loss=numbers,
        acquisition=st.builds(Acquisition, texts, numbers, numbers),
    ),
)


def comparable(value: Any) -> Any:
    """A value with NaN and infinities as words and lone surrogates as question marks."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, dict):
        return {comparable(key): comparable(item) for key, item in value.items()}
    return value


@given(known_events)
def test_an_event_is_one_line_of_strict_json_and_reads_back(event: RunEvent) -> None:
    line = encode_event(event)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    json.loads(line, parse_constant=pytest.fail)
    back = decode_event(line)
    assert type(back) is type(event)
    assert comparable(msgspec.to_builtins(back)) == comparable(msgspec.to_builtins(event))


def test_every_kind_reads_and_writes_with_its_required_fields_alone() -> None:
    smallest: dict[Any, Any] = {
        str: "x",
        bool: True,
        float: 1.0,
        Interval: Interval(1.0, 0.0, 2.0),
    }
    for kind in RunEvent.__subclasses__():
        if kind is UnknownEvent:
            continue
        required = {
            field.name: smallest.get(field.type, [] if "list" in str(field.type) else 3)
            for field in msgspec.structs.fields(kind)
            if field.required
        }
        event = kind(**required)
        assert decode_event(encode_event(event)) == event
        # an unknown field of a later version is ignored
        later = json.loads(encode_event(event)) | {"a_field_of_the_future": [1], "v": 2}
        assert msgspec.structs.replace(decode_event(json.dumps(later).encode()), v=1) == event


def test_the_text_nan_remains_text() -> None:
    event = SampleEvent(step=1, prompt="inf", text="nan")
    assert decode_event(encode_event(event)) == event


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_event_or_damage(line: bytes) -> None:
    try:
        assert isinstance(decode_event(line), RunEvent)
    except DamagedRecord as error:
        assert str(error)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"a":' * 100_000, "this line is not valid JSON"),
        (b"{bad}", "this line is not valid JSON"),
        (b"[1]", "the value must be an object, not a list"),
        (b'{"step":3}', "kind is missing"),
        (b'{"kind":"step"}', "step is missing"),
        (b'{"kind":"step","step":"three"}', "step must be a whole number, not text"),
        (b'{"kind":"step","step":1,"memory":[1]}', "memory must be an object, not a list"),
        (b'{"kind":"kl_probe","step":1,"general":3}', "general must be an object, not a whole number"),
    ],
)
def test_damage_is_one_sentence_that_names_the_field(line: bytes, problem: str) -> None:
    with pytest.raises(DamagedRecord) as error:
        decode_event(line)
    assert str(error.value) == problem


def test_events_carry_version_time_and_kind(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    before = time.time()
    writer.write(StepEvent(step=1, loss=math.nan))
    [line] = read_log(path)
    assert (line["v"], line["kind"], line["step"], line["loss"]) == (1, "step", 1, "nan")
    assert list(line)[:3] == ["v", "t", "kind"] and "eta_s" not in line
    assert before - 0.01 <= line["t"] <= time.time() + 0.01
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_incomplete_line_is_read_later(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []  # there is no file yet
    path.write_bytes(b'{"kind":"a"}\n{"kind":')
    assert [kind_of(e) for e in tail.read()] == ["a"]
    assert tail.read() == []
    with path.open("ab") as file:
        file.write(b'"b"}\n')
    assert [kind_of(e) for e in tail.read()] == ["b"]
    assert tail.skipped == 0


def test_the_incomplete_line_of_a_killed_writer_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind":"a"}\n{"kind":"los')
    tail = EventTail(path)
    tail.read()
    EventWriter(path).append({"kind": "b"})
    assert [kind_of(e) for e in tail.read()] == ["b"]
    assert tail.skipped == 1
    assert [kind_of(e) for e in EventTail(path).read_all()] == ["a", "b"]


def test_invalid_lines_are_counted_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\n\n[1]\n"x"\nnull\n\xff\xfe\n{"kind":"a"}\n{bad}\n{"kind":"b"}\n')
    tail = EventTail(path)
    assert [kind_of(e) for e in tail.read_all()] == ["a", "b"]
    assert tail.skipped == 5


def test_reading_is_bounded_by_count_and_by_time(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(encode_event(StepEvent(step=n)) for n in range(5_000)))
    tail = EventTail(path)

    def steps(events: list[RunEvent]) -> list[int]:
        return [event.step for event in events if isinstance(event, StepEvent)]

    assert steps(tail.read(max_records=7, max_s=60)) == list(range(7))
    assert steps(tail.read(max_records=100, max_s=0)) == [7]  # at least one a call
    assert not tail.at_end
    assert steps(tail.read_all()) == list(range(8, 5_000)) and tail.at_end
    assert len(EventTail(path).read(max_records=1 << 62, max_s=0)) == 1


def test_a_line_longer_than_a_chunk_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [encode_event(WarningEvent(text="é" * 700_000)), encode_event(WarningEvent(text="short"))]
    path.write_bytes(b"".join(lines))
    tail = LineTail(path)
    assert [tail.next_line(), tail.next_line()] == [line.rstrip() for line in lines]
    assert tail.line_end == path.stat().st_size
    long, short = EventTail(path).read_all()
    assert isinstance(long, WarningEvent) and len(long.text) < 101_000  # what is drawn is cut
    assert short == WarningEvent(text="short")


def test_a_line_beyond_every_bound_is_skipped_and_named_in_linear_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(events, "_BYTES_A_CALL", 1 << 20)
    path = tmp_path / "events.jsonl"
    size = 9 << 20
    path.write_bytes(b"x" * size + b"\n" + encode_event(WarningEvent(text="after")))
    tail = EventTail(path)
    assert tail.read() == [] and not tail.at_end  # one call reads a part of it
    began = time.process_time()
    assert tail.read_all() == [WarningEvent(text="after")]
    assert time.process_time() - began < 2  # 9,000 pieces, each copied once; the square would take minutes
    assert tail.skipped == 1 and "line 1: this line is not valid JSON" in tail.problem
    assert tail.line_end == path.stat().st_size


def test_a_shorter_file_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first, second, third = (WarningEvent(text=text) for text in "abc")
    path.write_bytes(encode_event(first) + encode_event(second))
    tail = EventTail(path)
    tail.read()
    path.write_bytes(encode_event(third))
    assert tail.read() == [third]
    assert tail.restarts == 1


WRITER = """
import sys
from pathlib import Path
from tui_lab.runs.events import EventLineWriter
writer = EventLineWriter(Path(sys.argv[1]))
for n in range(int(sys.argv[3])):
    writer.append({"who": sys.argv[2], "n": n, "text": "x" * (n % 700)})
"""


def test_several_writers_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    children = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(who), "400"]) for who in range(4)
    ]
    assert [child.wait(timeout=60) for child in children] == [0] * 4
    records = read_log(path)
    for who in range(4):
        assert [r["n"] for r in records if r["who"] == str(who)] == list(range(400))


def test_a_writer_killed_at_random_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """Five times over: a process writes as fast as it can and is killed; the next goes on."""
    path = tmp_path / "events.jsonl"
    chance = random.Random(1)
    for attempt in range(5):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(attempt), "100000000"])
        tail, found, deadline = LineTail(path), False, time.monotonic() + 60
        while not found and time.monotonic() < deadline:
            while line := tail.next_line():
                found |= f'"who":"{attempt}"'.encode() in line
            time.sleep(0.001)
        time.sleep(chance.random() * 0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
    EventLineWriter(path).append({"who": "last", "n": 0})
    records, damaged = [], 0
    for line in path.read_bytes().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            damaged += 1
    assert damaged <= 5
    assert records[-1]["who"] == "last"
    for attempt in range(5):
        numbers = [r["n"] for r in records if r["who"] == str(attempt)]
        assert numbers and numbers == list(range(len(numbers)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_raises_os_error(tmp_path: Path) -> None:
    writer = EventLineWriter(tmp_path / "events.jsonl")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer.descriptor)
    os.close(full)
    with pytest.raises(OSError, match="No space"):
        writer.append({"n": 1})


def test_a_line_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = os.write
    writer = EventLineWriter(tmp_path / "events.jsonl")
    monkeypatch.setattr(os, "write", lambda fd, data: sizes.append(len(data)) or real(fd, data))
    writer.append({"text": "y" * 10_000})
    assert len(sizes) == 1
