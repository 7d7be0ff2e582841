"""When a run is probed and stopped: the share is kept, four probes are always there, chance stops no run."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.retention.statistics import mcnemar_exact
from tui_lab.training.probe_plan import (
    LEAST_ITEMS,
    LEAST_PROBES,
    ItemProbeResult,
    ProbeCosts,
    ProbeSchedule,
    items_to_score,
    kl_size,
    make_schedule,
    steps_of,
    stop_reason,
)


def seconds_of(plan: ProbeSchedule, costs: ProbeCosts) -> float:
    """What a plan's probes take, added up one by one."""
    items = sum(costs.item_fixed_s + plan.items * costs.item_s for _ in plan.item_at)
    return items + len(plan.kl_at) * costs.kl_token_s * plan.kl_sequences * plan.kl_length


@given(
    total=st.integers(1, 100_000),
    step_s=st.floats(1e-3, 20.0),
    item_s=st.floats(1e-5, 1.0),
    fixed_s=st.floats(0.0, 1.0),
    token_s=st.floats(1e-6, 0.1),
    items=st.integers(1, 500),
    share=st.floats(0.005, 0.2),
)
def test_share_is_met_or_the_reason_names_it(
    total: int, step_s: float, item_s: float, fixed_s: float, token_s: float, items: int, share: float
) -> None:
    costs = ProbeCosts(step_s, item_s, fixed_s, token_s, 16, 64)
    plan = make_schedule(total, costs, items, share)
    spent = seconds_of(plan, costs)
    assert plan.expected_share == pytest.approx(spent / (total * step_s), rel=1e-6)
    least = min(LEAST_PROBES, total)
    assert len(plan.item_at) >= least and len(plan.kl_at) >= least
    assert list(plan.item_at) == sorted(set(plan.item_at)) and plan.item_at[-1] == plan.kl_at[-1] == total
    assert min(items, LEAST_ITEMS) <= plan.items <= items
    assert 4 <= plan.kl_sequences <= 16 <= plan.kl_length <= 64
    if spent > share * total * step_s * 1.01:
        assert "more than probe_share" in plan.reason
        # only the least is done where the least is too much already
        assert plan.kl_sequences == 4 and plan.kl_length == 16
        assert plan.items == min(items, LEAST_ITEMS)
        assert len(plan.item_at) == least
    else:
        assert "too short" not in plan.reason or spent > share * total * step_s


def test_long_run_has_more_full_probes() -> None:
    costs = ProbeCosts(
        step_s=0.5, item_s=0.01, item_fixed_s=0.1, kl_token_s=1e-4, kl_sequences=32, kl_length=256
    )
    plan = make_schedule(4_000, costs, 452, 0.03)
    assert plan.items == 452 and (plan.kl_sequences, plan.kl_length) == (32, 256)
    assert len(plan.item_at) > 4 and len(plan.kl_at) > 4
    assert plan.expected_share <= 0.03


def test_time_before_the_first_step_counts() -> None:
    costs = ProbeCosts(
        step_s=0.13, item_s=0.004, item_fixed_s=0.03, kl_token_s=2e-4, kl_sequences=32, kl_length=32
    )
    plan = make_schedule(270, costs, 200, 0.03, 452, spent_s=0.3)
    assert plan.items < make_schedule(270, costs, 200, 0.03, 452).items
    assert plan.expected_share == pytest.approx((seconds_of(plan, costs) + 0.3) / (270 * 0.13))
    assert plan.expected_share <= 0.03 and "of 452 items" in plan.reason


def test_short_run_has_four_probes_of_fewer_items() -> None:
    costs = ProbeCosts(
        step_s=0.13, item_s=0.004, item_fixed_s=0.03, kl_token_s=2e-4, kl_sequences=32, kl_length=32
    )
    plan = make_schedule(270, costs, 200, 0.03)
    assert len(plan.item_at) == 4 and LEAST_ITEMS < plan.items < 100
    assert plan.kl_sequences >= 16 and len(plan.kl_at) == 4
    assert plan.expected_share <= 0.03 and "more items would cost more" in plan.reason


def test_steps_are_spread_evenly_and_end_at_the_end() -> None:
    assert steps_of(12, 4) == (3, 6, 9, 12)
    assert steps_of(10, 4) == (3, 5, 8, 10)
    assert steps_of(3, 4) == (1, 2, 3)
    assert steps_of(0, 4) == ()


def test_size_of_the_base_record() -> None:
    assert kl_size(36_000, 1e-5, 0.03) == (32, 256)
    assert kl_size(30, 1e-4, 0.03) == (32, 64)
    assert kl_size(1, 1.0, 0.03) == (4, 32)
    assert items_to_score(36_000, 0.01, 0.03) == 500
    assert items_to_score(30, 0.004, 0.03) == 250
    assert items_to_score(3_000, 0.2, 0.03) == 109
    assert items_to_score(0.1, 1.0, 0.03) == LEAST_ITEMS


def result(step: int, retention: float, p: float, certain: bool = True) -> ItemProbeResult:
    return ItemProbeResult(step, retention, p, certain)


def test_two_consecutive_bad_probes_stop() -> None:
    good, bad = result(10, 1.0, 1.0), result(20, 0.5, 1e-6)
    worse = result(30, 0.4, 1e-7)
    assert stop_reason([bad], 0.9, 4) == ""
    assert stop_reason([good, bad], 0.9, 4) == ""
    assert stop_reason([bad, good, worse], 0.9, 4) == ""
    said = stop_reason([good, bad, worse], 0.9, 4)
    assert "0.50 at step 20" in said and "0.40 at step 30" in said and "0.90" in said
    assert stop_reason([good, bad, worse], 0.3, 4) == ""


def test_error_is_divided_among_probes_and_uncertain_bases_never_stop() -> None:
    two = [result(10, 0.8, 0.02), result(20, 0.8, 0.02)]
    assert stop_reason(two, 0.9, 2)
    assert stop_reason(two, 0.9, 4) == ""
    assert stop_reason([result(10, 0.1, 1e-9), result(20, 0.1, 1e-9, certain=False)], 0.9, 4) == ""
    assert stop_reason([result(i, 0.8, 0.02) for i in range(20)], 0.9, 2) == "", "more looks than planned"


def test_unchanged_model_is_seldom_stopped() -> None:
    """Items that flip both ways alike at four probes of 60 items: the rule must stay far below 5%."""
    chance = random.Random(0)
    stops = 0
    for _ in range(2000):
        results = []
        for step in range(4):
            lost = sum(chance.random() < 0.1 for _ in range(40))
            gained = sum(chance.random() < 0.2 for _ in range(20))
            results.append(result(step, (40 - lost + gained) / 40, mcnemar_exact(lost, gained)))
        stops += any(stop_reason(results[: i + 1], 0.9, 4) for i in range(4))
    assert stops / 2000 < 0.01
