"""Python and libraries that are old, missing or broken, in children that crash or hang."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.doctor.test_machine import H200, NEW, OLD, T4, V100
from tui_lab.doctor import check, packages
from tui_lab.doctor.packages import BitsandbytesAnswer, TorchAnswer
from tui_lab.hardware.cuda_support import Machine
from tui_lab.hardware.gpu import Gpu
from tui_lab.hardware.gpu_trial import GpuTrial


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


ARCHITECTURES = ("sm_75", "sm_80", "sm_90")


def test_torch_against_the_driver() -> None:
    cpu = TorchAnswer("2.13.0+cpu", threads=2)
    cuda = TorchAnswer("2.13.0", cuda_build="13.0", reason="no device", threads=2)
    none = packages.judge_torch(cpu, Machine(), {})
    assert none.state == "ok" and "2 threads" in none.found
    unused = packages.judge_torch(cpu, Machine([H200], NEW), {})
    assert unused.state == "fail" and "without CUDA" in unused.found and "--cpu" in unused.advice
    old_driver = packages.judge_torch(cuda, Machine([T4], OLD), {})
    assert old_driver.state == "fail" and "up to 12.4" in old_driver.found and "13.0" in old_driver.found
    assert "580 or later" in old_driver.advice and "make setup TORCH_INDEX=cu126" in old_driver.advice
    unseen = packages.judge_torch(cuda, Machine([H200], NEW), {})
    assert unseen.state == "fail" and "(no device)" in unseen.found and "/dev/nvidia" in unseen.advice
    hidden = packages.judge_torch(cuda, Machine([H200], NEW), {"CUDA_VISIBLE_DEVICES": ""})
    assert hidden.state == "ok"
    wrong = packages.judge_torch(cuda, Machine([H200], NEW), {"CUDA_VISIBLE_DEVICES": "3"})
    assert wrong.state == "fail" and "'3' names no GPU" in wrong.found


@pytest.mark.parametrize(
    ("card", "capability", "state", "said"),
    [(H200, (9, 0), "ok", "(bf16)"), (T4, (7, 5), "ok", "(no bf16)"), (V100, (7, 0), "fail", "no kernels")],
)
def test_torch_on_a_card(card: Gpu, capability: tuple[int, int], state: str, said: str) -> None:
    answer = TorchAnswer("2.13.0", "13.0", True, ["a card"], [capability], ARCHITECTURES)
    found = packages.judge_torch(answer, Machine([card], NEW), {})
    assert found.state == state and said in found.found


def test_what_a_run_needs_is_tried() -> None:
    good = GpuTrial("", "", "", "bfloat16", 130 << 30, 140 << 30)
    found = packages.judge_gpu_trial(good)
    assert found.state == "ok" and not found.advice
    assert found.found == "a Triton kernel and an NF4 layer and bfloat16 work; 130 GiB of 140 GiB free"
    bare = packages.judge_gpu_trial(replace(good, triton="RuntimeError: Failed to find C compiler"))
    assert bare.state == "warn" and "C compiler" in bare.found and "python3-dev" in bare.advice
    broken = packages.judge_gpu_trial(replace(good, nf4="no kernel image", arithmetic="wrong"))
    assert broken.state == "fail" and "no kernel image" in broken.found and "--cpu" in broken.advice
    full = packages.judge_gpu_trial(replace(good, free_bytes=1 << 30))
    assert full.state == "warn" and "nvidia-smi" in full.advice


def test_a_gpu_on_which_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages.check_gpu_trial([]) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(packages, "_TRIAL_CHILD", "raise RuntimeError('CUDA error: out of memory')")
    found = packages.check_gpu_trial([H200])
    assert found is not None and found.state == "fail" and "out of memory" in found.found


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
    found = packages.check_torch(Machine())
    assert found.state == "fail" and found.found.isprintable() and found.advice
    assert words is None or words in found.found


def test_a_child_that_hangs() -> None:
    with pytest.raises(check.ChildFailed, match=r"no answer within 0\.5 s"):
        check.run_child("import time; time.sleep(60)", dict, 0.5)
