"""Run folders: their paths, creation, listing, and the lock that shows whether the process is alive.

Folders are private (0700). ``recipe.toml`` is written first and atomically, so every listed folder can be
read. The run process holds the exclusive ``flock`` on ``lock`` from its start to its exit: a free lock
without an end event means that the process died.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_lab.core import files, input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import LOCK_POLL_S, FileLock, write_atomically
from tui_lab.core.paths import absolute, data_dir, expanded
from tui_lab.core.privacy import holds_secret
from tui_lab.data import bundled
from tui_lab.models import catalog
from tui_lab.recipes import mixture
from tui_lab.recipes.recipe import Recipe, read_recipe
from tui_lab.runs.events import has_ended

#: Timeout for taking the lock: readers that test it hold it for microseconds.
LOCK_PATIENCE_S = 1.0
#: Timeout after the end event: the process still writes the report and unloads its libraries.
LEAVING_PATIENCE_S = 10.0
#: Starts the line of ``worker.log`` that precedes the output of an attempt.
ATTEMPT_MARK = "--- tui-lab: an attempt begins at "


@dataclass(frozen=True)
class Run:
    """A run by its folder. Files are read on demand."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def recipe_path(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def events_path(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def commands_path(self) -> Path:
        return self.path / "commands.jsonl"

    @property
    def log_path(self) -> Path:
        return self.path / "worker.log"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @property
    def lock_path(self) -> Path:
        return self.path / "lock"

    @property
    def adapter_path(self) -> Path:
        """Where an adapter is saved; full tuning saves to :attr:`model_path`."""
        return self.path / "adapter"

    @property
    def model_path(self) -> Path:
        return self.path / "model"

    @property
    def saved_path(self) -> Path | None:
        """The folder of what the run saved, None before there is one."""
        if (self.adapter_path / "adapter_config.json").is_file():
            return self.adapter_path
        return self.model_path if (self.model_path / "config.json").is_file() else None

    def recipe(self) -> Recipe:
        """The resolved recipe. Raises LabError when the file is gone or damaged."""
        return read_recipe(self.recipe_path)

    def log_tail(self, lines: int = 12) -> list[str]:
        """The last lines that the newest attempt's process wrote to ``worker.log``."""
        try:
            with input_files.open_regular(self.log_path) as file:
                file.seek(max(0, self.log_path.stat().st_size - 16_384))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        attempts = text.split(ATTEMPT_MARK)
        if len(attempts) > 1:
            text = attempts[-1].partition("\n")[2]  # without the rest of the marker line
        return [line for line in text.splitlines() if line.strip()][-lines:]

    @property
    def was_started(self) -> bool:
        """Whether a process was ever started for it, even if it wrote no event."""
        for path in (self.log_path, self.events_path):
            with contextlib.suppress(OSError):
                if path.stat().st_size:
                    return True
        return False


def runs_dir() -> Path:
    """The folder of runs: TUI_LAB_RUNS_DIR, else in the user's data folder."""
    return expanded(os.environ.get("TUI_LAB_RUNS_DIR") or data_dir() / "runs")


def runs_folder(directory: Path | None = None) -> Path:
    """``directory``, by default :func:`runs_dir`, absolute: a run's process has another working directory."""
    return absolute(directory or runs_dir())


def _slug(text: str) -> str:
    if mixture.is_mixture(text):
        text = "-".join(_slug(part.name) for part in mixture.parts_of(text))
    name = Path(text).stem if "/" in text or "\\" in text else text
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:24].strip("-") or "run"


def _is_local(key: str, value: str) -> bool:
    """Whether a recipe's value is a local path. Known names (pocket, pirate, a model of the catalog) take
    precedence over a folder of the same name."""
    try:
        if not value or not expanded(value).exists():
            return False
        if key == "model":
            return catalog.find(value, allow_large=True).where == "folder"
    except (LabError, OSError, RuntimeError, ValueError):
        return False  # the run reports the problem
    if key == "replay_data":
        return value != "auto"
    if key == "probe_suite":
        return expanded(value).is_file()  # suites have names, too
    return key != "data" or value not in bundled.NAMES


def _absolute(key: str, value: str) -> str:
    return str(expanded(value).resolve()) if _is_local(key, value) else value


def absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with absolute local paths: a run's process has another working directory. Raises LabError
    for a folder whose name cannot be part of a mixture."""
    changes = {
        key: _absolute(key, getattr(recipe, key))
        for key in (
            *("model", "chat_template", "replay_data", "probe_suite", "accelerate_config"),
            "from_run",
        )
    }
    parts = mixture.parts_of(recipe.data)
    changes["data"] = mixture.joined(part._replace(name=_absolute("data", part.name)) for part in parts)
    changes = {key: value for key, value in changes.items() if value != getattr(recipe, key)}
    return recipe.changed(**changes) if changes else recipe


def _refuse_secrets(recipe: Recipe) -> None:
    """Raises LabError for a recipe that would store a token or password in the run folder."""
    for key, value in recipe.model_dump().items():
        if isinstance(value, str) and holds_secret(value):
            raise LabError(
                f"{key} holds an access token or a password, which a recipe would keep: log in with `hf auth "
                "login`, or set the token in the environment"
            )


def create(recipe: Recipe, directory: Path | None = None, name: str = "") -> Run:
    """Creates a run folder with its recipe. Raises LabError when the folder cannot be written."""
    _refuse_secrets(recipe)
    directory = runs_folder(directory)
    recipe = absolute_paths(recipe)
    stem = _slug(name) if name else f"{_slug(recipe.model)}-{_slug(recipe.data)}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        while True:
            # random, because two runs may start in one second
            run = Run(directory / f"{time.strftime('%Y%m%d-%H%M%S')}-{stem}-{secrets.token_hex(2)}")
            try:
                run.path.mkdir(mode=0o700)
                break
            except FileExistsError:
                continue
        try:
            write_atomically(run.recipe_path, recipe.to_toml())
        except BaseException:
            shutil.rmtree(run.path, ignore_errors=True)  # no folder without a recipe
            raise
    except OSError as error:
        raise LabError(
            f"cannot create a run in {directory}: {error.strerror or error}; "
            "free some space, or choose another folder with --runs-dir or TUI_LAB_RUNS_DIR"
        ) from None
    return run


def list_runs(directory: Path | None = None) -> list[Run]:
    """All runs, newest first (by id, which begins with the time)."""
    directory = runs_folder(directory)
    try:
        # not Path.is_file, which raises for a folder without permission
        entries = [entry for entry in directory.iterdir() if os.path.isfile(entry / "recipe.toml")]  # noqa: PTH113
    except OSError:
        return []
    return [Run(entry) for entry in sorted(entries, key=lambda e: e.name, reverse=True)]


def open_run(name: str, directory: Path | None = None) -> Run:
    """A run by id, by an unambiguous part of it, by path, or ``latest``. Raises LabError."""
    path = expanded(Path(name))
    if (path / "recipe.toml").is_file() and "/" in name:
        return Run(path.resolve())
    runs = list_runs(directory)
    if name == "latest" and runs:
        return runs[0]
    where = directory or runs_dir()
    if not runs:
        raise LabError(f"run {name!r}: there are no runs in {where} yet; `tui-lab train` starts one")
    none = f"there is none of that name in {where}; `tui-lab runs` lists them"
    return Run(runs_folder(directory) / matching_id(name, [run.id for run in runs], "run", none))


def matching_id(name: str, ids: Sequence[str], subject: str, none: str) -> str:
    """The id that is ``name``, or the only one that contains it. Raises LabError that names ``subject``;
    ``none`` is its text where no id contains the name."""
    found = [name] if name in ids else [each for each in ids if name and name in each]
    if len(found) == 1:
        return found[0]
    if not found:
        parts = {part for each in ids for part in each.split("-") if not part.isdecimal()}
        near = difflib.get_close_matches(name, ["latest", *sorted(parts), *ids], 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise LabError(f"{subject} {name!r}: {none}{meant}")
    some = ", ".join(found[:4])
    raise LabError(f"{subject} {name!r} could be any of {len(found)}: {some}; give more of the name")


class RunLock:
    """The exclusive lock of a run. The launcher takes it and passes its descriptor to the process, so that a
    started run never appears dead."""

    def __init__(self, run: Run, lock: FileLock) -> None:
        self.run = run
        self._lock = lock

    @property
    def descriptor(self) -> int:
        """The open file that holds the lock; a child that inherits it holds the lock too."""
        return self._lock.descriptor

    @classmethod
    def take(cls, run: Run) -> RunLock:
        """Takes the lock; waits for the process of a run that has ended. Raises LabError when another process
        holds it or the folder is read-only."""
        deadline = time.monotonic() + LEAVING_PATIENCE_S
        timeout_s = LOCK_PATIENCE_S
        ended = True
        try:
            while ended and time.monotonic() < deadline:
                if lock := FileLock.acquire(run.lock_path, timeout_s):
                    return cls(run, lock)
                timeout_s = LOCK_POLL_S
                # read each time: another process may have started a new attempt
                ended = has_ended(run.events_path)
        except OSError as error:
            raise LabError(f"run {run.id}: its folder cannot be written ({error.strerror})") from None
        reason = (
            "it has ended, and its process is about to exit; try again in a moment"
            if ended
            else "it is running already; `tui-lab runs` shows its state"
        )
        raise LabError(f"run {run.id}: {reason}")

    def release(self) -> None:
        """Closes this process's descriptor of the lock."""
        self._lock.release()


def is_locked(run: Run) -> bool:
    """Whether a process holds the run's lock."""
    return files.is_locked(run.lock_path)
