"""What the lab sends over the line, in bytes a second through real pseudo-terminals: on each pane while
nothing happens, while a real run of the bundled model trains (Tune in view), while six lanes stream
(Compare), and while both; at 80x24 and 200x50, with and without ``--slow-link``; and the CPU of the lab's
process while it idles. Beside it the obvious alternative: the same lab writing as Textual does, whole
regions at a time."""

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
    endless_model,
    load_model,
    start_run,
)

SIZES = ((80, 24), (200, 50))
#: The lab, but whatever Textual wants to send is sent.
PLAIN = """
from tui_lab.ui.app import LabApp
if "_display" in vars(LabApp):
    del LabApp._display
from tui_lab.cli import main
main([])
"""
KINDS: dict[str, Sequence[str]] = {
    "": LAB,
    "slow link": (*LAB, "--slow-link"),
    "as Textual writes": (sys.executable, "-c", PLAIN),
}
#: At 80x24; what the project promises.
RUN_LIMIT_KIB_PER_S, LANES_LIMIT_KIB_PER_S, IDLE_LIMIT_KIB_PER_S = 12.0, 40.0, 0.2
IDLE_CPU_LIMIT_PERCENT = 1.0
SETTLE_S, IDLE_S, TRAIN_S, STREAM_S = 2.0, 5.0, 12.0, 8.0
NEW_TOKENS = 980
#: Less than this is no stream, and no run.
SIGN_OF_LIFE_BYTES_PER_S = 100

Labs = dict[tuple[tuple[int, int], str], Terminal]
Rates = dict[tuple[tuple[int, int], str], float]


def _name(size: tuple[int, int], kind: str) -> str:
    return f"{size[0]}x{size[1]}{f', {kind}' if kind else ''}"


def rates(labs: Labs, seconds: float) -> Rates:
    """Bytes a second that each writes, all at the same time."""
    counts = drain(list(labs.values()), seconds)
    return {key: count / seconds for key, count in zip(labs, counts, strict=True)}


def go(labs: Labs, pane: str, settle_s: float = SETTLE_S) -> None:
    for lab in labs.values():
        lab.press(PANE_KEYS[pane], 0.0)
    drain(list(labs.values()), settle_s)


def figures(what: str, found: Rates, limit: float) -> Iterator[Figure]:
    """The rates, what the others are of the lab's own, and the limit where there is one."""
    for (size, kind), rate in found.items():
        if limit > 1 and rate < SIGN_OF_LIFE_BYTES_PER_S:
            raise RuntimeError(f"{what}, {_name(size, kind)}: {rate:.0f} bytes a second: nothing happens")
        bound = limit if size == SIZES[0] and kind != "as Textual writes" else None
        yield Figure(f"{what}, {_name(size, kind)}", rate / 1024, "KiB/s", bound)
        if kind and limit > 1:
            yield Figure("  against the lab as it is", rate / found[size, ""], "times")


def idle(labs: Labs, panes: Sequence[str], words: str) -> Iterator[Figure]:
    for pane in panes:
        go(labs, pane)
        used = {key: lab.cpu_s() for key, lab in labs.items()}
        found = rates(labs, IDLE_S)
        yield from figures(f"idle, {pane}{words}", found, IDLE_LIMIT_KIB_PER_S)
        for key, lab in labs.items():
            percent = 100 * (lab.cpu_s() - used[key]) / IDLE_S
            yield Figure(f"  CPU, {_name(*key)}", percent, "% of a core", IDLE_CPU_LIMIT_PERCENT)


def streaming(lab: Terminal) -> float:
    """Bytes a second while six lanes stream, begun anew."""
    lab.press(b"r", 2.0)
    return lab.drain(STREAM_S) / STREAM_S


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        model = endless_model(Path(folder) / "endless")
        labs: Labs = {}
        try:
            for size in SIZES:
                for kind, command in KINDS.items():
                    if kind != "as Textual writes" or size == SIZES[0]:
                        labs[size, kind] = Terminal(folder, *size, command=command)
            for lab in labs.values():
                lab.until("starts the run")
            idlers = {key: lab for key, lab in labs.items() if key[1] != "as Textual writes"}
            yield from idle(idlers, ["choose", "tune", "keep", "runs"], "")

            # one after the other: they share the cores, and slower lanes would send less
            alone: Rates = {}
            for key, lab in labs.items():
                lab.press(PANE_KEYS["compare"], 0.0)
                lab.until("ready")
                load_model(lab, model, NEW_TOKENS)
                alone[key] = streaming(lab)
                lab.press(ESCAPE, 0.2)
                lab.press(b"x", 1.0)
            yield from idle(idlers, ["compare"], "")
            for lab in labs.values():
                lab.press(b"i", 0.2)  # the prompt's cursor blinks
            yield from idle(idlers, ["compare"], ", typing")
            for lab in labs.values():
                lab.press(ESCAPE, 0.2)
            yield from figures("six lanes stream", alone, LANES_LIMIT_KIB_PER_S)

            tuning = start_run(next(iter(labs.values())), steps=3000)
            try:
                go(labs, "tune")
                for lab in labs.values():
                    lab.until("tok/s")
                yield from figures("a run trains", rates(labs, TRAIN_S), RUN_LIMIT_KIB_PER_S)
                both: Rates = {}
                go(labs, "compare")
                for key, lab in labs.items():
                    both[key] = streaming(lab)
                    lab.press(ESCAPE, 0.2)
                    lab.press(b"x", 1.0)
                yield from figures("six lanes and a run", both, LANES_LIMIT_KIB_PER_S)
                if tuning.poll() is not None:
                    raise RuntimeError(f"the run ended with {tuning.returncode} while it was looked at")
            finally:
                end_runs(folder, tuning)
            yield from idle(idlers, ["tune"], " with a run that ended")
        finally:
            for lab in labs.values():
                lab.close()
