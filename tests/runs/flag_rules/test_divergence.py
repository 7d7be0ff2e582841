"""Each red flag on a made-up log that must raise it, and on its nearest harmless relative that must not."""

import math

import pytest

from tests.runs.flag_rules.events import (
    Events,
    falling,
    found,
    steps,
)


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
