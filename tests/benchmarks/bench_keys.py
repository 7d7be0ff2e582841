"""From a key to its character on the screen, through a real pseudo-terminal at 200x60: in the prompt of
Compare while nothing runs, while six lanes stream, and while a tuning runs beside them. Everything shares
this machine's cores; on a GPU machine lanes and run leave the cores to the lab."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from tests.benchmarks.figures import Figure
from tui_lab.pocket import MODEL_DIR

PAINT_LIMIT_S = 0.05
#: Letters that no answer of the bundled model holds, so that only the key's echo can have written them.
LETTERS = "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩЖЗИЙЛПФЦЧШЩЪ"
#: Seconds between two keys: a quick typist.
BETWEEN_S = 0.12
NEW_TOKENS = 980
#: Less than this is no stream.
STREAM_BYTES_PER_S = 2_000


@dataclass(frozen=True)
class Typed:
    """What typing all letters showed."""

    taken_s: list[float]
    written_bytes_per_s: float  # beside the letters themselves: proof that something streams


class Lab:
    """The lab on a terminal of its own."""

    def __init__(self, folder: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
        self.environment = {
            **os.environ,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "TUI_LAB_RUNS_DIR": f"{folder}/runs",
            "TUI_LAB_CONFIG_DIR": f"{folder}/config",
            "TUI_LAB_DATA_DIR": f"{folder}/data",
        }
        how: dict[str, Any] = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
        self.process = subprocess.Popen([sys.executable, "-m", "tui_lab"], env=self.environment, **how)
        os.close(slave)

    def until(self, mark: bytes, seconds: float = 90.0) -> float:
        """Reads until ``mark`` is written; the seconds that took."""
        began, seen = time.perf_counter(), b""
        while mark not in seen:
            if time.perf_counter() - began > seconds:
                raise TimeoutError(f"{mark!r} was never written; last: {seen[-200:]!r}")
            if select.select([self.master], [], [], 0.05)[0]:
                seen = seen[-64:] + os.read(self.master, 1 << 16)
        return time.perf_counter() - began

    def press(self, keys: bytes, then_s: float = 0.3) -> None:
        os.write(self.master, keys)
        self.drain(then_s)

    def drain(self, seconds: float) -> int:
        """Reads what is written in this time; how much that was."""
        end, count = time.perf_counter() + seconds, 0
        while (left := end - time.perf_counter()) > 0:
            if select.select([self.master], [], [], left)[0]:
                count += len(os.read(self.master, 1 << 16))
        return count

    def typing(self) -> Typed:
        """Seconds from each key to its letter on the screen."""
        taken, written, began = [], 0, time.perf_counter()
        for letter in LETTERS:
            os.write(self.master, letter.encode())
            taken.append(self.until(letter.encode()))
            written += self.drain(BETWEEN_S)
        return Typed(taken, written / (time.perf_counter() - began))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def endless_model(folder: Path) -> None:
    """The bundled model's shape with random weights: it hardly ever ends by itself."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(MODEL_DIR)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)


def _figures(name: str, typed: Typed) -> Iterator[Figure]:
    yield Figure(f"key to paint, {name}: median", median(typed.taken_s), "s", PAINT_LIMIT_S)
    yield Figure("  19 of 20 within", quantiles(typed.taken_s, n=20)[-1], "s")
    yield Figure(f"  slowest of {len(typed.taken_s)}", max(typed.taken_s), "s")
    yield Figure("  written besides", typed.written_bytes_per_s / 1024, "KiB/s")


def _streaming(lab: Lab) -> Typed:
    """Starts all lanes, goes back to the prompt and types while they stream."""
    lab.press(b"\x1b", 0.5)  # to the lanes
    lab.press(b"r", 0.5)
    lab.press(b"i", 0.5)
    typed = lab.typing()
    if typed.written_bytes_per_s < STREAM_BYTES_PER_S:
        raise RuntimeError(f"nothing streamed: {typed.written_bytes_per_s:.0f} bytes a second were written")
    return typed


def _end_runs(folder: str) -> None:
    """A run is a process of its own and outlives whoever started it."""
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or ()):
            process.kill()


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(folder)
        try:
            lab.until(b"starts the run")
            lab.press(b"\x1bOS", 0.0)  # F4
            lab.until(b"ready")
            lab.drain(1.0)
            endless_model(Path(folder) / "endless")
            lab.press(b"\x1b", 0.5)
            lab.press(b"m", 2.0)
            lab.press(b"\x1b[F\r", 0.5)  # the last line of the list: type a name
            lab.press(f"{folder}/endless\r".encode(), 0.0)
            lab.until(b"endless \xc2\xb7")
            lab.press(b"i", 1.0)
            still = lab.typing()
            yield from _figures("nothing runs", still)
            lab.press(b"\x1b", 0.5)
            lab.press(b"n", 0.5)
            lab.press(b"\x15%d\r" % NEW_TOKENS, 0.5)
            six = _streaming(lab)
            yield from _figures("six lanes stream", six)
            yield Figure("  against nothing running", median(six.taken_s) / median(still.taken_s), "times")
            lab.press(b"\x1b", 0.5)
            lab.press(b"x", 2.0)
            train = [sys.executable, "-m", "tui_lab", "train", "--model", "pocket", "--preset", "minute"]
            train += ["--data", "pirate", "--set", "max_steps=3000"]
            quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            tuning = subprocess.Popen(train, env=lab.environment, **quiet)
            try:
                lab.drain(20.0)  # until it takes steps
                both = _streaming(lab)
                if tuning.poll() is not None:
                    raise RuntimeError(f"the run ended with {tuning.returncode} before the keys were pressed")
            finally:
                tuning.kill()
                tuning.wait()
                _end_runs(folder)
            yield from _figures("six lanes and a run", both)
            yield Figure("  against nothing running", median(both.taken_s) / median(still.taken_s), "times")
        finally:
            lab.close()
