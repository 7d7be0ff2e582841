"""Starts the process of a run, in its own session and without a terminal.

The launcher takes the run's lock and passes the open descriptor on, so that the lock is held until the last
process of the run exits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tui_lab.core import changed_inputs, input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.subprocesses import detached
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import commands, folder
from tui_lab.runs.folder import ATTEMPT_MARK, Run, RunLock

#: The environment variable with the descriptor of the lock.
LOCK_ENV = "TUI_LAB_LOCK_FD"
#: The environment variable with the size of the run's commands at the start: commands that are sent while the
#: process loads its libraries count, those before were meant for an earlier attempt.
COMMANDS_ENV = "TUI_LAB_COMMANDS_BYTES"


def create_and_start(
    recipe: Recipe,
    directory: Path | None = None,
    name: str = "",
    environment: Mapping[str, str] | None = None,
) -> tuple[Run, subprocess.Popen[bytes]]:
    """A new run, started. A run that cannot be started leaves no folder. Raises LabError."""
    run = folder.create(recipe, directory, name)
    try:
        return run, start(run, environment=environment)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise


def start(
    run: Run, recipe: Recipe | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts or resumes a run as a detached process. ``recipe``: replaces the run's recipe; ``environment``:
    variables in addition to this process's. Raises LabError when it is running or cannot be started."""
    lock = RunLock.take(run)
    variables = {LOCK_ENV: str(lock.descriptor), COMMANDS_ENV: str(commands.size(run))}
    try:
        if recipe is not None:
            write_atomically(run.recipe_path, recipe.to_toml())
        else:
            recipe = run.recipe()
        several = recipe.num_processes > 1 or bool(recipe.accelerate_config)
        with os.fdopen(input_files.open_to_append(run.log_path), "ab") as log:
            # separates the output of attempts
            log.write(f"{ATTEMPT_MARK}{time.strftime('%Y-%m-%d %H:%M:%S%z')}\n".encode())
            log.flush()
            return detached(
                "tui_lab.training.launch_distributed" if several else "tui_lab.training",
                str(run.path),
                log=log,
                place=run.path,
                environment={**(environment or {}), **changed_inputs.for_child(), **variables},
                # each of several processes must hold the lock, and their launcher passes on only standard
                # input: the lock (an empty file) is that input
                stdin=lock.descriptor if several else subprocess.DEVNULL,
                descriptors=(lock.descriptor,),
            )
    except OSError as error:
        raise LabError(f"run {run.id}: cannot be started ({error.strerror or error})") from None
    finally:
        lock.release()
