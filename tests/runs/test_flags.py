"""Each red flag on a made-up log that must raise it, and on its nearest harmless relative that must not."""

import math
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import parse
from tui_lab.runs.flags import Flag, flags
from tui_lab.runs.schema import StepEvent
from tui_lab.runs.state import RunState

Events = list[dict[str, Any]]


def steps(losses: list[float], **fields: Any) -> Events:
    """One step event a loss; a field may be a list (by step) or one value."""
    return [
        {
            "kind": "step",
            "step": at + 1,
            "loss": loss,
            **{name: value[at] if isinstance(value, list) else value for name, value in fields.items()},
        }
        for at, loss in enumerate(losses)
    ]


def found(*parts: Events) -> dict[str, Flag]:
    state = RunState()
    state.apply(parse([event for part in parts for event in part]))
    return {flag.name: flag for flag in flags(state)}


def falling(count: int = 200, first: float = 3.0, last: float = 0.8, noise: float = 0.1) -> list[float]:
    chance = random.Random(1)
    return [
        last + (first - last) * math.exp(-4 * at / count) + chance.uniform(-noise, noise)
        for at in range(count)
    ]


def evals(*pairs: tuple[int, float]) -> Events:
    return [{"kind": "eval", "step": step, "loss": loss, "rows": 10} for step, loss in pairs]


HEALTHY = [
    {"kind": "data", "train_rows": 90, "validation_rows": 10, "rows_used": 90, "validation_rows_used": 10,
     "train_trained_tokens": 900, "truncated": 1, "too_long": 0, "fully_masked": 0, "refused_by_template": 0},
    {"kind": "plan", "total_steps": 200},
    *steps(falling(), grad_norm=1.0, tok_per_s=1_000.0, learning_rate=1e-4),
    *evals((0, 3.0), (100, 1.1), (200, 0.85)),
]  # fmt: skip


def test_a_healthy_run_has_no_flag() -> None:
    assert found(HEALTHY) == {}
    assert found([]) == {}


