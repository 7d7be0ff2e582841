"""A run in sentences: no symbols, nothing twice, at a calm rate, warnings at once, a summary at the end."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.helpers import lab
from tests.records import parse
from tui_lab.cli import plain
from tui_lab.cli.plain import Sentences
from tui_lab.cli.results import RunResult
from tui_lab.core.sanitize import sanitize
from tui_lab.runs import folder
from tui_lab.runs.event_parts import Acquisition
from tui_lab.runs.events import LogLine
from tui_lab.runs.schema import EVENT_KINDS
from tui_lab.runs.state import RunState
from tui_lab.runs.verdicts import VERDICTS

#: What a screen reader reads without naming signs.
PLAIN = set(string.printable) - set("\n\r\t\x0b\x0c|~^{}<>%$\\")


class Listener:
    """Sentences with the times at which they were said, on a clock that the test turns."""

    def __init__(self, every_s: float = 10.0) -> None:
        self.now, self.state = 0.0, RunState()
        self.said: list[tuple[float, str]] = []
        self.display = Sentences(every_s, lambda text: self.said.append((self.now, text)), lambda: self.now)

    def hear(self, kind: str, **fields: Any) -> None:
        for event in parse([{"kind": kind, "t": self.now, **fields}]):
            self.state.apply([event])
            self.display.event(LogLine(b"", event), self.state)

    def wait(self, seconds: float, status: str = "running") -> list[str]:
        """Looks every eighth of a second; what was said meanwhile."""
        before = len(self.said)
        for _ in range(round(seconds * 8)):
            self.now += 0.125
            self.display.tick(self.state, status)
        return [text for _, text in self.said[before:]]

    def step(self, step: int, loss: float, tok_per_s: float = 1000.0, eta_s: float = 90.0) -> None:
        memory = {"resident": 512e6}
        self.hear("step", step=step, loss=loss, tok_per_s=tok_per_s, eta_s=eta_s, memory=memory)


def test_steps_are_told_at_a_calm_rate_and_only_what_changed_of_speed_and_memory() -> None:
    listener = Listener()
    listener.hear("plan", total_steps=200)
    for step in range(1, 301):
        listener.step(min(step, 200), 3 - step / 200, eta_s=max(0, 200 - step))
        listener.wait(0.125)
    told = [text for _, text in listener.said if text.startswith("Step")]
    assert told == [
        "Step 8 of 200, training loss 2.96, 1,000 tokens per second, 512 megabytes of memory, "
        "about 3 minutes 12 seconds to go.",
        "Step 88 of 200, training loss 2.56, about 1 minute 52 seconds to go.",
        "Step 168 of 200, training loss 2.16, about 32 seconds to go.",
        "Step 200 of 200, training loss 1.76, about 0 seconds to go.",
    ]
    assert sorted({at for at, _ in listener.said}) == [1.0, 11.0, 21.0, 31.0]
    assert listener.wait(60) == []  # nothing changes: nothing is said


def test_of_what_changed_several_times_the_newest_is_told_once() -> None:
    listener = Listener()
    for step in (10, 20, 30):
        listener.hear("eval", step=step, loss=1 / step)
        listener.hear("checkpoint", step=step, reason="best")
    assert listener.wait(2) == [
        "Validation loss 0.03333 at step 30.",
        "Checkpoint at step 30 (the best so far).",
    ]
    assert listener.wait(30) == []


def test_warnings_come_at_once_and_once() -> None:
    listener = Listener()
    listener.hear("warning", text="40% of rows × are cut → \x1b[31mlonger")
    assert [text for _, text in listener.said] == [
        "Warning: 40 percent of rows times are cut to ␛[31mlonger."
    ]
    listener.hear("warning", text="40% of rows × are cut → \x1b[31mlonger")
    assert len(listener.said) == 1


def test_a_pause_is_told_when_it_begins_and_ends() -> None:
    listener = Listener()
    listener.step(7, 1.0)
    listener.wait(3)
    assert listener.wait(0.2, "paused") == ["The run is paused at step 7."]
    assert listener.wait(30, "paused") == []
    assert listener.wait(0.2, "running") == ["The run continues at step 7."]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_verdicts_are_sentences(verdict: str) -> None:
    listener = Listener()
    figures = {"value": 0.91, "low": 0.85, "high": 0.972}
    listener.hear(
        "item_probe",
        step=75,
        suite="everyday",
        n=16,
        verdict=verdict,
        retention=figures,
        above_chance=figures,
    )
    judges = verdict in ("green", "amber", "red")  # the others have no figure
    figures_said = " 0.91 (0.85 to 0.97)" if judges else ""
    said = f"Retention{figures_said} on 16 items of everyday at step 75: {VERDICTS[verdict][1]}."
    assert listener.wait(2) == [said]


def test_arming_is_told_but_not_that_a_run_is_as_usual() -> None:
    listener = Listener()
    listener.hear("armed", on=False)
    assert listener.wait(2) == []
    listener.hear("armed", on=True)
    assert listener.wait(11) == [
        "Stop on forgetting is on: the run stops when retention is significantly under its threshold."
    ]
    listener.hear("armed", on=False)
    assert listener.wait(11) == ["Stop on forgetting is off: the run continues at any retention."]


def test_numbers_in_words() -> None:
    assert [plain.spoken_duration(each) for each in (0, 1, 59.6, 61, 3600, 7505, 90_000)] == [
        "0 seconds", "1 second", "1 minute", "1 minute 1 second", "1 hour", "2 hours 5 minutes", "25 hours",
    ]  # fmt: skip
    assert plain.spoken("20.6 GiB free → 1,234 tok/s · 3.0%") == (
        "20.6 gibibytes free to 1,234 tokens per second, 3.0 percent"
    )
    assert plain.spoken_duration(None) == plain.spoken_duration(float("nan")) == "an unknown time"
    assert plain.spoken_size(999.8e6) == "1 gigabytes", "not 1e+03 megabytes"
    assert [plain.spoken_size(each) for each in (5, 2_048, 512e6, 1.2345e9)] == [
        "5 bytes", "2.05 kilobytes", "512 megabytes", "1.23 gigabytes",
    ]  # fmt: skip


@given(
    st.sampled_from(sorted(EVENT_KINDS)),
    st.dictionaries(
        st.sampled_from(["step", "text", "name", "value", "loss", "on", "device", "outcome", "n", "verdict"]),
        st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.booleans()),
    ),
)
def test_damaged_events_are_passed_over_and_sentences_stay_on_a_line(
    kind: str, fields: dict[str, Any]
) -> None:
    listener = Listener()
    listener.hear(kind, **fields)
    listener.wait(2)
    assert all(sanitize(text) == text for _, text in listener.said)


def read_aloud(text: str) -> list[str]:
    """The lines of an output, each of which a screen reader reads without naming signs."""
    lines = text.splitlines()
    for line in lines:
        assert not set(line) - PLAIN - {"␛"}, line  # the fake device's name has a control character
    return lines


def test_a_run_is_started_and_told_in_sentences(
    fake_worker: None, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.05")
    done = lab("train", "--set", "max_steps=20", "--plain", "--every", "0.3")
    assert done.returncode == 0, done.stderr
    lines = read_aloud(done.stdout)
    (run,) = folder.list_runs(runs_dir)
    steps = [line for line in lines if line.startswith("Step ")]
    assert 2 <= len(steps) <= 8 and len(set(lines)) == len(lines)
    assert "Acquisition 0.25 on 4 held-out rows before training (exact match)." in lines
    assert lines[-5:] == [
        "Training loss went from 3 to 0.15.",
        "Validation loss went from 3 to 1; the best was 1.",
        "Acquisition on held-out rows, exact match, went from 25 to 75 percent.",
        "The highest memory was 2 megabytes of resident memory.",
        f"The result is in {run.path / 'adapter'}.",
    ]
    again = lab("watch", "latest", "--plain")
    assert again.returncode == 0
    ended = read_aloud(again.stdout)
    assert ended[0] == f"Following the run {run.id}." and ended[-5:] == lines[-5:]
    assert ended[-6] == "The run finished after 2 seconds, at step 20 of 20."
    assert not [line for line in ended if line.startswith("Step ")]


def test_a_run_that_fails_says_so(fake_worker: None, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_END", "failed")
    done = lab("train", "--set", "max_steps=20", "--plain")
    assert done.returncode == 1
    assert "The run failed, at step 10 of 20." in done.stdout and "Its message: the data ran" in done.stdout


HUGE = 10**400


@pytest.mark.parametrize("n", [None, "\x1b[31m", HUGE, float("inf"), []])
def test_the_end_of_a_damaged_log_is_told_as_far_as_it_goes(n: Any) -> None:
    state = RunState()
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    probe = {"kind": "item_probe", "t": 1.0, "step": 1, "n": n, "verdict": "red", "retention": interval}
    state.apply(parse([probe, {"kind": "step", "t": HUGE, "step": 1, "loss": 2.0, "eta_s": HUGE}]))
    result = RunResult(
        run="a", path="a", state="finished", step=1, total_steps=2, seconds=float("inf"), train_loss=None,
        validation_loss=None, acquisition=Acquisition(name="", start=None, end=None), peak_memory={},
        flops_per_token=None, mfu=None, overfitting_gap=None, energy_j=None, saved=None, message="",
    )  # fmt: skip
    lines = plain.summary(result, state)
    assert lines[0] == "The run finished, at step 1 of 2."
    assert not [line for line in lines if not line.isprintable()]
