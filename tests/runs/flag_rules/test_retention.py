"""Each red flag on a made-up log that must raise it, and on its nearest harmless relative that must not."""

import pytest

from tests.runs.flag_rules.events import (
    distances,
    found,
    probe,
)


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


def test_a_growing_distance_from_the_base_is_flagged() -> None:
    assert found(distances(0.01, 0.1, 0.2, 0.4))["drifting"].step == 150
    assert (
        found(distances(0.01, 0.1, 0.2, 0.4), probe("green", 0.99, 0.89)) == {}
    )  # items say that it is well
    assert found(distances(0.2, 0.3, 0.3)) == {}  # it has settled
    assert found(distances(0.001, 0.002, 0.004)) == {}  # too near to matter
    assert found(distances(0.4, 0.41, 0.42)) == {}  # within the intervals
