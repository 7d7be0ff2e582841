"""The sandbox: what a program may do passes, and everything else is refused by the kernel, or by the audit
hook where the kernel is left out. Each case is a real child process: the process is the subject."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tui_lab.core import sandbox
from tui_lab.core.errors import LabError
from tui_lab.core.sandbox import Guard

KERNEL = pytest.param("kernel", marks=pytest.mark.skipif(sys.platform != "linux", reason="of Linux"))
GUARDS = pytest.mark.parametrize("guard", [KERNEL, "hook"])


@pytest.fixture(scope="module", autouse=True)
def _fresh() -> Iterator[None]:
    sandbox.guard.cache_clear()
    yield
    sandbox.guard.cache_clear()


@GUARDS
def test_a_program_that_keeps_to_its_folder_passes(guard: Guard) -> None:
    program = """
import asyncio, math, threading, tempfile
async def three(): return 3
assert asyncio.run(three()) == 3
found = []
thread = threading.Thread(target=found.append, args=(1,)); thread.start(); thread.join()
with open('note.txt', 'w') as file: file.write('x')
with tempfile.TemporaryFile() as file: file.write(b'x')
assert open('note.txt').read() == 'x' and found == [1] and math.sqrt(4) == 2
if __name__ == '__main__': raise SystemExit
print('nothing of this is seen')
"""
    assert sandbox.run(program, guard) == sandbox.ProgramOutcome(True, guard=guard)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert 1 + 1 == 3, 'two'", "AssertionError: two"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("import os; os._exit(0)", "ended before its tests"),
        ("print('passed'); import os; os.write(1, b'kernel passed'); os._exit(0)", "ended before its tests"),
        (
            "import os\nfor fd in range(20):\n  try: os.write(fd, b'x passed')\n  except OSError: pass\n1/0",
            "",
        ),
        ("input()", "EOFError"),
        ("raise RuntimeError('\\x1b[31m' + 'x' * 99999)", "RuntimeError"),
    ],
)
def test_a_program_that_fails_says_why(program: str, reason: str) -> None:
    found = sandbox.run(program)
    assert not found.passed and reason in found.reason
    assert len(found.reason) < 500 and "\x1b" not in found.reason


@GUARDS
@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess; subprocess.run(['true'])",
        "import os\nif os.system('true'): raise PermissionError",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
        "import os; os.kill(os.getppid(), 0)",
        "open({outside!r}, 'w')",
        "open({inside!r}, 'a')",
        "import os; os.remove({inside!r})",
        "import os; os.rename({inside!r}, 'mine')",
        "import os; os.chmod({inside!r}, 0)",
        "import os; os.truncate({inside!r}, 0)",
        "import os; os.symlink({folder!r}, 'link'); open('link/new', 'w')",
        "import shutil; shutil.rmtree({folder!r})",
    ],
)
def test_network_processes_and_files_outside_are_refused(guard: Guard, program: str, tmp_path: Path) -> None:
    inside, outside = tmp_path / "there", tmp_path / "new"
    inside.write_text("mine")
    found = sandbox.run(program.format(inside=str(inside), outside=str(outside), folder=str(tmp_path)), guard)
    assert not found.passed and found.guard == guard
    assert any(word in found.reason for word in ("PermissionError", "not permitted", "refused")), found.reason
    assert inside.read_text() == "mine" and inside.stat().st_mode & 0o600 and not outside.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_the_kernel_refuses_what_goes_around_python_and_reading(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    for program in (
        "import ctypes; libc = ctypes.CDLL(None); assert libc.fork() == -1 and libc.socket(2, 1, 0) == -1",
        f"import ctypes; assert ctypes.CDLL(None).open({str(secret).encode()!r}, 0) == -1",
    ):
        assert sandbox.run(program).passed
    assert "Permission" in sandbox.run(f"open({str(secret)!r})").reason
    assert "Permission" in sandbox.run("open('/proc/self/environ')").reason


def test_memory_time_and_files_are_limited() -> None:
    assert "took longer than" in sandbox.run("import time; time.sleep(60)", wall_s=0.5).reason
    assert "processor time" in sandbox.run("while True: pass", cpu_s=1).reason
    assert "File too large" in sandbox.run("open('big', 'wb').write(bytes(1 << 25))").reason
    if sys.platform == "linux":
        assert "MemoryError" in sandbox.run("bytearray(1 << 31)").reason


def test_programs_run_at_the_same_time_and_leave_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = sandbox.run_all(["open('x', 'w')", "1 / 0", "pass"])
    assert [outcome.passed for outcome in found] == [True, False, True]
    assert not list(tmp_path.iterdir()) and threading.active_count() < 10


def test_a_machine_that_cannot_run_programs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(LabError, match="answers cannot be run"):
        sandbox.guard()
    monkeypatch.undo()
    monkeypatch.setattr(sandbox, "MEMORY_BYTES", 1 << 20)  # not even Python fits
    if sys.platform == "linux":
        with pytest.raises(LabError, match="answers cannot be run on this machine"):
            sandbox.guard()