@pytest.mark.parametrize("field", ["loss", "grad_norm"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_values_raise_divergence(field: str, bad: float) -> None:
    losses, norms = falling(), [1.0] * 200
    (losses if field == "loss" else norms)[120] = bad
    flag = found(steps(losses, grad_norm=norms))["divergence"]
    assert flag.severity == "red" and flag.step == 121 and "learning rate" in flag.remedy


def test_a_step_that_float16_skips_is_no_divergence() -> None:
    half: Events = [{"kind": "choice", "field": "compute_dtype", "value": "float16", "reason": "no bf16"}]
    norms = [math.inf, math.inf, *[1.0] * 118, math.nan, *[1.0] * 79]
    assert "divergence" not in found(half, steps(falling(), grad_norm=norms))
    stuck = found(half, steps(falling(), grad_norm=[1.0] * 180 + [math.inf] * 20))["divergence"]
    assert stuck.severity == "red" and stuck.step == 181 and "float32" in stuck.remedy
    lost = [*falling(150), *[math.nan] * 50]
    assert "loss" in found(half, steps(lost, grad_norm=norms))["divergence"].sentence


def test_a_rising_loss() -> None:
    up = [*falling(150), *[0.9 + 0.05 * at for at in range(50)]]
    assert found(steps(up))["divergence"].severity == "red"
    # one bad batch, and a plateau a little above the lowest median, are no divergence
    assert "divergence" not in found(steps([*falling(), 9.0]))
    assert "divergence" not in found(steps([*falling(150), *[0.95] * 50]))


def test_gradient_spikes() -> None:
    norms = [1.0] * 200
    for at in (150, 170, 190):
        norms[at] = 30.0
    assert found(steps(falling(), grad_norm=norms))["gradient_spikes"].step == 191
    # of gradients that are next to nothing ten times as much is nothing
    assert "gradient_spikes" not in found(steps(falling(), grad_norm=[norm / 100 for norm in norms]))
    norms[150] = 1.0
    assert "gradient_spikes" not in found(steps(falling(), grad_norm=norms))


def test_overfitting() -> None:
    train = steps(falling(200, 3.0, 0.2))
    rising = found(train, evals((50, 1.2), (100, 1.0), (150, 1.1), (200, 1.2)))["overfitting"]
    assert rising.severity == "amber" and "best at step 100 (1.000)" in rising.sentence
    assert found(train, evals((50, 0.8), (100, 1.1), (200, 1.4)))["overfitting"].severity == "red"
    # apart, but still falling; and rising once only
    assert "overfitting" not in found(train, evals((50, 1.2), (100, 1.1), (200, 1.0)))
    assert "overfitting" not in found(train, evals((50, 1.2), (100, 1.0), (200, 1.1)))
    # the training loss rises too: that is divergence, not overfitting
    worse = steps([*falling(100), *[2.0 + at / 50 for at in range(100)]])
    assert "overfitting" not in found(worse, evals((50, 1.0), (100, 2.0), (200, 5.0)))


def test_memorising() -> None:
    recited = steps([*falling(150), *[0.01] * 50])
    assert found(recited, evals((0, 3.0), (200, 0.9)))["memorising"].step == 200
    # facts learned by heart that answer what was held out too; until they begin to be worse again
    assert "memorising" not in found(recited, evals((0, 3.0), (100, 0.24), (200, 0.23)))
    assert "memorising" in found(recited, evals((0, 3.0), (100, 0.23), (200, 0.3)))
    # easy data is not recited: validation is as low
    assert "memorising" not in found(recited, evals((0, 3.0), (200, 0.03)))
    # a validation before the training says nothing
    assert "memorising" not in found(recited, evals((0, 3.0)))


def test_underfitting() -> None:
    plan = [{"kind": "plan", "total_steps": 300}]
    assert found(plan, steps([3.0] * 200))["underfitting"].severity == "red"
    assert found(plan, steps(falling(200, 4.0, 2.6)))["underfitting"].severity == "amber"
    assert "underfitting" not in found(plan, steps(falling()))
    # too early to say
    assert "underfitting" not in found([{"kind": "plan", "total_steps": 2_000}], steps([3.0] * 200))


def test_slow_convergence() -> None:
    stuck = [*falling(60, 2.0, 1.5), *[1.5] * 240]
    assert found(steps(stuck, learning_rate=1e-5))["slow_convergence"].severity == "amber"
    # at the end of a schedule a flat loss is what is wanted
    rates = [1e-4 * (1 - at / 300) for at in range(300)]
    assert "slow_convergence" not in found(steps(stuck, learning_rate=rates))
    # near the floor there is nothing left to gain
    assert "slow_convergence" not in found(steps([*falling(60, 2.0, 0.4), *[0.4] * 240], learning_rate=1e-4))


def score(when: str, value: float, step: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "kind": "score",
        "when": when,
        "name": "exact",
        "value": value,
        "step": step,
        "rows": 64,
        **fields,
    }


def test_a_score_that_did_not_rise_is_flagged() -> None:
    assert "0.10" in found([score("start", 0.1), score("end", 0.1, 200)])["learned_nothing"].sentence
    assert found([score("start", 0.1), score("end", 0.6, 200)]) == {}
    assert found([score("start", 0.1)]) == {}


def answers(*texts: str) -> list[dict[str, str]]:
    return [{"prompt": f"question {i}", "answer": t, "expected": f"e{i}"} for i, t in enumerate(texts)]


def test_mode_collapse() -> None:
    collapsed = score("end", 0.2, 200, examples=answers("Arr", "arr", " Arr "))
    assert found([collapsed])["mode_collapse"].severity == "red"
    assert found([score("end", 0.2, 200, examples=answers("Arr", "arr", "Ahoy"))]) == {}
    # where the same answer is expected, it is right
    same = [{**example, "expected": "yes"} for example in answers("yes", "yes", "yes")]
    assert found([score("end", 0.2, 200, examples=same)]) == {}


LIVELY = "the crew of the old ship went ashore at dawn to look for water and found none on that island"
LOOP = "the sea the sea " * 6


def test_repetitive_answers_are_flagged() -> None:
    def shown(*texts: str, expected: str = LIVELY) -> dict[str, Any]:
        return score("end", 0.9, 200, examples=[{**one, "expected": expected} for one in answers(*texts)])

    flag = found([shown(LOOP, LOOP + "!")])["mode_collapse"]
    assert flag.severity == "amber" and "word pairs are distinct" in flag.sentence
    assert found([shown(LIVELY, LIVELY.upper())]) == {}
    assert found([shown(LOOP, LOOP + "!", expected=LOOP)]) == {}, "the data repeats itself too"
    assert found([shown("the sea the sea", "the sea")]) == {}, "too short to say"
    assert found([{**shown(LOOP, LOOP + "!"), "when": "start"}]) == {}, "that is the base"


def test_repetitive_samples_are_flagged() -> None:
    def sample(step: int, text: str, prompt: str = "Go on") -> dict[str, Any]:
        return {"kind": "sample", "step": step, "prompt": prompt, "text": text}

    assert found([sample(0, LIVELY), sample(100, LOOP)])["mode_collapse"].step == 100
    assert found([sample(0, LOOP), sample(100, LOOP)]) == {}, "so did the base"
    assert found([sample(0, LIVELY), sample(100, LOOP), sample(200, LIVELY)]) == {}, "it recovered"
    assert found([sample(0, LIVELY), sample(100, LOOP, "Another")]) == {}


def probe(verdict: str, value: float, post: float, suite: str = "everyday", p: float = 1e-6) -> Events:
    figures = {"value": value, "low": value - 0.03, "high": value + 0.03}
    return [
        {"kind": "item_probe", "step": 100, "suite": suite, "n": 400, "pre": 0.9, "post": post,
         "retention": figures, "above_chance": figures, "verdict": verdict, "mcnemar_p": p}
    ]  # fmt: skip


def test_forgetting() -> None:
    flag = found(probe("red", 0.6, 0.65))["forgetting"]
    assert flag.severity == "red" and "90.0% right before, 65.0% now" in flag.sentence
    assert found(probe("amber", 0.92, 0.84))["forgetting"].severity == "amber"
    assert found(probe("green", 0.99, 0.89)) == {}
    assert found(probe("amber", 0.92, 0.84, p=0.2)) == {}  # six points that may be chance
    assert found(probe("cannot_tell", 0.3, 0.3)) == {}
    # what was lost and came back is no flag
    assert found(probe("red", 0.6, 0.65), probe("green", 0.98, 0.89)) == {}


@pytest.mark.parametrize(
    ("suite", "name"),
    [("format", "format_corruption"), ("refusals", "safety_drift"), ("diversity", "mode_collapse")],
)
def test_behaviour_suites_have_their_own_flags(suite: str, name: str) -> None:
    assert set(found(probe("red", 0.5, 0.4, suite))) == {name}
    assert found(probe("green", 1.0, 0.9, suite)) == {}


def distances(*values: float) -> Events:
    return [
        {
            "kind": "kl_probe",
            "step": 50 * at,
            "general": {"value": v, "low": v * 0.9, "high": v * 1.1},
            "task": {"value": v, "low": v, "high": v},
        }
        for at, v in enumerate(values)
    ]


def test_a_growing_distance_from_the_base_is_flagged() -> None:
    assert found(distances(0.01, 0.1, 0.2, 0.4))["drifting"].step == 150
    assert (
        found(distances(0.01, 0.1, 0.2, 0.4), probe("green", 0.99, 0.89)) == {}
    )  # items say that it is well
    assert found(distances(0.2, 0.3, 0.3)) == {}  # it has settled
    assert found(distances(0.001, 0.002, 0.004)) == {}  # too near to matter
    assert found(distances(0.4, 0.41, 0.42)) == {}  # within the intervals


def test_throughput() -> None:
    speeds = [1_000.0] * 190 + [400.0] * 10
    assert found(steps(falling(), tok_per_s=speeds))["slowed_down"].severity == "amber"
    speeds[-8:] = [1_000.0] * 8
    assert "slowed_down" not in found(steps(falling(), tok_per_s=speeds))


def test_memory() -> None:
    failed = {"kind": "end", "state": "failed", "message": "the GPU is out of memory: halve the batch"}
    assert found([failed])["out_of_memory"].severity == "red"
    assert found([{**failed, "message": "the disk is full"}]) == {}
    rung = {"kind": "ladder", "step": 5, "rung": "split", "text": "memory ran out at step 5", "cost": "time"}
    held_out = {**rung, "step": 9, "rung": "validation", "text": "held-out rows"}
    flag = found([rung, held_out])["out_of_memory"]
    assert (flag.severity, flag.step, flag.sentence) == ("amber", 5, "Memory ran out at step 5.")
    assert "costs: time" in flag.remedy
    measured = {"kind": "ladder_cost", "text": "a step takes 2 s since memory ran out, 1 s before (+100%)"}
    assert "+100%" in found([rung, measured])["out_of_memory"].remedy
    assert found([rung, failed])["out_of_memory"].severity == "red"
    started = {"kind": "started", "device": {"memory_bytes": 100}}
    assert "97%" in found([started], steps([1.0], memory={"gpu": 97}))["memory_almost_full"].sentence
    assert found([started], steps([1.0], memory={"gpu": 80})) == {}
    assert found([started], steps([1.0], memory={"rss": 97})) == {}


def data(**fields: Any) -> Events:
    return [
        {"kind": "data", "rows_used": 90, "validation_rows_used": 10, "train_trained_tokens": 9, **fields}
    ]


def test_rows() -> None:
    assert found(data(fully_masked=3))["nothing_to_learn"].severity == "amber"
    assert found(data(fully_masked=60))["nothing_to_learn"].severity == "red"
    assert found(data(train_trained_tokens=0))["nothing_to_learn"].severity == "red"
    assert found(data(truncated=20))["truncated_rows"].severity == "amber"
    assert found(data(truncated=5)) == {}


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


def test_both_answers_of_a_preference_run_become_unlikely() -> None:
    def state(chosen_end: float, rejected_end: float) -> RunState:
        made = RunState()
        for step in range(1, 31):
            share = step / 30
            parts = {
                "chosen_log_probability": -20 + share * chosen_end,
                "rejected_log_probability": -20 + share * rejected_end,
            }
            made.apply([StepEvent(step=step, loss=0.7 * (1 - share), parts=parts)])
        return made

    [flag] = [flag for flag in flags(state(-15, -40)) if flag.name == "both_fall"]
    assert flag.severity == "amber" and "orpo" in flag.remedy
    assert not [flag for flag in flags(state(2, -40)) if flag.name == "both_fall"]
    assert not [flag for flag in flags(state(2, -40)) if flag.name in ("memorising", "underfitting")]
