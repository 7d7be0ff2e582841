"""Runs as jobs: submitit's local executor with real processes, and Slurm as the files that sbatch gets. Slurm
itself was not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs.queue.test_runner import start, states, stop_all, until
from tui_lab.core.errors import LabError
from tui_lab.hardware.cuda_support import GPUS_ENV
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import launch
from tui_lab.runs.events import last_event
from tui_lab.runs.folder import Run
from tui_lab.runs.queue import cluster, job, queue
from tui_lab.runs.queue.cluster import Cluster
from tui_lab.runs.queue.runner import Runner
from tui_lab.runs.schema import EndEvent
from tui_lab.runs.state import Watcher

pytest.importorskip("submitit", reason="tui-lab[slurm] is not installed")


@pytest.fixture
def directory(runs_dir: Path, fake_worker: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of runs whose processes are tests/fake_worker; nothing is left running."""
    monkeypatch.setenv("FAKE_STEP_S", "0.01")
    runs_dir.mkdir()
    yield runs_dir
    stop_all(runs_dir)
    for item in queue.items(runs_dir):
        if item.entry.job.startswith("local:"):
            cluster.cancel(item.entry.job)


def test_jobs_execute_the_runs_and_bring_back_their_folders(directory: Path) -> None:
    """Three jobs, two at a time: one is killed, one cancelled while it runs, one ends by itself."""
    runs = [
        Run(directory / run.id)
        for run in queue.add([Recipe(max_steps=n) for n in (9_999, 9_999, 2)], directory)
    ]
    queue.release(directory, on=Cluster("local", jobs=2))
    child = start(directory)
    until(lambda: all(Watcher(run).read_all().step > 0 for run in runs[:2]), "two jobs train")
    assert states(directory) == ["running", "running", "queued"]
    begun = Watcher(runs[0]).read_all().started
    assert begun is not None and begun.pid
    os.kill(int(begun.pid), signal.SIGKILL)
    until(
        lambda: states(directory) == ["failed", "running", "done"],
        "the third has the place of the killed one",
    )
    killed, running, _ = queue.items(directory)
    log = cluster.log_path(killed.entry.job, queue.jobs_folder(directory))
    assert str(log) in killed.reason and log.stat().st_size < 10_000
    cluster.cancel(running.entry.job)
    until(lambda: states(directory) == ["failed", "done", "done"], "the second has stopped")
    end = last_event(runs[1].events_path)
    assert isinstance(end, EndEvent) and end.state == "stopped"
    assert child.wait(timeout=20) == 0, "no job is left"
    queue.clear_ended(directory)
    cluster.tidy(queue.jobs_folder(directory), [])
    assert not list(queue.jobs_folder(directory).iterdir())


@pytest.fixture
def runner(directory: Path) -> Runner:
    """The queue's process turn by turn."""
    return Runner(directory, os.open(directory, os.O_RDONLY))


