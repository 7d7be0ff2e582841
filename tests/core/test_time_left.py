"""The time that a job still takes."""

from __future__ import annotations

from tui_lab.core.time_left import TimeLeft


def test_the_time_left_follows_the_pace_of_the_stage() -> None:
    pace = TimeLeft()
    assert pace.text(0, 1_000, now=10.0) == "0/1,000"
    assert pace.text(50, 1_000, now=10.5) == "50/1,000", "too early to tell"
    assert pace.text(100, 1_000, now=20.0) == "100/1,000, 1:30 left"
    # another stage has its own pace; so has one that begins again
    assert pace.text(5, 10, now=21.0) == "5/10"
    assert pace.text(6, 10, now=23.0) == "6/10, 0:08 left"
    assert pace.text(1, 10, now=24.0) == "1/10"
