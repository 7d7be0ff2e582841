"""Messages arrive as they were sent, whatever text and numbers they hold, and bad lines are one sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.decoding.records import (
    Alternative,
    Beams,
    Candidate,
    DecodingSpeed,
    Hypothesis,
    ScoredToken,
    TokenRecord,
)
from tui_lab.playground import messages as m
from tui_lab.ui.demo.recording import unpack

text = st.text(st.characters(codec="utf-8"), max_size=12) | st.just("\x1b[2J\ud800\n\x00")
ids = st.lists(st.integers(0, 2**31), max_size=4).map(tuple)
small = st.integers(0, 9)
numbers = st.floats(allow_nan=False)
alternatives = st.builds(Alternative, small, text, numbers, numbers, st.none() | st.just("top_k"))
candidates = st.builds(Candidate, small, text, numbers, numbers, numbers)
tokens = st.builds(
    TokenRecord, small, small, small, text, numbers, small, numbers,
    st.lists(alternatives, max_size=3).map(tuple), st.lists(candidates, max_size=3).map(tuple),
)  # fmt: skip
lanes = st.builds(
    m.LaneDone, small, text, text, text, ids, st.lists(tokens, max_size=3).map(tuple), ids, text,
    *[numbers] * 7,
)  # fmt: skip
hypotheses = st.builds(Hypothesis, ids, text, numbers, st.booleans())
events = st.one_of(
    lanes,
    st.builds(m.Tokens, small, text, small),
    st.builds(Beams, small, small, st.lists(hypotheses, max_size=3).map(tuple)),
)
status = st.builds(
    m.PlaygroundStatus,
    st.just("busy"),
    text,
    names=st.lists(text, max_size=2).map(tuple),
    speed=st.none() | st.builds(DecodingSpeed, small, numbers, numbers, st.none() | numbers, small, text),
)
scored = st.builds(ScoredToken, small, numbers, small, numbers, st.just(((1, "a", -math.inf),)))
results = st.one_of(
    st.builds(m.Done),
    st.builds(m.Generated, st.dictionaries(small, numbers, max_size=3)),
    st.builds(m.TooLong, small, small),
    st.builds(m.Scored, st.dictionaries(text, st.lists(scored, max_size=2).map(tuple), max_size=2)),
)
answers = st.one_of(
    st.builds(m.StatusMessage, status),
    st.builds(m.ProgressMessage, small, text),
    st.builds(m.EventMessage, small, events | st.builds(m.PromptLength, small, st.none() | small)),
    st.builds(m.ResultMessage, small, results, status),
    st.builds(m.ErrorMessage, st.none() | small, text, st.none() | status),
)
requests = st.one_of(
    st.builds(m.LoadRequest, text),
    st.builds(m.AddRequest, text, text),
    st.builds(m.RemoveRequest, text),
    st.builds(m.UnloadRequest),
    st.builds(m.GenerateRequest, text, st.lists(text, max_size=3).map(tuple), text, st.booleans()),
    st.builds(m.ScoreRequest, ids, ids, st.lists(text, max_size=2).map(tuple)),
    st.builds(m.CancelRequest, small),
)


def line_of(message: Any) -> bytes:
    line = m.encode_line(message)
    assert line.isascii() and line.endswith(b"\n") and line.count(b"\n") == 1
    return line


@given(answers)
def test_every_answer_arrives_as_it_was(message: Any) -> None:
    assert m.decode_message(line_of(message)) == message


@given(st.builds(m.RequestMessage, small, requests))
def test_every_request_arrives_as_it_was(message: m.RequestMessage) -> None:
    assert m.decode_request(line_of(message)) == message


@given(events)
def test_a_recorded_event_is_read_as_it_was(event: m.GenerationEvent) -> None:
    kind, fields = m.event_fields(event)
    assert m.read_event(kind, json.loads(json.dumps(fields))) == event


def test_nan_and_infinities() -> None:
    token = TokenRecord(0, 0, 1, "a", -math.inf, 1, 0.5, (Alternative(1, "a", -math.inf, math.nan),))
    done = m.LaneDone(0, "greedy", "base", "a", (1,), (token,), (2,), "length", 0, 0, 0, -1, math.nan, 0, 0)
    back = m.decode_message(line_of(m.EventMessage(1, done)))
    assert isinstance(back, m.EventMessage) and isinstance(back.event, m.LaneDone)
    assert math.isnan(back.event.perplexity_base) and back.event.tokens[0].logprob == -math.inf
    other = back.event.tokens[0].alternatives[0]
    assert other.logprob == -math.inf and math.isnan(other.warped_probability)
    result = m.decode_message(line_of(m.ResultMessage(1, m.Generated({3: math.nan}), m.PlaygroundStatus())))
    assert isinstance(result, m.ResultMessage) and isinstance(result.result, m.Generated)
    assert math.isnan(result.result.perplexities[3])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"kind": "weather", "sun": true}', None),
        (b"Loading weights: 100%", None),
        (b"[1]", None),
        (b"[" * 100_000, None),
        (b'{"kind": "progress", "id": "x"}', None),
        (b'{"kind": "progress", "id": 1, "text": "a", "new": 1}', m.ProgressMessage(1, "a")),
        (
            b'{"v": 2, "kind": "status", "status": {"state": "ready", "names": ["base"], "new": {}}}',
            m.StatusMessage(m.PlaygroundStatus("ready", names=("base",)), 2),
        ),
    ],
)
def test_messages_of_other_versions(line: bytes, message: Any) -> None:
    """Unknown fields are ignored, and so are unknown kinds and lines that are no message."""
    assert m.decode_message(line) == message


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind": "result", "id": [1]}',
        b'{"kind": "result", "id": {"a": 1}, "result": {"of": "done"}}',
        b'{"id": [1], "kind": "error", "text": 1}',
        b'{"kind": "result", "id": 1, "resu',
        b'{"kind": "result", "id": 1, "result": ' + b"[" * 100_000,
        b'{"a": ' * 5_000,
        b'{"kind": "result", "id": 1' + b"0" * 5_000 + b"}",
    ],
)
def test_a_damaged_answer_is_noticed(line: bytes) -> None:
    """Whoever waits for it would wait for ever."""
    with pytest.raises(m.DamagedMessage):
        m.decode_message(line)


REQUEST = {"id": 7, "request": {"do": "generate", "prompt": "a", "lanes": ["greedy"]}}


@pytest.mark.parametrize(
    ("line", "request_id", "said"),
    [
        (b"nonsense", None, "not valid JSON"),
        (b"\xff\xfe\x00", None, "not valid JSON"),
        (b"", None, "not valid JSON"),
        (b"[" * 100_000, None, "not valid JSON"),
        (b"[1, 2]", None, "must be an object"),
        (b'"text"', None, "must be an object"),
        (b'{"id": 1}', 1, "request is missing"),
        (b'{"id": 1, "request": {}}', 1, "do"),
        (b'{"id": 1, "request": {"do": "dance"}}', 1, "dance"),
        (b'{"id": 1, "request": {"do": ["x"]}}', 1, "request.do"),
        (b'{"id": "x", "request": {"do": "unload"}}', None, "id must be a whole number"),
        (b'{"id": 2, "request": {"do": "load", "model": 7}}', 2, "request.model must be text"),
        (b'{"id": 2, "request": {"do": "add", "name": "a"}}', 2, "location is missing"),
        (b'{"id": 2, "request": {"do": "generate", "prompt": 7, "lanes": []}}', 2, "request.prompt must be"),
        (b'{"id": 2, "request": {"do": "generate", "prompt": "a", "lanes": [7]}}', 2, "request.lanes"),
        (b'{"id": 2, "request": {"do": "score", "prompt_ids": ["x"]}}', 2, "request.prompt_ids"),
        (b'{"id": 2, "request": {"do": "\\u001b[2J"}}', 2, r"\x1b[2J"),
    ],
)
def test_a_bad_request_is_one_sentence(line: bytes, request_id: int | None, said: str) -> None:
    with pytest.raises(m.BadRequest) as error:
        m.decode_request(line)
    assert said in str(error.value) and error.value.id == request_id
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value)


def test_requests_of_a_newer_lab_are_read() -> None:
    newer = {**REQUEST, "v": 2, "new": 1, "request": {**REQUEST["request"], "colour": "red"}}  # type: ignore[dict-item]
    assert m.decode_request(json.dumps(newer).encode()).request == m.GenerateRequest("a", ("greedy",))


def test_the_recording_of_the_demo_is_still_read(tmp_path: Path) -> None:
    """It was recorded with the messages of an earlier version."""
    answers = unpack(tmp_path).answers
    read = [m.read_event(kind, fields) for answer in answers for _, kind, fields in answer.events]
    assert {type(event) for event in read} == {m.Tokens, Beams, m.LaneDone}
