"""The time that a job still takes, worked by hand."""

from __future__ import annotations

from tui_lab.core.time_left import TimeLeft


def test_the_time_left_follows_the_pace_of_the_stage() -> None:
    now = 10.0
    pace = TimeLeft(lambda: now)
    assert pace.line("merging", None, None) == "merging …"
    assert pace.line("checking", 0, 1_000) == "checking: 0 of 1,000"
    now = 10.5
    assert pace.line("checking", 50, 1_000) == "checking: 50 of 1,000", "too early to tell"
    now = 20.0
    assert pace.line("checking", 100, 1_000) == "checking: 100 of 1,000, 1:30 left"
    # another stage has its own pace, by its text and by its total; so has one that begins again
    now = 21.0
    assert pace.line("answering", 5, 1_000) == "answering: 5 of 1,000"
    now = 23.0
    assert pace.line("answering", 6, 1_000) == "answering: 6 of 1,000, 33:08 left"
    assert pace.line("answering", 5, 10) == "answering: 5 of 10"
    now = 25.0
    assert pace.line("answering", 6, 10) == "answering: 6 of 10, 0:08 left"
    assert pace.line("answering", 1, 10) == "answering: 1 of 10"


def test_a_count_in_the_text_is_part_of_no_stage_and_is_not_repeated() -> None:
    now = 0.0
    pace = TimeLeft(lambda: now)
    assert pace.line("everyday: base, 10 of 40 items", 10, 40) == "everyday: base, 10 of 40 items"
    now = 10.0
    assert pace.line("everyday: base, 20 of 40 items", 20, 40) == "everyday: base, 20 of 40 items, 0:20 left"
