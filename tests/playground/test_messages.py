"""Records travel as JSON and arrive as they were, whatever text and numbers they hold."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core import records
from tui_lab.decoding.records import Alternative, Candidate, Hypothesis, TokenRecord
from tui_lab.playground.messages import (
    Beams,
    Event,
    HostStatus,
    LaneDone,
    Tokens,
    event_fields,
    read,
    read_event,
)

numbers = st.floats(allow_nan=False)
text = st.text(max_size=20)
ids = st.lists(st.integers(0, 10**6), max_size=6).map(tuple)
alternatives = st.builds(
    Alternative, st.integers(0, 9), text, numbers, numbers, st.sampled_from([None, "top_k", "top_p"])
)
candidates = st.builds(Candidate, st.integers(0, 9), text, numbers, numbers, numbers)
tokens = st.builds(
    TokenRecord, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), text, numbers, st.integers(1, 9),
    numbers, st.lists(alternatives, max_size=3).map(tuple), st.lists(candidates, max_size=3).map(tuple),
)  # fmt: skip
lanes = st.builds(
    LaneDone, st.integers(0, 9), text, text, text, ids, st.lists(tokens, max_size=3).map(tuple), ids, text,
    *[numbers] * 7,
)  # fmt: skip
hypotheses = st.builds(Hypothesis, ids, text, numbers, st.booleans())
events = st.one_of(
    lanes,
    st.builds(Tokens, st.integers(0, 9), text, st.integers(0, 9)),
    st.builds(Beams, st.integers(0, 9), st.integers(0, 9), st.lists(hypotheses, max_size=3).map(tuple)),
)


def over_the_pipe(event: Event) -> Any:
    kind, fields = event_fields(event)
    line = json.dumps({"kind": kind, **records.jsonable(fields)}, ensure_ascii=True, allow_nan=False)
    assert line.isascii() and "\n" not in line
    message = json.loads(line)
    return read_event(message.pop("kind"), message)


@given(events)
def test_every_event_arrives_as_it_was(event: Event) -> None:
    assert over_the_pipe(event) == event


def test_numbers_that_json_has_no_word_for() -> None:
    token = TokenRecord(0, 0, 1, "a", -math.inf, 1, 0.5, (Alternative(1, "a", -math.inf, math.nan),))
    done = LaneDone(0, "greedy", "base", "a", (1,), (token,), (2,), "length", 0, 0, 0, -1, math.nan, 0, 0)
    back = over_the_pipe(done)
    assert math.isnan(back.perplexity_base) and back.tokens[0].logprob == -math.inf
    other = back.tokens[0].alternatives[0]
    assert other.logprob == -math.inf and math.isnan(other.warped_probability)


def test_what_is_not_known_is_left_out() -> None:
    assert read(HostStatus, {"state": "ready", "names": ["base"], "new": 1}) == HostStatus(
        state="ready", names=("base",)
    )
    assert read_event("weather", {"sun": True}) is None
