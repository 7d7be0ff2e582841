"""All rules together: their order, their time, and damaged logs."""

import math
import time

from hypothesis import given
from hypothesis import strategies as st

from tests.records import parse
from tests.runs.flag_rules.events import (
    HEALTHY,
    Events,
    data,
    distances,
    evals,
    falling,
    found,
    steps,
)
from tui_lab.runs.flags import flags
from tui_lab.runs.state import RunState


def test_a_healthy_run_has_no_flag() -> None:
    assert found(HEALTHY) == {}
    assert found([]) == {}


def test_flags_are_sorted_by_severity() -> None:
    assert [flag.severity for flag in found(data(truncated=20), steps([math.nan])).values()] == [
        "red",
        "amber",
    ]


def test_a_resumed_run_drops_flags_of_superseded_steps() -> None:
    bad = [*falling(150), *[math.nan] * 10]
    assert "divergence" in found(steps(bad))
    assert "divergence" not in found(steps(bad), [{"kind": "resumed", "from_step": 140, "attempt": 2}])


def test_flags_are_computed_within_their_time_budget() -> None:
    state = RunState()
    state.apply(parse(steps(falling(5_000), grad_norm=1.0, tok_per_s=1_000.0, learning_rate=1e-4)))
    state.apply(parse(evals(*[(at * 100, 3.0 / (1 + at)) for at in range(1, 50)])))
    state.apply(parse(distances(*[0.1] * 100)))
    spent = []
    for _ in range(20):
        began = time.process_time()
        flags(state)
        spent.append(time.process_time() - began)
    assert min(spent) < 0.005


wild = st.one_of(
    st.none(), st.text(max_size=5), st.floats(), st.integers(), st.lists(st.integers(), max_size=3)
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ["loss", "step", "grad_norm", "general", "suite", "verdict", "examples", "device"]
            ),
            wild,
        ),
        max_size=8,
    ),
    st.sampled_from(["step", "eval", "item_probe", "kl_probe", "score", "data", "started", "end"]),
)
def test_damaged_logs_raise_nothing(fields: Events, kind: str) -> None:
    state = RunState()
    state.apply(parse([{**one, "kind": kind} for one in fields]))
    assert isinstance(flags(state), list)


def test_huge_numbers_are_accepted() -> None:
    state = RunState()
    state.apply(parse([{"kind": "step", "t": 1.0, "step": n, "loss": 1e308} for n in (1, 2)]))
    assert [flag for flag in flags(state) if "is no number" in flag.sentence] == []
