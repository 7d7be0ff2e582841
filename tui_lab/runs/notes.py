"""What people write on a run: another name, tags, a note. It lies in ``notes.json`` of the run's folder,
never in its log, which is the run's own account."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.runs.folder import Run

FILE = "notes.json"
MOST_TAGS, LONGEST_TAG, LONGEST_NAME, LONGEST_NOTE = 20, 40, 80, 2_000


@dataclass(frozen=True)
class Notes:
    """``name`` is shown in place of the folder's name, which stays the run's id."""

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""


def read(run: Run) -> Notes:
    """What is written on a run; nothing where the file is missing or damaged."""
    try:
        value = json.loads((run.path / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return Notes()
    return _marks(value) if isinstance(value, dict) else Notes()


def _marks(value: dict[str, Any]) -> Notes:
    tags = value.get("tags")
    found = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    name, note = (text if isinstance(text := value.get(key), str) else "" for key in ("name", "note"))
    return Notes(name[:LONGEST_NAME], _tags(found), note[:LONGEST_NOTE])


def _tags(words: Iterable[str]) -> tuple[str, ...]:
    cut = (word.strip().lstrip("#")[:LONGEST_TAG] for word in words)
    return tuple(dict.fromkeys(word for word in cut if word))[:MOST_TAGS]


def write(run: Run, **changes: Any) -> Notes:
    """Changes ``name``, ``tags`` or ``note``. ``tags`` may be one text of words. Raises LabError."""
    if isinstance(changes.get("tags"), str):
        changes["tags"] = changes["tags"].replace(",", " ").split()
    marks = _marks(
        {key: list(v) if key == "tags" else v for key, v in asdict(replace(read(run), **changes)).items()}
    )
    try:
        write_atomically(run.path / FILE, json.dumps({"v": 1, **asdict(marks)}, ensure_ascii=True) + "\n")
    except OSError as error:
        raise LabError(f"run {run.id}: the note cannot be written ({error.strerror or error})") from None
    return marks
