"""Starts the process of a run: a session of its own, no terminal, nothing but its folder to write to.

The launcher takes the run's lock and hands the open descriptor on, so that the run counts as alive
from before it exists until the kernel closes its last descriptor.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping

from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.subprocesses import child_environment
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.folder import ATTEMPT_MARK, Run, RunLock

#: The environment variable that tells the process which descriptor holds its lock.
LOCK_ENV = "TUI_LAB_LOCK_FD"
#: The one that tells it when it was started: to load its libraries takes seconds, and what is asked of it
#: meanwhile is meant for it.
LAUNCHED_ENV = "TUI_LAB_LAUNCHED_AT"


def start(
    run: Run, recipe: Recipe | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts (or resumes) a run, detached, with another ``recipe`` from now on where one is given, and with
    ``environment`` on top of this process's (which GPU it sees). Raises LabError when it runs already or
    cannot be started."""
    lock = RunLock.take(run)
    told = {LOCK_ENV: str(lock.descriptor), LAUNCHED_ENV: str(time.time())}
    try:
        if recipe is not None:
            write_atomically(run.recipe_path, recipe.to_toml())
        else:
            recipe = run.recipe()
        several = recipe.num_processes > 1 or bool(recipe.accelerate_config)
        with run.log_path.open("ab") as log:
            # what a dead attempt said last is what stands after this
            log.write(f"{ATTEMPT_MARK}{time.strftime('%Y-%m-%d %H:%M:%S%z')}\n".encode())
            log.flush()
            return subprocess.Popen(
                # -P: the folder that the lab was started in must not shadow any module
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "tui_lab.training.launch_distributed" if several else "tui_lab.training",
                    str(run.path),
                ],
                # a launcher of several processes hands on its standard input (here an empty file) and nothing
                # else, and each of them must hold the lock: the run lives until the last one is gone
                stdin=lock.descriptor if several else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=run.path,
                env=child_environment({**(environment or {}), **told}),
                start_new_session=True,
                pass_fds=(lock.descriptor,),
            )
    except OSError as error:
        raise LabError(f"run {run.id}: cannot be started ({error.strerror or error})") from None
    finally:
        lock.release()
