"""Python and libraries that are old, missing or broken, in children that crash or hang."""

from pathlib import Path

import pytest

from tests.doctor.test_machine import H200, NEW, OLD, T4
from tui_lab.doctor import check, packages
from tui_lab.doctor.packages import BitsandbytesAnswer, TorchAnswer


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
    assert odd.state == "warn" and "torch 2.0 (supported: <2,>=1.9)" in odd.found
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
    cpu = TorchAnswer("2.13.0+cpu", threads=2)
    cuda = TorchAnswer("2.13.0", cuda_build="13.0", threads=2)
    assert packages.judge_torch(cpu, [], None).state == "ok"
    assert "2 threads" in packages.judge_torch(cpu, [], None).found
    unused = packages.judge_torch(cpu, [H200], NEW)
    assert unused.state == "warn" and "CUDA build" in unused.advice
    old_driver = packages.judge_torch(cuda, [T4], OLD)
    assert old_driver.state == "warn" and "up to 12.4" in old_driver.advice and "13.0" in old_driver.advice
    hidden = packages.judge_torch(cuda, [H200], NEW)
    assert hidden.state == "warn" and "CUDA_VISIBLE_DEVICES" in hidden.advice
    works = packages.judge_torch(TorchAnswer("2.13.0", "13.0", True, ["H200"], True), [H200], NEW)
    assert works.state == "ok" and "uses H200 (bf16)" in works.found


def test_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages.judge_bitsandbytes(BitsandbytesAnswer("0.50", True, True)).state == "ok"
    wrong = packages.judge_bitsandbytes(BitsandbytesAnswer("0.50", True, False))
    assert wrong.state == "warn" and "wrong values on cuda" in wrong.found
    monkeypatch.setattr(packages, "_BNB_CHILD", "import no_such_module")
    gone = packages.check_bitsandbytes()
    assert "No module named" in gone.found and gone.state == "warn" and "quantization = 'none'" in gone.advice


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ImportError('libfoo.so: \\x1b[31mnot found')", "not found"),
        ("import os; os.abort()", "crashed (signal 6)"),
        ("import os; os._exit(0)", "without output"),
        ("print('hello')", None),
    ],
)
def test_a_broken_torch_is_a_line_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str | None
) -> None:
    (tmp_path / "torch.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = packages.check_torch([], None)
    assert found.state == "fail" and found.found.isprintable() and found.advice
    assert words is None or words in found.found


def test_a_child_that_hangs() -> None:
    with pytest.raises(check.ChildFailed, match=r"no answer within 0\.5 s"):
        check.run_child("import time; time.sleep(60)", dict, 0.5)
