"""The progress of a job in words, worked by hand."""

from __future__ import annotations

from tui_lab.ui.views.job_text import JobText


def test_the_time_that_is_left_follows_from_the_speed_of_the_stage() -> None:
    now = [0.0]
    text = JobText(lambda: now[0])
    assert text.line("merging", None, None) == "merging …"
    assert text.line("checking", 0, 40) == "checking: 0 of 40"
    now[0] = 1.0
    assert text.line("checking", 2, 40) == "checking: 2 of 40", "too early to say"
    now[0] = 10.0
    assert text.line("checking", 10, 40) == "checking: 10 of 40, 0:30 left"
    assert text.line("answering", 5, 40) == "answering: 5 of 40", "another stage begins anew"
