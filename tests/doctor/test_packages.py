"""Python and libraries that are old, missing or broken, in children that crash or hang."""

from pathlib import Path

import pytest

from tests.doctor.test_machine import H200, NEW, OLD, T4
from tui_lab.doctor import check, packages


def test_python() -> None:
    assert packages.check_python((3, 11, 0)).state == "ok"
    old = packages.check_python((3, 10, 9))
    assert old.state == "fail" and "3.10.9" in old.found and "3.11" in old.advice


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = dict.fromkeys((*packages.NEEDED, *packages.WANTED), "2.0")
    monkeypatch.setattr(packages, "_version", lambda name: versions.get(name))
    monkeypatch.setattr(packages, "_bounds", lambda: {"torch": "<3,>=2.0"})
    assert packages.check_packages().state == "ok"
    monkeypatch.setattr(packages, "_bounds", lambda: {"torch": "<2,>=1.9"})
    odd = packages.check_packages()
    assert odd.state == "warn" and "torch 2.0 (made for <2,>=1.9)" in odd.found
    del versions["bitsandbytes"]
    assert "bitsandbytes missing" in packages.check_packages().found
    assert packages.check_packages().state == "warn"
    del versions["peft"]
    gone = packages.check_packages()
    assert gone.state == "fail" and gone.found.startswith("peft missing") and gone.advice


def test_bounds_are_read_from_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch<3,>=2.9", "textual==8.2.8", 'pytest>=8; extra == "dev"', 'foo>=1; python_version > "3"']
    monkeypatch.setattr(packages.metadata, "requires", lambda name: lines)
    assert packages._bounds() == {"torch": "<3,>=2.9", "textual": "==8.2.8", "foo": ">=1"}


def test_torch_against_the_driver() -> None:
    cpu = {"version": "2.13.0+cpu", "cuda_build": None, "cuda": False, "devices": [], "threads": 2}
    cuda = cpu | {"version": "2.13.0", "cuda_build": "13.0"}
    assert packages.check_torch(cpu, [], None).state == "ok"
    assert "2 threads" in packages.check_torch(cpu, [], None).found
    unused = packages.check_torch(cpu, [H200], NEW)
    assert unused.state == "warn" and "CUDA build" in unused.advice
    old_driver = packages.check_torch(cuda, [T4], OLD)
    assert old_driver.state == "warn" and "up to 12.4" in old_driver.advice and "13.0" in old_driver.advice
    hidden = packages.check_torch(cuda, [H200], NEW)
    assert hidden.state == "warn" and "CUDA_VISIBLE_DEVICES" in hidden.advice
    works = packages.check_torch(cuda | {"cuda": True, "devices": ["H200"], "bf16": True}, [H200], NEW)
    assert works.state == "ok" and "uses H200 (bf16)" in works.found
    broken = packages.check_torch({"error": "ImportError: libcudart"}, [], None)
    assert broken.state == "fail" and "libcudart" in broken.found and broken.advice


def test_bitsandbytes() -> None:
    assert packages.check_bitsandbytes({"version": "0.50", "cpu": True, "cuda": True}).state == "ok"
    wrong = packages.check_bitsandbytes({"version": "0.50", "cpu": True, "cuda": False})
    assert wrong.state == "warn" and "wrong on cuda" in wrong.found
    gone = packages.check_bitsandbytes({"error": "No module named 'bitsandbytes'"})
    assert gone.state == "warn" and "quantization = 'none'" in gone.advice


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ImportError('libfoo.so: \\x1b[31mnot found')", "not found"),
        ("import os; os.abort()", "crashed (signal 6)"),
        ("import os; os._exit(0)", "without a word"),
        ("print('hello')", None),
    ],
)
def test_a_broken_torch_is_a_line_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str | None
) -> None:
    (tmp_path / "torch.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer = packages.ask_torch()
    assert answer["error"].isprintable()
    assert words is None or words in answer["error"]
    assert packages.check_torch(answer, [], None).state == "fail"


def test_a_child_that_hangs() -> None:
    assert check.child("import time; time.sleep(60)", 0.5) == {"error": "no answer within 0.5 s"}
