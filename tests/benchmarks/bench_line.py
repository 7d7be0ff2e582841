"""What the lab sends over the line, in bytes a second through real pseudo-terminals: on each pane while
nothing happens, while a run trains (Train in view), while six lanes stream (Playground), and while both; at
80x24 and 200x50, with and without ``--slow-link``; and the CPU of the lab's process while it idles. So that
a busy machine changes nothing, stand-ins work at one rate: a run of four steps a second (steady_run; all
labs look at the same one), and lanes of 40 tokens a second each (steady_playground). All else is real. Beside
it the obvious alternative: the same lab writing as Textual does, whole regions at a time."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.benchmarks.terminal import (
    ESCAPE,
    LAB,
    PANE_KEYS,
    Terminal,
    drain,
    end_runs,
    set_tokens,
    start_run,
)
from tui_lab.ui.terminal.gc_policy import CHECK_EVERY_S, PAUSE_S

SIZES = ((80, 24), (200, 50))
#: The lab, but whatever Textual wants to send is sent.
PLAIN = "as Textual writes"
PLAIN_CODE = """
from tui_lab.ui.terminal.output import LineApp
del LineApp._display
from tui_lab.cli.main import main
main([])
"""
KINDS: dict[str, Sequence[str]] = {
    "": LAB,
    "slow link": (*LAB, "--slow-link"),
    PLAIN: (sys.executable, "-c", PLAIN_CODE),
}
#: At 80x24; what the project promises.
RUN_LIMIT_KIB_PER_S, LANES_LIMIT_KIB_PER_S, IDLE_LIMIT_KIB_PER_S = 12.0, 40.0, 0.2
IDLE_CPU_LIMIT_PERCENT = 1.0
SETTLE_S, IDLE_S, TRAIN_S, STREAM_S = 2.0, 5.0, 12.0, 8.0
#: A second in which a lab used less CPU than this was a calm one; a lab that never is, is measured so.
CALM_CPU_S, CALM_WITHIN_S = 0.03, 20
NEW_TOKENS = 4000
#: Longer than an Escape waits for what may follow it.
ESCAPE_S = 0.5
PANES = ("setup", "train", "retention", "runs")
#: Less than this is no stream.
SIGN_OF_LIFE_BYTES_PER_S = 20

Labs = dict[tuple[tuple[int, int], str], Terminal]
Rates = dict[tuple[tuple[int, int], str], float]


def _name(size: tuple[int, int], kind: str) -> str:
    return f"{size[0]}x{size[1]}{f', {kind}' if kind else ''}"


def rates(labs: Labs, seconds: float) -> Rates:
    """Bytes a second that each writes, all at the same time."""
    counts = drain(list(labs.values()), seconds)
    return {key: count / seconds for key, count in zip(labs, counts, strict=True)}


def go(labs: Labs, pane: str, settle_s: float = SETTLE_S) -> None:
    press(labs, PANE_KEYS[pane], settle_s)


def press(labs: Labs, keys: bytes, then_s: float) -> None:
    for lab in labs.values():
        lab.press(keys, 0.0)
    drain(list(labs.values()), then_s)


def figures(what: str, found: Rates, limit: float) -> Iterator[Figure]:
    """The rates, what the others are of the lab's own, and the limit where there is one."""
    for (size, kind), rate in found.items():
        if limit > 1 and rate < SIGN_OF_LIFE_BYTES_PER_S:
            raise RuntimeError(f"{what}, {_name(size, kind)}: {rate:.0f} bytes a second: nothing happens")
        bound = limit if size == SIZES[0] and kind != PLAIN else None
        yield Figure(f"{what}, {_name(size, kind)}", rate / 1024, "KiB/s", bound)
        if kind and limit > 1:
            yield Figure("  against the lab as it is", rate / found[size, ""], "times")


def calm(labs: Labs) -> None:
    """Waits until whatever was asked for is done: on a busy machine a new pane takes seconds."""
    for _ in range(CALM_WITHIN_S):
        used = [lab.cpu_s() for lab in labs.values()]
        drain(list(labs.values()), 1.0)
        if all(lab.cpu_s() - was < CALM_CPU_S for lab, was in zip(labs.values(), used, strict=True)):
            return


def idle(labs: Labs, panes: Sequence[str], words: str) -> Iterator[Figure]:
    for pane in panes:
        go(labs, pane)
        calm(labs)
        drain(list(labs.values()), PAUSE_S + CHECK_EVERY_S)  # what comes once, in the pause after a change
        used = {key: lab.cpu_s() for key, lab in labs.items()}
        found = rates(labs, IDLE_S)
        yield from figures(f"idle, {pane}{words}", found, IDLE_LIMIT_KIB_PER_S)
        for key, lab in labs.items():
            percent = 100 * (lab.cpu_s() - used[key]) / IDLE_S
            yield Figure(f"  CPU, {_name(*key)}", percent, "% of a core", IDLE_CPU_LIMIT_PERCENT)


def streaming(labs: Labs) -> Rates:
    """Bytes a second while six lanes stream. One size at a time: a lab that gets no core sends less."""
    found: Rates = {}
    for size in SIZES:
        some = {key: lab for key, lab in labs.items() if key[0] == size}
        press(some, ESCAPE, ESCAPE_S)  # to the lanes
        press(some, b"s", SETTLE_S)
        found |= rates(some, STREAM_S)
        press(some, b"x", SETTLE_S)
    return found


def show_playground(labs: Labs) -> None:
    """Playground in view, its process ready, answers of the greatest length."""
    go(labs, "playground", 0.0)
    for lab in labs.values():
        lab.until("ready")
        set_tokens(lab, NEW_TOKENS)


def steps(folder: str) -> int:
    """Steps that the run has written."""
    return sum(path.read_bytes().count(b'"kind":"step"') for path in Path(folder).glob("runs/*/events.jsonl"))


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        labs: Labs = {}
        for size in SIZES:
            for kind, command in KINDS.items():
                if kind != PLAIN or size == SIZES[0]:
                    labs[size, kind] = Terminal(folder, *size, command=command, steady_playground=True)
        idlers = {key: lab for key, lab in labs.items() if key[1] != PLAIN}
        training = None
        try:
            for lab in labs.values():
                lab.until("starts the run")
            yield from idle(idlers, PANES, "")
            show_playground(labs)
            yield from idle(idlers, ["playground"], ", lanes in focus")
            press(labs, b"i", 0.2)
            yield from idle(idlers, ["playground"], ", prompt in focus")
            yield from figures("six lanes stream", streaming(labs), LANES_LIMIT_KIB_PER_S)
            training = start_run(labs[SIZES[0], ""])
            for lab in labs.values():
                lab.press(PANE_KEYS["train"], 0.0)
                lab.until(" left")
            drain(list(labs.values()), SETTLE_S)
            before = steps(folder)
            found = rates(labs, TRAIN_S)
            yield Figure("the run's steps", (steps(folder) - before) / TRAIN_S, "a second")
            yield from figures("a run trains", found, RUN_LIMIT_KIB_PER_S)
            go(labs, "playground")
            yield from figures("six lanes and a run", streaming(labs), LANES_LIMIT_KIB_PER_S)
            if training.poll() is not None:
                raise RuntimeError(f"the run ended with {training.returncode} during the measurement")
            end_runs(folder, training)
            yield from idle(idlers, ["train"], " with a run that ended")
        finally:
            if training is not None:
                end_runs(folder, training)
            for lab in labs.values():
                lab.close()
