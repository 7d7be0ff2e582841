"""The whole report on this machine, and its end: what to do."""

import contextlib
import io
import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from tui_lab import doctor
from tui_lab.doctor import packages
from tui_lab.ui.user_files import CHECKS


def run_here(code: str, answer: type[Any], timeout_s: float) -> Any:
    """``run_child`` without the child, which imports torch first; test_packages has children."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    return msgspec.json.decode(out.getvalue(), type=answer)


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "run_child", run_here)
    found = doctor.checks(more=CHECKS)
    names = [check.name for check in found]
    assert names == [
        "colours", "glyphs", "terminal size", "line", *(["multiplexer"] if "TMUX" in os.environ else []),
        "Python", "packages", "CPU", "GPU", "torch", "bitsandbytes", "hub", "hub cache", "runs folder",
        "own folders", "logout", "bundled model", "settings", "themes", "presets",
    ]  # fmt: skip
    by_name = {check.name: check for check in found}
    assert by_name["torch"].state != "fail" and by_name["torch"].found[:1].isdigit()
    assert "NF4 works on cpu" in by_name["bitsandbytes"].found
    assert all(check.advice for check in found if check.state != "ok")
    assert doctor.exit_code(found) == 0
    text = doctor.render(found)
    assert all(check.found in text and check.name in text for check in found)


def test_torch_is_not_imported_here() -> None:
    code = (
        "import sys; from tui_lab import doctor\n"
        "p = doctor.packages; p.run_child = lambda code, answer, timeout_s: answer('0')\n"
        "doctor.checks()\n"
        "print(sorted({'torch','transformers','bitsandbytes','huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_exit_code_and_to_do() -> None:
    fine = doctor.DoctorCheck("a", "ok", "x", "a hint")
    worse = doctor.DoctorCheck("b", "warn", "y", "do this")
    worst = doctor.DoctorCheck("c", "fail", "z", "do that")
    assert [doctor.exit_code(found) for found in ([fine], [fine, worse], [worst, fine])] == [0, 0, 1]
    assert doctor.to_do([fine, worse, worst]) == ["c: do that", "b: do this"]
    assert "ready" in doctor.summary([fine])
    assert "1. b: do this" in doctor.summary([fine, worse])
    assert "not possible" in doctor.summary([worst])
    assert doctor.line(worse).splitlines()[1].strip() == "→ do this"


def test_a_check_that_raises_is_a_line_of_the_report() -> None:
    def look() -> doctor.DoctorCheck:
        raise ModuleNotFoundError("No module named 'psutil'\x1b[31m")

    (check,) = doctor.guarded("CPU", look)
    assert check.state == "fail" and "psutil" in check.found and check.found.isprintable() and check.advice
    assert list(doctor.guarded("multiplexer", lambda: None)) == []


def test_long_findings_are_folded_under_themselves() -> None:
    check = doctor.DoctorCheck("packages", "warn", "one two three " * 12, "do this and that " * 9)
    folded = doctor.line(check, 80).splitlines()
    assert all(len(line) < 80 for line in folded) and len(folded) > 4
    assert folded[0].startswith("warn  packages        one") and folded[1].startswith(" " * 22 + "one")
    arrow = next(number for number, line in enumerate(folded) if "→" in line)
    assert folded[arrow].index("→") == 22 and folded[arrow + 1].startswith(" " * 24 + "t")
    assert " ".join(" ".join(folded).split()) == " ".join(doctor.line(check).split())
    things = doctor.summary([check], 60).splitlines()
    assert all(len(line) < 60 for line in things) and things[2].startswith("   ")
