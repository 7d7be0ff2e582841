"""Every part of ``make gpu`` with tiny shapes on the CPU, so that none breaks unseen; the rules of time."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.gpu import __main__ as command
from tests.gpu import part_machine, part_peaks, part_right, runner
from tests.gpu.bench import Bench, PartLog
from tests.gpu.parts import PARTS
from tests.gpu.records import Check, GpuReport, Measurement, Missing, PartReport
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu import Gpu, GpuProcess
from tui_lab.hardware.gpu_trial import GpuTrial


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> GpuReport:
    """The report of all parts, measured in this process."""
    out = tmp_path_factory.mktemp("gpu")
    report = command.new_report(True, [])
    command.rehearse_or_measure(report, out, 600.0)
    assert runner.read(out) == report
    return report


@pytest.mark.parametrize("name", [part.name for part in PARTS])
def test_every_part_runs_on_the_cpu(rehearsal: GpuReport, name: str) -> None:
    (part,) = [each for each in rehearsal.parts if each.name == name]
    assert part.state == "ok", runner.table(rehearsal)
    assert part.checks or part.figures
    assert all(figure.value == figure.value and figure.name for figure in part.figures)


def test_the_budgets_fit_the_default_time() -> None:
    assert sum(part.budget_s for part in PARTS) <= 540


def _report(*names: str) -> GpuReport:
    return GpuReport("a card", False, "", parts=[PartReport(name, 10.0) for name in names])


def test_late_parts_are_skipped_and_an_error_fails_only_its_part(tmp_path: Path) -> None:
    now = [0.0]
    report = _report("a", "b", "c", "d")
    ends: list[float] = []

    def run(part: PartReport, ends_s: float) -> None:
        assert runner.read(tmp_path).parts[len(ends)].state == "running"
        ends.append(ends_s)
        now[0] += 9.0
        if part.name == "a":
            raise RuntimeError("CUDA error: an illegal memory access")
        part.checks.append(Check("right", part.name != "b"))

    limits: list[float] = []
    runner.run_parts(report, tmp_path, run, 29.0, clock=lambda: now[0], watch=limits.append)
    # one and a half times the budget of 10 s, or what is left, and 10 s
    assert limits == [25.0, 25.0, 21.0]
    assert [part.state for part in report.parts] == ["failed", "failed", "ok", "skipped"]
    assert ends == [10.0, 19.0, 28.0]
    assert "illegal memory access" in report.parts[0].error and not report.is_ok
    assert runner.read(tmp_path) == report and report.seconds == 27.0


def test_a_part_that_hangs_ends_its_process(tmp_path: Path) -> None:
    """In a process of its own: the report names the part in which it ended."""
    code = (
        "import sys, time, faulthandler\n"
        "from pathlib import Path\n"
        "from tests.gpu import runner\n"
        "from tests.gpu.records import GpuReport, PartReport\n"
        "report = GpuReport('a card', False, '', parts=[PartReport('a', 0.0), PartReport('b', 0.0)])\n"
        "runner.LIMIT_S = 0.2\n"
        "runner.run_parts(report, Path(sys.argv[1]), lambda *_: time.sleep(60), 60.0,\n"
        "    watch=lambda limit: faulthandler.dump_traceback_later(limit, exit=True))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, timeout=50)
    assert done.returncode == 1 and b"Timeout" in done.stderr
    report = runner.read(tmp_path)
    assert [part.state for part in report.parts] == ["running", "waiting"]
    assert runner.end_crashed_part(report, "hung") and report.parts[0].error == "hung"


def test_a_process_that_ends_fails_its_part_and_the_others_follow() -> None:
    report = _report("a", "b")
    first, second = report.parts
    first.state = "running"
    assert runner.end_crashed_part(report, "its process ended with signal 11")
    assert "signal 11" in first.error and not report.is_ok
    second.state = "running"
    assert not runner.end_crashed_part(report, "its process ended with code 1")
    assert not runner.end_crashed_part(_report("a"), "it never began")


def test_a_crashed_part_is_named_and_the_next_process_runs_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def child(arguments: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(arguments)
        report = runner.read(tmp_path)
        if len(commands) == 1:
            report.parts[0].state = "ok"
            report.parts[1].state = "running"
        else:
            assert [part.state for part in report.parts] == ["ok", "failed", "waiting"]
            report.parts[2].state = "ok"
        runner.write(report, tmp_path)
        return subprocess.CompletedProcess(arguments, -11 if len(commands) == 1 else 0)

    monkeypatch.setattr(subprocess, "run", child)
    arguments = ["--cpu-rehearsal", "--out", str(tmp_path), "--parts", "machine", "right", "paged"]
    assert command.main(arguments) == command.EXIT_WRONG
    assert len(commands) == 2 and all("--child" in each for each in commands)
    printed = capsys.readouterr().out
    assert "right: failed" in printed and "its process ended with signal 11" in printed


def test_the_table_names_what_is_wrong_and_what_is_missing() -> None:
    report = _report("a")
    part = report.parts[0]
    part.state, part.seconds = "failed", 3.0
    part.checks = [Check("the same tokens", False, "3 of 4"), Check("fine", True)]
    part.figures = [Measurement("copy", 3350.123, "GB/s"), Measurement("a longer name", 2.0, "×")]
    part.missing = [Missing("Liger kernels", "liger-kernel is not installed")]
    lines = runner.table(report).splitlines()
    assert "a: failed, 3 of 10 s, 1 of 2 checks" in lines
    assert "  copy           3350 GB/s" in lines and "  a longer name     2 ×" in lines
    assert "  WRONG  the same tokens: 3 of 4" in lines and lines[-1].startswith("something is wrong")
    assert "  not done: Liger kernels: liger-kernel is not installed" in lines


def test_peaks_are_compared_within_five_percent() -> None:
    part = PartReport("peaks", 1.0)
    log = PartLog(part, 0.0)
    part_peaks.compare(log, "near", 100.0, 104.9, {"peak_bytes": 95.1}, True)
    assert [check.ok for check in part.checks] == [True, True]
    part_peaks.compare(log, "far", 100.0, 105.1, {"peak_bytes": 94.9}, True)
    assert [check.ok for check in part.checks[2:]] == [False, False]
    assert not log.has_time("late") and part.missing[-1].why == "the time of this part was over"


def test_without_a_card_it_says_so_and_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("tui_lab.hardware.cuda_support.problem_here", lambda: None)
    assert command.main(["--out", str(tmp_path / "out")]) == command.EXIT_NO_CARD
    assert "this machine has no NVIDIA card" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------
# what only a card has, with its answers given


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A card of 16 GiB of which 6 are used, by torch and by the driver."""
    facts = DeviceFacts("cuda", "NVIDIA L4", 16 << 30, True, 1)
    properties = SimpleNamespace(uuid="1b2c", total_memory=16 << 30, name="NVIDIA L4")
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _at: properties)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA L4")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (8, 9))
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (10 << 30, 16 << 30))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda: 1 << 30)
    return Bench(facts, True, tmp_path, {})


