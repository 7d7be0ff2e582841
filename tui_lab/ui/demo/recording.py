"""The demo's recording: what a demo that was played live left (the event logs of its two runs, what was
measured of them, the answers of Compare as they came), packed into one zip that ships with the lab. It holds
no weights, and says when and on what machine it was made. Imports no torch and no textual."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.runs.folder import Run

SHIPPED = Path(__file__).parent / "recording.zip"
ABOUT, ANSWERS, RUNS = "about.json", "answers.jsonl", "runs"
#: What is kept of a run's folder: what its panes draw from.
RUN_FILES = ("recipe.toml", "events.jsonl", "retention/everyday.json")
#: A recording is small: more than this is none.
MOST_BYTES = 32 << 20


@dataclass(frozen=True)
class Recording:
    """An unpacked recording. ``runs`` are its runs by their part in the story."""

    about: Mapping[str, Any]
    runs: Mapping[str, Run]
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Where and when it was made, for the screen."""
        words = (str(self.about.get(key) or "") for key in ("date", "machine"))
        return sanitize(", ".join(word for word in words if word)) or "at an unknown time"


def unpack(folder: Path, archive: Path = SHIPPED) -> Recording:
    """The recording, its files below ``folder``. Raises LabError when there is none that can be read."""
    try:
        with zipfile.ZipFile(archive) as packed:
            members = packed.infolist()
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise LabError(f"{archive.name} is larger than a recording of the demo is")
            for member in members:
                path = PurePosixPath(member.filename)
                if path.is_absolute() or ".." in path.parts or member.is_dir():
                    continue
                target = folder.joinpath(*path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(packed.read(member))
        return read(folder)
    except FileNotFoundError:
        raise LabError(f"the recording of the demo ({archive.name}) is missing: reinstall tui-lab") from None
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        raise LabError(
            f"the recording of the demo cannot be read ({sanitize(str(error))}): reinstall tui-lab"
        ) from None


def read(folder: Path) -> Recording:
    """The recording in a folder: one that was unpacked, or what a live demo kept. Raises LabError."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        lines = (folder / ANSWERS).read_text(encoding="utf-8").splitlines()
        answers = [json.loads(line) for line in lines]
        runs = {str(part): Run(folder / RUNS / Path(str(id)).name) for part, id in about["runs"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"{folder.name} holds no recording of the demo: {sanitize(str(error))}") from None
    return Recording(about, runs, answers)


def pack(folder: Path, archive: Path) -> None:
    """Packs what a live demo kept; the same files always make the same archive. Raises LabError where
    something of it is missing."""
    recording = read(folder)
    wanted = [ABOUT, ANSWERS]
    wanted += [f"{RUNS}/{run.id}/{name}" for run in recording.runs.values() for name in RUN_FILES]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise LabError(f"the demo did not come to its end: {', '.join(missing)} missing")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name in wanted:
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            packed.writestr(member, (folder / name).read_bytes())
