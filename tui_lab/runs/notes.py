"""Notes of the user on a run: a display name, tags and a text. They are stored in ``notes.json`` of the run's
folder; the event log is never changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.records import from_json, to_json
from tui_lab.runs.folder import Run

FILE = "notes.json"
NOTES_VERSION = 1
_TIME = re.compile(r"^\d{8}-\d{6}-")
MOST_TAGS, LONGEST_TAG, LONGEST_NAME, LONGEST_NOTE = 20, 40, 80, 2_000


class Notes(Struct, frozen=True):
    """The content of ``notes.json``. ``name`` is shown in place of the folder's name, the id."""

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    v: int = NOTES_VERSION


def read(run: Run) -> Notes:
    """The notes on a run; empty where the file is missing or damaged."""
    try:
        return _load(run)
    except (OSError, LabError):
        return Notes()


def short_name(run: Run) -> str:
    """The user's name of a run, else its id without the time that it begins with."""
    return read(run).name or _TIME.sub("", run.id) or run.id


def _load(run: Run) -> Notes:
    """Raises OSError, or LabError with one sentence for a damaged file."""
    return _bounded(from_json(input_files.read_bytes(run.path / FILE), Notes, FILE))


def _bounded(notes: Notes) -> Notes:
    return Notes(notes.name[:LONGEST_NAME], _tags(notes.tags), notes.note[:LONGEST_NOTE])


def _tags(tags: Iterable[str]) -> tuple[str, ...]:
    cut = (tag.strip().lstrip("#")[:LONGEST_TAG] for tag in tags)
    return tuple(dict.fromkeys(tag for tag in cut if tag))[:MOST_TAGS]


def write(
    run: Run, name: str | None = None, tags: str | Sequence[str] | None = None, note: str | None = None
) -> Notes:
    """Changes the given fields. ``tags`` may be one text, separated by spaces or commas. Raises LabError when
    the file cannot be written, or is damaged: a damaged file is not overwritten."""
    try:
        notes = _load(run)
    except FileNotFoundError:
        notes = Notes()
    except OSError as error:
        raise LabError(f"run {run.id}: {FILE} cannot be read ({error.strerror or error})") from None
    except LabError as error:
        raise LabError(f"run {run.id}: {error}; correct or delete the file") from None
    if name is not None:
        notes = replace(notes, name=name)
    if tags is not None:
        listed = tags.replace(",", " ").split() if isinstance(tags, str) else tags
        notes = replace(notes, tags=tuple(listed))
    if note is not None:
        notes = replace(notes, note=note)
    notes = _bounded(notes)
    try:
        write_atomically(run.path / FILE, to_json(notes) + "\n")
    except OSError as error:
        raise LabError(f"run {run.id}: the note cannot be written ({error.strerror or error})") from None
    return notes
