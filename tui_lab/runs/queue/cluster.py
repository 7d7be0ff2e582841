"""Runs as jobs of another machine, by submitit (``tui-lab[slurm]``): submitted to Slurm, or executed here by
its local executor. A job is named ``ENGINE:ID`` in the queue; its log has what came before and after the run,
whose own output is in its folder."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize

if TYPE_CHECKING:
    from submitit import Job

ENGINES = ("slurm", "local")
#: Seconds before the time limit at which a run is asked to stop, so that it saves what it learned.
STOP_BEFORE_S = 120
#: The local executor counts the steps of a job's time limit, so it must have one: 30 days.
LOCAL_MINUTES = 43_200
_OPTION = re.compile(r"[a-z][a-z0-9_-]{0,40}=[^\n\r\0]{0,200}")


class Cluster(Struct, frozen=True):
    """How jobs are submitted: the partition ("": Slurm's default), the time limit of each in minutes, how
    many wait or run at once (0: all), and further options of sbatch as name=value."""

    engine: Literal["slurm", "local"]
    partition: str = ""
    minutes: int = 0
    jobs: int = 0
    options: tuple[str, ...] = ()


def choose(
    engine: str | None, partition: str, minutes: int | None, jobs: int | None, options: Sequence[str]
) -> Cluster | None:
    """The cluster of ``--on ENGINE``; None for this machine. Raises LabError where the engine is not
    installed, or what it needs is missing."""
    if engine != "slurm" and (partition or minutes or options):
        raise LabError("--partition, --time and --sbatch are for `--on slurm`")
    if engine not in ENGINES:
        return None
    if engine == "local":
        chosen = Cluster("local", jobs=1 if jobs is None else jobs)
    else:
        if not minutes:
            raise LabError("--on slurm needs --time MINUTES, the time limit of each job")
        if wrong := [each for each in options if not _OPTION.fullmatch(each)]:
            raise LabError(
                f"--sbatch {sanitize(wrong[0])}: write an option of sbatch as name=value, such as account=lab"
            )
        chosen = Cluster("slurm", partition, minutes, jobs or 0, tuple(options))
    _check_installed(engine)
    return chosen


def _check_installed(engine: str) -> None:
    try:
        from submitit import SlurmExecutor
    except ImportError:
        raise LabError(f"--on {engine} needs submitit: pip install 'tui-lab[slurm]'") from None
    if engine == "slurm" and SlurmExecutor.affinity() < 0:
        raise LabError(
            "Slurm is not on this machine: srun is not found; start the queue on a login node of the cluster"
        )


def submit(
    cluster: Cluster,
    folder: Path,
    gpus: int,
    function: Callable[[str, str], object],
    directory: str,
    run: str,
) -> str:
    """Submits ``function(directory, run)``; the job's name. Raises LabError when it is refused."""
    _check_installed(cluster.engine)
    from submitit import LocalExecutor, SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        if cluster.engine == "local":
            executor: LocalExecutor | SlurmExecutor = LocalExecutor(folder)
            executor.update_parameters(timeout_min=LOCAL_MINUTES, stderr_to_stdout=True)
        else:
            executor = SlurmExecutor(folder)
            executor.update_parameters(**_sbatch(cluster, gpus, run))
        job: Job[object] = executor.submit(function, directory, run)
    except (OSError, ValueError, RuntimeError, FailedJobError, FailedSubmissionError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise LabError(f"{cluster.engine} refused the job of run {run}: {sanitize(lines[-1])}") from None
    return f"{cluster.engine}:{job.job_id}"


def _sbatch(cluster: Cluster, gpus: int, run: str) -> dict[str, object]:
    more = {
        key.replace("_", "-"): value for key, _, value in (each.partition("=") for each in cluster.options)
    }
    found: dict[str, object] = {
        "time": cluster.minutes,
        "job_name": run,
        "signal_delay_s": STOP_BEFORE_S,
        "stderr_to_stdout": True,
        "additional_parameters": more,
    }
    if cluster.partition:
        found["partition"] = cluster.partition
    if gpus and not any(key.startswith(("gpu", "gres")) for key in more):
        found["gpus_per_node"] = gpus
    return found


def has_ended(job: str, folder: Path) -> bool:
    """Whether a job has ended in any way. Slurm is asked at intervals that grow to ten minutes."""
    from submitit import SlurmJob

    engine, _, number = job.partition(":")
    if engine == "local":
        return not _is_alive(int(number))
    known = _SLURM_JOBS.get(number)
    if known is None:
        known = _SLURM_JOBS[number] = SlurmJob(folder, number)
    return bool(known.done())


#: A job registers with submitit's watcher once, which then asks for all at the same time.
_SLURM_JOBS: dict[str, Job[object]] = {}


def _is_alive(number: int) -> bool:
    """Whether a process is the controller of a local job: its number may have been given to another one."""
    import psutil

    try:
        process = psutil.Process(number)
        return process.status() != psutil.STATUS_ZOMBIE and "submitit.local._local" in process.cmdline()
    except psutil.Error:
        return False


def cancel(job: str) -> None:
    """Cancels a job; a run that it executes stops and saves. Raises LabError."""
    engine, _, number = job.partition(":")
    if engine == "local":
        if _is_alive(int(number)):
            with contextlib.suppress(OSError):
                os.kill(int(number), signal.SIGTERM)
        return
    try:
        done = subprocess.run(["scancel", number], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"job {number} of Slurm cannot be cancelled: {error}") from None
    if done.returncode:
        raise LabError(f"job {number} of Slurm cannot be cancelled: {sanitize(done.stderr.strip())}")


def log_path(job: str, folder: Path) -> Path:
    """The output of a job outside its run."""
    return folder / f"{job.partition(':')[2]}_0_log.out"


def tidy(folder: Path, jobs: Collection[str]) -> None:
    """Removes the files of jobs that are not among ``jobs``."""
    numbers = {job.partition(":")[2] for job in jobs}
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name.partition("_")[0] not in numbers:
                path.unlink(missing_ok=True)
