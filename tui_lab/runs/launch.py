"""Starts the process of a run: a session of its own, no terminal, nothing but its folder to write to.

The launcher takes the run's lock and hands the open descriptor on, so that the run counts as alive
from before it exists until the kernel closes its last descriptor.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tui_lab.errors import LabError
from tui_lab.runs.folder import Run, RunLock

#: The environment variable that tells the process which descriptor holds its lock.
LOCK_ENV = "TUI_LAB_LOCK_FD"


def start(run: Run) -> subprocess.Popen[bytes]:
    """Starts (or resumes) a run, detached. Raises LabError when it runs already or cannot be started."""
    lock = RunLock.take(run)
    try:
        with run.log_path.open("ab") as log:
            return subprocess.Popen(
                # -P: the folder that the lab was started in must not shadow any module
                [sys.executable, "-P", "-m", "tui_lab.training", str(run.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=run.path,
                env={**os.environ, LOCK_ENV: str(lock.descriptor), "TOKENIZERS_PARALLELISM": "false"},
                start_new_session=True,
                pass_fds=(lock.descriptor,),
            )
    except OSError as error:
        raise LabError(f"run {run.id}: cannot be started ({error.strerror or error})") from None
    finally:
        lock.release()
