"""Each red flag on a made-up log that must raise it, and on its nearest harmless relative that must not."""

from tests.runs.flag_rules.events import data, found


def test_rows() -> None:
    assert found(data(fully_masked=3))["nothing_to_learn"].severity == "amber"
    assert found(data(fully_masked=60))["nothing_to_learn"].severity == "red"
    assert found(data(train_trained_tokens=0))["nothing_to_learn"].severity == "red"
    assert found(data(truncated=20))["truncated_rows"].severity == "amber"
    assert found(data(truncated=5)) == {}
