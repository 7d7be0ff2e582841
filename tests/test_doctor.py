"""Each check on machines that it has never seen; the children on broken installations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tui_lab import catalog, doctor, gpu

T4 = gpu.Gpu(0, "Tesla T4", "GPU-1", 16 << 30, 1 << 30, 0, 40, 20.0, (7, 5))
H200 = gpu.Gpu(0, "NVIDIA H200", "GPU-2", 140 << 30, 0, 0, 30, 80.0, (9, 0))
NEW = gpu.Driver("580.1", (13, 0))
OLD = gpu.Driver("550.54", (12, 4))
UTF8 = {"TERM": "xterm-256color"}


def test_this_machine() -> None:
    found = doctor.checks()
    names = [check.name for check in found]
    assert names == [
        "Python", "packages", "CPU", "GPU", "torch", "bitsandbytes", "colours", "glyphs", "terminal size",
        "hub", "hub cache", "runs folder", "logout", "bundled model",
    ]  # fmt: skip
    by_name = {check.name: check for check in found}
    assert by_name["torch"].state != "fail" and by_name["torch"].found[:1].isdigit()
    assert "NF4 works on cpu" in by_name["bitsandbytes"].found
    assert all(check.advice for check in found if check.state != "ok")
    report = json.loads(doctor.to_json(found))
    assert [row["name"] for row in report["checks"]] == names
    assert report["exit_code"] == doctor.exit_code(found) == 0
    text = doctor.render(found)
    assert all(check.found in text and check.name in text for check in found)


def test_torch_is_not_imported_here() -> None:
    code = (
        "import sys; from tui_lab import doctor; doctor.checks()\n"
        "print(sorted({'torch','transformers','bitsandbytes','huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_python() -> None:
    assert doctor.check_python((3, 11, 0)).state == "ok"
    old = doctor.check_python((3, 10, 9))
    assert old.state == "fail" and "3.10.9" in old.found and "3.11" in old.advice


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = dict.fromkeys((*doctor.NEEDED, *doctor.WANTED), "2.0")
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name))
    monkeypatch.setattr(doctor, "_bounds", lambda: {"torch": "<3,>=2.0"})
    assert doctor.check_packages().state == "ok"
    monkeypatch.setattr(doctor, "_bounds", lambda: {"torch": "<2,>=1.9"})
    odd = doctor.check_packages()
    assert odd.state == "warn" and "torch 2.0 (made for <2,>=1.9)" in odd.found
    del versions["bitsandbytes"]
    assert "bitsandbytes missing" in doctor.check_packages().found
    assert doctor.check_packages().state == "warn"
    del versions["peft"]
    gone = doctor.check_packages()
    assert gone.state == "fail" and gone.found.startswith("peft missing") and gone.advice


def test_bounds_are_read_from_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch<3,>=2.9", "textual==8.2.8", 'pytest>=8; extra == "dev"', 'foo>=1; python_version > "3"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: lines)
    assert doctor._bounds() == {"torch": "<3,>=2.9", "textual": "==8.2.8", "foo": ">=1"}


def test_gpu() -> None:
    none = doctor.check_gpu([], None)
    assert none.state == "warn" and "CPU" in none.advice
    good = doctor.check_gpu([H200], NEW)
    assert good.state == "ok" and "compute capability 9.0, bf16" in good.found and "580.1" in good.found
    older = doctor.check_gpu([T4], OLD)
    assert "17.2 GB" in older.found and "no bf16" in older.found and "8.0" in older.advice
    bare = doctor.check_gpu([gpu.Gpu(0, "MIG", None, None, None, None, None, None, None)], None)
    assert bare.state == "ok" and "unknown" in bare.found


def test_torch_against_the_driver() -> None:
    cpu = {"version": "2.13.0+cpu", "cuda_build": None, "cuda": False, "devices": [], "threads": 2}
    cuda = cpu | {"version": "2.13.0", "cuda_build": "13.0"}
    assert doctor.check_torch(cpu, [], None).state == "ok"
    assert "2 threads" in doctor.check_torch(cpu, [], None).found
    unused = doctor.check_torch(cpu, [H200], NEW)
    assert unused.state == "warn" and "CUDA build" in unused.advice
    old_driver = doctor.check_torch(cuda, [T4], OLD)
    assert old_driver.state == "warn" and "up to 12.4" in old_driver.advice and "13.0" in old_driver.advice
    hidden = doctor.check_torch(cuda, [H200], NEW)
    assert hidden.state == "warn" and "CUDA_VISIBLE_DEVICES" in hidden.advice
    works = doctor.check_torch(cuda | {"cuda": True, "devices": ["H200"], "bf16": True}, [H200], NEW)
    assert works.state == "ok" and "uses H200 (bf16)" in works.found
    broken = doctor.check_torch({"error": "ImportError: libcudart"}, [], None)
    assert broken.state == "fail" and "libcudart" in broken.found and broken.advice


def test_bitsandbytes() -> None:
    assert doctor.check_bitsandbytes({"version": "0.50", "cpu": True, "cuda": True}).state == "ok"
    wrong = doctor.check_bitsandbytes({"version": "0.50", "cpu": True, "cuda": False})
    assert wrong.state == "warn" and "wrong on cuda" in wrong.found
    gone = doctor.check_bitsandbytes({"error": "No module named 'bitsandbytes'"})
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
    answer = doctor.ask_torch()
    assert answer["error"].isprintable()
    assert words is None or words in answer["error"]
    assert doctor.check_torch(answer, [], None).state == "fail"


def test_a_child_that_hangs() -> None:
    assert doctor._child("import time; time.sleep(60)", 0.5) == {"error": "no answer within 0.5 s"}


@pytest.mark.parametrize(
    ("environment", "state", "words"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "ok", "16.7 million"),
        ({"TERM": "xterm-direct"}, "ok", "16.7 million"),
        ({"TERM": "tmux-256color"}, "ok", "256"),
        ({"TERM": "xterm"}, "warn", "8 or 16"),
        ({"TERM": "dumb"}, "warn", "dumb"),
        ({}, "warn", "unset"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "ok", "NO_COLOR"),
    ],
)
def test_colours(environment: dict, state: str, words: str) -> None:
    check = doctor.check_colours(environment, True)
    assert check.state == state and words in check.found
    assert "not a terminal" in doctor.check_colours(environment, False).found


def test_glyphs_and_size() -> None:
    assert doctor.check_glyphs(UTF8, "utf-8").state == "ok"
    assert doctor.check_glyphs(UTF8, "UTF8").state == "ok"
    ascii_ = doctor.check_glyphs(UTF8, "ANSI_X3.4-1968")
    assert ascii_.state == "warn" and "LANG" in ascii_.advice
    assert doctor.check_glyphs({"TERM": "linux"}, "utf-8").state == "warn"
    assert doctor.check_size(80, 24).state == "ok"
    assert doctor.check_size(79, 24).state == doctor.check_size(80, 23).state == "warn"


def test_hub_never_shows_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    secret = "hf_SECRETSECRET"
    for environment in ({"HF_TOKEN": secret}, {"HUGGING_FACE_HUB_TOKEN": secret}):
        check = doctor.check_hub(environment, False)
        assert check.state == "ok" and "token from" in check.found and check.advice == ""
        assert secret not in check.found + check.advice
    (tmp_path / "token").write_text(secret)
    assert "a token file" in doctor.check_hub({}, False).found
    (tmp_path / "token").write_text("")
    none = doctor.check_hub({}, False)
    assert "no token" in none.found and "Llama" in none.advice
    for value in ("1", "true", "ON"):
        assert "HF_HUB_OFFLINE" in doctor.check_hub({"HF_HUB_OFFLINE": value}, True).found
    assert "not asked" in doctor.check_hub({"HF_HUB_OFFLINE": "0"}, False).found


def test_hub_is_asked_only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(doctor, "_child", lambda code, timeout: asked.append(code) or {"ok": True})
    doctor.check_hub({}, False)
    assert asked == []
    assert "answers in" in doctor.check_hub({}, True).found
    assert len(asked) == 1 and "model_info" in asked[0]


def test_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    check = doctor.check_hub({}, True)
    assert check.state == "warn" and "no answer" in check.found and "network" in check.advice


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not there yet" in doctor.check_cache(tmp_path / "none" / "hub").found
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "a").write_bytes(bytes(3_000_000))
    (tmp_path / "link").symlink_to(tmp_path / "blobs" / "a")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert doctor.folder_size(tmp_path) == (3_000_000, True)
    assert "3 MB used" in doctor.check_cache(tmp_path).found
    assert doctor.folder_size(tmp_path, limit_s=-1)[1] is False
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Free(1e9))
    assert doctor.check_cache(tmp_path).state == "warn"


class Free:
    def __init__(self, free: float) -> None:
        self.free = free


@pytest.mark.parametrize(("free", "state"), [(1e12, "ok"), (1e9, "warn"), (1e7, "fail")])
def test_disk_for_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, state: str) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Free(free))
    check = doctor.check_runs(tmp_path / "deep" / "runs")
    assert check.state == state and bool(check.advice) == (state != "ok")
    assert not (tmp_path / "deep").exists()


def test_runs_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "runs"):
        check = doctor.check_runs(place)
        assert check.state == "fail" and "TUI_LAB_RUNS_DIR" in check.advice
    if os.geteuid() != 0:  # root writes anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        assert doctor.check_runs(tmp_path / "locked").state == "fail"
    assert doctor.check_runs(tmp_path).state != "fail"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "locked") == ["file"]


def test_bundled_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "_POCKET_DIR", tmp_path)
    check = doctor.check_pocket()
    assert check.state == "warn" and "tui_lab.pocket.build" in check.advice


def test_exit_code_and_to_do() -> None:
    fine = doctor.Check("a", "ok", "x", "a hint")
    worse = doctor.Check("b", "warn", "y", "do this")
    worst = doctor.Check("c", "fail", "z", "do that")
    assert [doctor.exit_code(found) for found in ([fine], [fine, worse], [worst, fine])] == [0, 0, 1]
    assert doctor.to_do([fine, worse, worst]) == ["c: do that", "b: do this"]
    assert "ready" in doctor.summary([fine])
    assert "1. b: do this" in doctor.summary([fine, worse])
    assert "not possible" in doctor.summary([worst])
    assert doctor.line(worse).splitlines()[1].strip() == "→ do this"
