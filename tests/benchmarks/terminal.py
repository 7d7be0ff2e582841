"""A program on a pseudo-terminal of its own, as a person's terminal would have it: what it writes is read and
counted, keys are pressed, and the CPU that its process uses is told. The benchmarks of the lab share it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.screen import Screen
from tui_lab.pocket import MODEL_DIR

#: The lab as people start it.
LAB = (sys.executable, "-m", "tui_lab")
STEADY_PLAYGROUND = Path(__file__).parent / "steady_playground"
ESCAPE, ENTER = b"\x1b", b"\r"
#: What F2 to F6 send.
PANE_KEYS = {
    "setup": b"\x1bOQ",
    "train": b"\x1bOR",
    "playground": b"\x1bOS",
    "retention": b"\x1b[15~",
    "runs": b"\x1b[17~",
}


def environment(folder: str | Path, steady_playground: bool = False) -> dict[str, str]:
    """A terminal of 16 million colours, and a lab whose runs, settings and data lie below ``folder``.
    ``steady_playground``: the lanes of Playground stream words at one rate, without a model."""
    own = ("RUNS", "CONFIG", "DATA")
    # an installed lab has its byte code; a session that writes none would compile it at every start
    left_out = ("TUI_LAB_", "PYTHONDONTWRITEBYTECODE")
    path = [str(STEADY_PLAYGROUND)] if steady_playground else []
    path += filter(None, [os.environ.get("PYTHONPATH")])
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(left_out)},
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        **{f"TUI_LAB_{name}_DIR": f"{folder}/{name.lower()}" for name in own},
        "PYTHONPATH": os.pathsep.join(path),
    }


class Terminal:
    """``command`` on a terminal of ``columns`` by ``rows``."""

    def __init__(
        self,
        folder: str | Path,
        columns: int = 80,
        rows: int = 24,
        command: Sequence[str] = LAB,
        steady_playground: bool = False,
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.environment = environment(folder, steady_playground)
        self.written_bytes = 0
        self._screen = Screen(columns, rows)
        self._undrawn: list[bytes] = []  # drawn when somebody looks: counting must not cost CPU
        how: dict[str, Any] = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
        self.began = time.perf_counter()
        self.process = subprocess.Popen(list(command), env=self.environment, **how)
        os.close(slave)

    def read(self, seconds: float) -> bytes:
        """What is written next; b"" when nothing is within this time."""
        if not select.select([self.master], [], [], max(0.0, seconds))[0]:
            return b""
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:  # nobody has the terminal open any more
            raise RuntimeError(f"the program ended with {self.process.wait()}:\n{self.screen.text}") from None
        self.written_bytes += len(data)
        self._undrawn.append(data)
        return data

    def until(self, mark: str, seconds: float = 90.0) -> float:
        """Reads until ``mark`` stands on the screen; the seconds that took."""
        began = time.perf_counter()
        while mark not in (text := self.screen.text):
            if time.perf_counter() - began > seconds:
                raise TimeoutError(f"{mark!r} was never written; the screen:\n{text}")
            self.read(0.05)
        return time.perf_counter() - began

    def until_written(self, letter: str, seconds: float = 90.0) -> float:
        """Reads until ``letter`` is written, which may stand on the screen already; the seconds that took."""
        began, seen = time.perf_counter(), b""
        while letter.encode() not in seen:
            if time.perf_counter() - began > seconds:
                raise TimeoutError(f"{letter!r} was never written; the screen:\n{self.screen.text}")
            seen = seen[-8:] + self.read(0.05)
        return time.perf_counter() - began

    @property
    def screen(self) -> Screen:
        """What a person would see now. What was only counted is drawn first."""
        for data in self._undrawn:
            self._screen.feed(data)
        self._undrawn.clear()
        return self._screen

    def press(self, keys: bytes, then_s: float = 0.3) -> None:
        os.write(self.master, keys)
        self.drain(then_s)

    def drain(self, seconds: float) -> int:
        """Reads what is written in this time; how many bytes that was."""
        return drain([self], seconds)[0]

    def cpu_s(self) -> float:
        """CPU seconds that the process has used, without its children. Linux tells nanoseconds."""
        try:
            tasks = list(Path(f"/proc/{self.process.pid}/task").iterdir())
            return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
        except (OSError, ValueError, IndexError):
            used = psutil.Process(self.process.pid).cpu_times()
            return used.user + used.system

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def drain(terminals: Sequence[Terminal], seconds: float) -> list[int]:
    """Reads what all of them write in this time; how many bytes each wrote."""
    before = [each.written_bytes for each in terminals]
    by_file = {each.master: each for each in terminals}
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        for file in select.select(list(by_file), [], [], left)[0]:
            by_file[file].read(0.0)
    return [each.written_bytes - was for each, was in zip(terminals, before, strict=True)]


def endless_model(folder: Path) -> Path:
    """The bundled model's shape with random weights: it hardly ever ends by itself."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(MODEL_DIR)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)
    return folder


def set_tokens(lab: Terminal, new_tokens: int) -> None:
    """How many new tokens a lane may have."""
    lab.press(ESCAPE, 0.5)
    lab.press(b"\x10", 0.5)  # by the palette
    lab.press(b"Length: set", 1.5)
    lab.press(ENTER, 0.0)
    lab.until("At most this many new tokens")
    lab.press(b"\x15", 0.5)  # away with what stands there
    lab.press(b"%d" % new_tokens, 0.5)
    lab.press(ENTER, 0.5)
    lab.press(ESCAPE, 0.5)  # closes the form
    lab.until(f"up to {new_tokens} tokens")


def load_model(lab: Terminal, model: Path, new_tokens: int) -> None:
    """Playground with ``model`` and ``new_tokens`` a lane; the lanes have the focus, as after Escape."""
    lab.press(ESCAPE, 0.5)
    lab.press(b"m", 0.0)
    lab.until("Precision")
    lab.press(b"\x1b[F", 0.5)  # the last line of the list: type a name
    lab.press(ENTER, 0.0)
    lab.until("a local folder or a hub id")
    lab.press(str(model).encode(), 0.5)
    lab.press(ENTER, 2.0)  # the dialogs close
    lab.until(f"{model.name} \u00b7")
    set_tokens(lab, new_tokens)


def start_run(lab: Terminal, steps: int = 0) -> subprocess.Popen[bytes]:
    """A real run of the bundled model among the runs that ``lab`` shows; of no ``steps`` one that takes four
    a second and trains nothing."""
    train = [*LAB, "train", "--model", "pocket", "--preset", "minute"]
    train += ["--data", "pirate", "--set", f"max_steps={steps}"]
    if not steps:
        train = [sys.executable, "-m", "tests.benchmarks.steady_run"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(train, env=lab.environment, **quiet)
    runs, began = Path(lab.environment["TUI_LAB_RUNS_DIR"]), time.perf_counter()
    while not list(runs.glob("*/events.jsonl")):
        if process.poll() is not None or time.perf_counter() - began > 60:
            raise RuntimeError("the run did not start")
        time.sleep(0.2)
    return process


def end_runs(folder: str, started: subprocess.Popen[bytes]) -> None:
    """Ends the run that was ``started``, which is a process of its own and outlives whoever started it."""
    started.kill()
    started.wait()
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or ()):
            process.kill()