def _sampled(**values: object) -> Gpu:
    plain = Gpu(
        index=0,
        name="NVIDIA L4",
        uuid="GPU-1b2c",
        memory_total_bytes=16 << 30,
        memory_used_bytes=6 << 30,
        utilization_percent=5,
        temperature_c=40,
        power_w=None,
        compute_capability=(8, 9),
        processes=(GpuProcess(os.getpid(), (1 << 30) + (400 << 20)), GpuProcess(1, 5 << 30)),
    )
    return replace(plain, **values)  # type: ignore[arg-type]


def test_telemetry_is_compared_with_torch(card: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    other = _sampled(uuid="GPU-ffff", memory_used_bytes=0)
    monkeypatch.setattr("tui_lab.hardware.gpu.sample", lambda: [other, _sampled()])
    part = PartReport("right", 1.0)
    part_right.telemetry(card, PartLog(part, 0.0))
    assert [check.ok for check in part.checks] == [True, True, True]
    assert {figure.name for figure in part.figures} == {
        "telemetry: temperature_c",
        "telemetry: utilization_percent",
    }
    assert "telemetry: power_w" in {missing.name for missing in part.missing}
    monkeypatch.setattr("tui_lab.hardware.gpu.sample", lambda: [_sampled(memory_used_bytes=9 << 30)])
    part = PartReport("right", 1.0)
    part_right.telemetry(card, PartLog(part, 0.0))
    assert [check.name for check in part.checks if not check.ok] == ["telemetry: used memory"]


def test_the_context_is_what_the_driver_counts_beyond_torch(
    card: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui_lab.hardware.gpu.sample", lambda: [_sampled()])
    part = PartReport("peaks", 1.0)
    part_peaks.context(card, PartLog(part, 0.0))
    assert part.figures == [Measurement("bytes of a context", 400.0, "MiB")]


@pytest.mark.parametrize("broken", ["", "no C compiler"])
def test_trials_on_the_card_are_checks(broken: str, card: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_lab.hardware.cuda_support.problem_here", lambda: None)
    trial = GpuTrial(broken, "", "", "bfloat16", 10 << 30, 16 << 30)
    monkeypatch.setattr("tui_lab.hardware.gpu_trial.try_everything", lambda: trial)
    part = PartReport("machine", 1.0)
    part_machine.run(card, PartLog(part, 0.0))
    assert [check.name for check in part.checks if not check.ok] == (["trial of Triton"] if broken else [])
    assert Measurement("compute capability", 8.9, "") in part.figures