@pytest.fixture
def two(directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Two runs of which the first is submitted, as a job that never was."""
    monkeypatch.setattr(cluster, "submit", lambda *_: "local:0")
    runs = queue.add([Recipe(max_steps=1), Recipe(max_steps=1)], directory, gpus="GPU-1")
    queue.release(directory, on=Cluster("local", jobs=1))
    return runs


def test_a_job_that_dies_before_its_run_is_named_with_its_log(
    two: list[Run], directory: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "has_ended", lambda *_: False)
    for _ in range(3):
        assert runner.turn() > 0
    assert [item.entry.job for item in queue.items(directory)] == ["local:0", ""], "one at a time"
    assert "as jobs" not in queue.describe(directory)
    monkeypatch.setattr(cluster, "has_ended", lambda *_: True)
    runner.turn()
    first = queue.items(directory)[0]
    assert first.state == "failed" and first.reason.startswith(
        "its job local:0 ended before the run began; the log is"
    )
    runner.turn()
    assert queue.items(directory)[1].entry.job == "local:0", "the next one is submitted"
    assert queue.describe(directory) == "1 run waits as a job of local"


def test_a_job_is_cancelled_if_the_queue_is_held_before_its_name_is_written(
    two: list[Run], directory: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(*_: object) -> str:
        queue.hold(directory)
        return "local:7"

    cancelled: list[str] = []
    monkeypatch.setattr(cluster, "submit", submit)
    monkeypatch.setattr(cluster, "cancel", cancelled.append)
    runner.turn()
    assert cancelled == ["local:7"]
    assert [item.entry.job for item in queue.items(directory)] == ["", ""]
    assert states(directory) == ["queued", "queued"]


def test_a_job_takes_its_run_once_and_only_from_a_queue_that_goes(
    two: list[Run], directory: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    monkeypatch.setattr(cluster, "has_ended", lambda *_: False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    runner.turn()
    queue.hold(directory)
    with pytest.raises(LabError, match="goes back into the queue, which is held"):
        job.execute(str(directory), first.id)
    assert queue.items(directory)[0].entry.job == "" and states(directory) == ["queued", "queued"]
    queue.release(directory)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")  # which sets CUDA_VISIBLE_DEVICES to nothing
    monkeypatch.setenv(GPUS_ENV, "")
    seen: list[tuple[bool, dict[str, str]]] = []
    own = launch.start

    def begin(run: Run, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        seen.append((GPUS_ENV in os.environ, environment))
        return own(run, environment=environment)

    monkeypatch.setattr(launch, "start", begin)
    assert job.execute(str(directory), first.id) == 0
    assert seen == [(False, {GPUS_ENV: "GPU-1"})], "that of the process that added the run"
    with pytest.raises(LabError, match="does not wait in the queue any more"):
        job.execute(str(directory), first.id)
    queue.remove([second.id], directory)
    with pytest.raises(LabError, match="does not wait"):
        job.execute(str(directory), second.id)


# --------------------------------------------------------------------------------------------------
# Slurm


SBATCH = """#!{python}
import pathlib, sys
pathlib.Path({folder!r}, "script").write_text(pathlib.Path(sys.argv[1]).read_text())
if "broken" in pathlib.Path({folder!r}, "script").read_text():
    sys.exit("sbatch: error: invalid partition specified: broken")
print("Submitted batch job 77")
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of the names of Slurm's; sbatch keeps what it gets, scancel the number."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    (folder / "sbatch").write_text(SBATCH.format(python=sys.executable, folder=str(folder)))
    (folder / "scancel").write_text(f"#!/bin/sh\necho $1 > {folder}/cancelled\n")
    (folder / "srun").write_text("#!/bin/sh\n")
    for path in folder.iterdir():
        path.chmod(0o700)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def test_sbatch_gets_the_limits_and_the_options(slurm: Path, directory: Path, runner: Runner) -> None:
    options = ("account=lab", "cpus_per_task=8")
    where = cluster.choose("slurm", "gpu", 240, None, options)
    (run,) = queue.add([Recipe(num_processes=2)], directory)
    queue.release(directory, on=where)
    runner.turn()
    assert [item.entry.job for item in queue.items(directory)] == ["slurm:77"]
    lines = (slurm / "script").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert {
        "partition=gpu", "time=240", "account=lab", "cpus-per-task=8", "gpus-per-node=2",
        f"job-name={run.id}", "signal=USR2@120",
    } <= asked  # fmt: skip
    output = next(line.partition("=")[2] for line in asked if line.startswith("output="))
    assert output.replace("%j", "77") == str(cluster.log_path("slurm:77", queue.jobs_folder(directory)))
    assert f"submitit.core._submit {queue.jobs_folder(directory)}" in "".join(lines)
    assert queue.remove([run.id], directory) == [run.id]
    assert (slurm / "cancelled").read_text() == "77\n"


def test_gpus_that_an_option_asks_for_are_not_asked_for_twice(slurm: Path, tmp_path: Path) -> None:
    for number, gpus in enumerate(((), ("gres=gpu:a100:1",))):
        cluster.submit(Cluster("slurm", "", 5, 0, gpus), tmp_path / str(number), 1, job.execute, ".", "run")
        script = (slurm / "script").read_text()
        assert ("--gpus-per-node=1" in script, "--gres=gpu:a100:1" in script) == (not gpus, bool(gpus))


def test_a_refused_job_ends_the_process_with_the_reason_and_the_run_waits(
    slurm: Path, directory: Path, runner: Runner
) -> None:
    (run,) = queue.add([Recipe(max_steps=1)], directory)
    queue.release(directory, on=Cluster("slurm", "broken", 5))
    with pytest.raises(LabError, match=f"slurm refused the job of run {run.id}: .*invalid partition"):
        runner.turn()
    assert states(directory) == ["queued"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("slurm", "gpu", None, None, ()), "--on slurm needs --time MINUTES"),
        (
            ("slurm", "gpu", 5, None, ("account",)),
            "--sbatch account: write an option of sbatch as name=value",
        ),
        (("slurm", "gpu", 5, None, ("a=b\nreboot",)), "write an option of sbatch as name=value"),
        (("slurm", "gpu", 5, None, ()), "Slurm is not on this machine: srun is not found"),
        ((None, "gpu", None, None, ()), "are for `--on slurm`"),
        (("local", "gpu", None, None, ()), "are for `--on slurm`"),
        (("local", "", 5, None, ()), "are for `--on slurm`"),
        (("local", "", None, None, ("account=lab",)), "are for `--on slurm`"),
    ],
)
def test_what_a_cluster_needs_is_named(
    arguments: tuple[str, str, int, int, tuple[str, ...]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LabError, match=message):
        cluster.choose(*arguments)


def test_the_number_of_another_process_is_no_job() -> None:
    other = subprocess.Popen(["sleep", "60"])
    assert cluster.has_ended(f"local:{other.pid}", Path())
    cluster.cancel(f"local:{other.pid}")
    assert other.poll() is None
    other.kill()
    other.wait()
