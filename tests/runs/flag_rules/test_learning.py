"""Each red flag on a made-up log that must raise it, and on its nearest harmless relative that must not."""

from tests.runs.flag_rules.events import evals, falling, found, score, steps
from tui_lab.runs.flags import flags
from tui_lab.runs.schema import StepEvent
from tui_lab.runs.state import RunState


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


def test_a_score_that_did_not_rise_is_flagged() -> None:
    assert "0.10" in found([score("start", 0.1), score("end", 0.1, 200)])["learned_nothing"].sentence
    assert found([score("start", 0.1), score("end", 0.6, 200)]) == {}
    assert found([score("start", 0.1)]) == {}


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
    assert flag.severity == "amber" and "chosen_weight = 1" in flag.remedy
    assert not [flag for flag in flags(state(2, -40)) if flag.name == "both_fall"]
    assert not [flag for flag in flags(state(2, -40)) if flag.name in ("memorising", "underfitting")]
