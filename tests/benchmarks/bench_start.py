"""From the command to the first frame, through a real pseudo-terminal: the time until the lab's name is on
the screen, beside the obvious alternative (a bare Textual app with a header, a list and a footer), the
import alone, and the time until the pane is filled and can start a run."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from statistics import median

from tests.benchmarks.figures import Figure
from tests.benchmarks.terminal import LAB, Terminal

TIMES = 5
FIRST_FRAME_LIMIT_S = 0.35
BARE = """
from textual.app import App
from textual.widgets import Footer, Header, OptionList
class Bare(App):
    TITLE = "tui-lab"
    BINDINGS = [("q", "quit", "Quit")]
    def compose(self):
        yield Header()
        yield OptionList("one", "two")
        yield Footer()
Bare().run()
"""


def seconds_until(command: Sequence[str], marks: Sequence[str]) -> list[tuple[float, float]]:
    """Starts ``command`` on a terminal of its own; for each of ``marks`` the seconds until it was on the
    screen, and the CPU seconds used until then, which a busy machine spoils less. Marks come in order."""
    with tempfile.TemporaryDirectory() as folder:
        terminal = Terminal(folder, command=command)
        found = []
        try:
            for mark in marks:
                terminal.until(mark, 60.0)
                found.append((time.perf_counter() - terminal.began, terminal.cpu_s()))
        finally:
            terminal.close()
    return found


def import_seconds(module: str) -> float:
    """The import alone, by the interpreter's own clock."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def command_cpu_seconds(*arguments: str) -> float:
    """CPU seconds of a command from its start to its end, the best of several."""
    taken = []
    for _ in range(TIMES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(taken)


def run() -> Iterator[Figure]:
    bare = [sys.executable, "-c", BARE]
    marks = ["2 Setup", "starts the run"]
    seconds_until(LAB, marks)  # compiles byte code, fills the disk cache
    seconds_until(bare, ["tui-lab"])
    ours, theirs = [], []
    for _ in range(TIMES):  # in turn, so that a busy spell hits both
        ours.append(seconds_until(LAB, marks))
        theirs.append(seconds_until(bare, ["tui-lab"])[0])
    first, first_cpu = (median(taken[0][i] for taken in ours) for i in (0, 1))
    ready, ready_cpu = (median(taken[1][i] for taken in ours) for i in (0, 1))
    bare_first, bare_cpu = (median(taken[i] for taken in theirs) for i in (0, 1))
    yield Figure("python -m tui_lab: first frame", first, "s", FIRST_FRAME_LIMIT_S)
    yield Figure("  of that CPU", first_cpu, "s")
    yield Figure("a bare Textual app: first frame", bare_first, "s")
    yield Figure("  of that CPU", bare_cpu, "s")
    yield Figure("the lab's first frame against the bare app's", first / bare_first, "times")
    yield Figure("python -m tui_lab: ready to start a run", ready, "s")
    yield Figure("  of that CPU", ready_cpu, "s")
    yield Figure("import tui_lab.ui.app", median(import_seconds("tui_lab.ui.app") for _ in range(TIMES)), "s")
    yield Figure("import textual.app", median(import_seconds("textual.app") for _ in range(TIMES)), "s")
    yield Figure("tui-lab --version: CPU", command_cpu_seconds("-m", "tui_lab", "--version"), "s")
    yield Figure("a bare interpreter: CPU", command_cpu_seconds("-c", "pass"), "s")
