"""The files of a search, in a folder of ``.searches`` beside the runs: ``settings.json``, ``search.json``
with the result so far, Optuna's journal, the lock of the process that searches, and ``stop``, which asks it
to end. No torch, no Optuna."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.records import from_json, to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.core.subprocesses import detached
from tui_lab.evaluation.search_settings import SearchSettings
from tui_lab.runs.searches import RESULT, SearchResult, read_result, root, state_of

SETTINGS, JOURNAL, STOP, LOG = "settings.json", "journal.log", "stop", "search.log"


def earlier(place: Path, new: SearchResult) -> SearchResult:
    """The result of an earlier process with the new budget, ``new`` without one. Raises LabError where it
    searched another thing."""
    try:
        found = read_result(place)
    except FileNotFoundError:
        return new
    for name in ("model", "data", "keep", "suite"):
        if getattr(found, name) != getattr(new, name):
            raise LabError(
                f"search {new.search} has another {name} ({getattr(found, name)}): go on with it, or start a "
                "new search"
            )
    return msgspec.structs.replace(
        found, budget_s=new.budget_s, budget_kwh=new.budget_kwh, watts=new.watts, stopped=False, problem=""
    )


def read_settings(place: Path) -> SearchSettings:
    """The settings in the folder of a search. Raises LabError."""
    try:
        content = input_files.read_bytes(place / SETTINGS)
    except OSError as error:
        raise LabError(
            f"search {sanitize(place.name)}: {SETTINGS} cannot be read ({error.strerror}); start a new search"
        ) from None
    return from_json(content, SearchSettings, SETTINGS)


def cut_torn_line(journal: Path) -> None:
    """Cuts a line that a kill or a full disk left without its end. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), journal.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def write_problem(place: Path, problem: str) -> None:
    """Stores why the process of a search ended, for the lab; as far as the disk allows."""
    with contextlib.suppress(OSError, LabError):
        result = msgspec.structs.replace(read_result(place), problem=problem, progress="")
        write_atomically(place / RESULT, to_json(result) + "\n")


def stop(place: Path) -> None:
    """Asks the process of a search to end; it keeps the measured pilots. Raises LabError."""
    try:
        (place / STOP).touch()
    except OSError as error:
        raise LabError(f"search {place.name}: it cannot be stopped ({error.strerror})") from None


def toggle(directory: Path | None, name: str) -> tuple[str, subprocess.Popen[bytes] | None]:
    """Stops a search that runs, or starts the process of one that does not; a sentence, and the process.
    Raises LabError."""
    place = root(directory) / Path(name).name
    try:
        result = read_result(place)
    except OSError:
        raise LabError(
            f"{sanitize(name)} is a sweep and no search: nothing to stop or to go on with"
        ) from None
    state = state_of(place, result)
    if state == "running":
        stop(place)
        return f"{result.search} stops, and keeps the measured pilots.", None
    if state == "finished":
        raise LabError(
            f"{result.search} has used its budget: `tui-lab search --resume {result.search} --budget "
            "60min` goes on with more"
        )
    return f"{result.search} goes on.", start(read_settings(place), directory)


def start(
    settings: SearchSettings, directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts or resumes a search in a process of its own that outlives this one; ``environment`` has the
    variables that select its GPU. Raises LabError."""
    place = root(directory) / settings.search
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(place / SETTINGS, to_json(settings) + "\n")
        with os.fdopen(input_files.open_to_append(place / LOG), "ab") as log:
            log.truncate(0)
            module = "tui_lab.evaluation.search_process"
            return detached(module, str(place), log=log, place=place, environment=environment)
    except OSError as error:
        raise LabError(
            f"search {settings.search}: it cannot be started ({error.strerror or error})"
        ) from None
