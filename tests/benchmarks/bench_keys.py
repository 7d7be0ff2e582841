"""From a key to its character on the screen, through a real pseudo-terminal at 200x60: in the prompt of
Playground while nothing runs, while six lanes stream, and while a run trains too. Everything shares
this machine's cores; on a GPU machine lanes and run leave the cores to the lab."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from tests.benchmarks.figures import Figure
from tests.benchmarks.terminal import PANE_KEYS, Terminal, end_runs, endless_model, load_model, start_run

COLUMNS, ROWS = 200, 60
PAINT_LIMIT_S = 0.05
#: Letters that no answer of the bundled model holds, so that only the key's echo can have written them.
LETTERS = "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩЖЗИЙЛПФЦЧШЩЪ"
#: Seconds between two keys: a quick typist.
BETWEEN_S = 0.12
NEW_TOKENS = 980
#: Less than this is no stream.
STREAM_BYTES_PER_S = 50


@dataclass(frozen=True)
class Typed:
    """What typing all letters showed."""

    taken_s: list[float]
    written_bytes_per_s: float  # beside the letters themselves: proof that something streams


class Lab(Terminal):
    """The lab on a terminal, with somebody typing."""

    def typing(self) -> Typed:
        """Seconds from each key to its letter on the screen."""
        taken, written, began = [], 0, time.perf_counter()
        for letter in LETTERS:
            os.write(self.master, letter.encode())
            taken.append(self.until_written(letter))
            written += self.drain(BETWEEN_S)
        return Typed(taken, written / (time.perf_counter() - began))


def _figures(name: str, typed: Typed) -> Iterator[Figure]:
    yield Figure(f"key to paint, {name}: median", median(typed.taken_s), "s", PAINT_LIMIT_S)
    yield Figure("  19 of 20 within", quantiles(typed.taken_s, n=20)[-1], "s")
    yield Figure(f"  slowest of {len(typed.taken_s)}", max(typed.taken_s), "s")
    yield Figure("  written besides", typed.written_bytes_per_s / 1024, "KiB/s")


def _streaming(lab: Lab) -> Typed:
    """Starts all lanes, goes back to the prompt and types while they stream."""
    lab.press(b"\x1b", 0.5)  # to the lanes
    lab.press(b"s", 0.5)
    lab.press(b"i", 0.5)
    typed = lab.typing()
    if typed.written_bytes_per_s < STREAM_BYTES_PER_S:
        raise RuntimeError(f"nothing streamed: {typed.written_bytes_per_s:.0f} bytes a second were written")
    return typed


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(folder, COLUMNS, ROWS)
        try:
            lab.until("starts the run")
            lab.press(PANE_KEYS["playground"], 0.0)
            lab.until("ready")
            lab.drain(1.0)
            load_model(lab, endless_model(Path(folder) / "endless"), NEW_TOKENS)
            lab.press(b"i", 1.0)
            still = lab.typing()
            yield from _figures("nothing runs", still)
            six = _streaming(lab)
            yield from _figures("six lanes stream", six)
            yield Figure("  against nothing running", median(six.taken_s) / median(still.taken_s), "times")
            lab.press(b"\x1b", 0.5)
            lab.press(b"x", 2.0)
            training = start_run(lab, steps=3000)
            try:
                lab.drain(20.0)  # until it takes steps
                both = _streaming(lab)
                if training.poll() is not None:
                    raise RuntimeError(
                        f"the run ended with {training.returncode} before the keys were pressed"
                    )
            finally:
                end_runs(folder, training)
            yield from _figures("six lanes and a run", both)
            yield Figure("  against nothing running", median(both.taken_s) / median(still.taken_s), "times")
        finally:
            lab.close()
