"""What is shown of a probe that says nothing on retention: no figure in lines, events, lists and reports."""

from __future__ import annotations

import pytest

from tui_lab.report.retention import headline
from tui_lab.retention.statistics import Interval
from tui_lab.runs.index import RunSummary
from tui_lab.runs.queue import sweep_table
from tui_lab.runs.schema import ItemProbeEvent
from tui_lab.runs.state import RunState
from tui_lab.runs.wording import sentence
from tui_lab.ui.views import probe
from tui_lab.ui.views.run_plots import retention_series


def event(verdict: str, value: float, when: str = "") -> ItemProbeEvent:
    found = Interval(value, float("-inf"), float("inf"))
    return ItemProbeEvent(
        step=0 if when else 5,
        suite="everyday",
        n=452,
        b=0,
        c=0,
        retention=found,
        above_chance=found,
        verdict=verdict,
        when=when,
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (event("cannot_tell", -0.5), "n/a: base at chance"),
        (event("green", 1.0, "start"), "baseline measured"),
    ],
)
def test_a_probe_without_a_verdict_has_no_figure(found: ItemProbeEvent, words: str) -> None:
    state = RunState()
    state.apply([found])
    line = "".join(text for text, _ in probe.verdict_line(state))
    told = sentence(found)
    listed = sweep_table.retention(
        RunSummary("x", "/x", verdict=state.verdict, retention=found.retention.value), interval=True
    )
    reported = headline(found.headline, found.outcome)
    for text in (line, told, reported):
        assert words in text and "inf" not in text and "∞" not in text
        assert "0.5" not in text and "1.0" not in text and "kept" not in text
    assert listed in ("n/a: base at chance", "–")


def test_a_base_at_chance_is_not_drawn() -> None:
    state = RunState()
    state.apply([event("cannot_tell", -0.5)])
    assert retention_series(state) == []


def test_a_probe_with_a_verdict_has_its_figure() -> None:
    found = ItemProbeEvent(step=5, suite="everyday", n=9, verdict="red", retention=Interval(0.4, 0.3, 0.5))
    state = RunState()
    state.apply([found])
    assert "0.40 (0.30 to 0.50)" in "".join(text for text, _ in probe.verdict_line(state))
    assert "0.400" in headline(found.headline, found.outcome)
