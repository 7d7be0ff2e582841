"""The recording that ``tui-lab demo --replay`` plays: the event logs and retention results of the two runs
and the answers of the Playground, from a demo that was played live. One zip file without weights, which
names the date and the machine. Imports neither torch nor textual."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.runs.folder import Run

SHIPPED = Path(__file__).parent / "recording.zip"
ABOUT, ANSWERS, RUNS = "about.json", "answers.jsonl", "runs"
#: Files of a run that its panes read.
RUN_FILES = ("recipe.toml", "events.jsonl", "retention/everyday.json")
#: Limits on the unpacked recording; the shipped one has 8 files with 0.8 MB.
MAX_BYTES, MAX_FILES = 32 << 20, 64


class About(msgspec.Struct, frozen=True):
    """``about.json``. ``runs`` maps the names of the demo's runs to run ids."""

    runs: dict[str, str]
    date: str = ""
    machine: str = ""
    versions: dict[str, str] = {}

    @property
    def label(self) -> str:
        """When and where the recording was made, for the screen."""
        return sanitize(", ".join(filter(None, (self.date, self.machine)))) or "at an unknown time"


class RecordedAnswer(msgspec.Struct, frozen=True):
    """One line of ``answers.jsonl``: a prompt, and what the playground process sent for it. ``events`` are
    (seconds since the request, kind, fields); ``status`` are the fields of a PlaygroundStatus."""

    prompt: str
    lanes: tuple[str, ...]
    events: tuple[tuple[float, str, dict[str, object]], ...]
    perplexities: tuple[float, ...]
    status: dict[str, object] = {}


@dataclass(frozen=True)
class Recording:
    """An unpacked recording. ``runs`` are its runs by name."""

    about: About
    runs: Mapping[str, Run]
    answers: tuple[RecordedAnswer, ...]

    @property
    def label(self) -> str:
        return self.about.label


def unpack(folder: Path, archive: Path = SHIPPED) -> Recording:
    """Unpacks an archive below ``folder``. Raises LabError when it is missing or damaged."""
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if _is_wanted(member.filename)]
            if len(members) > MAX_FILES or sum(member.file_size for member in members) > MAX_BYTES:
                raise LabError(f"{archive.name} is larger than a recording of the demo")
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source:  # never more than the size that it declares
                    target.write_bytes(source.read(MAX_BYTES))
        return read(folder)
    except FileNotFoundError:
        raise LabError(f"the recording of the demo ({archive.name}) is missing: reinstall tui-lab") from None
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise LabError(
            f"the recording of the demo cannot be read ({sanitize(str(error))}): reinstall tui-lab"
        ) from None


def _is_wanted(name: str) -> bool:
    """Whether a member of the archive belongs to a recording; paths that lead outside do not."""
    if name in (ABOUT, ANSWERS):
        return True
    top, _, rest = name.partition("/")
    run_id, _, file = rest.partition("/")
    return top == RUNS and run_id not in ("", ".", "..") and "\\" not in run_id and file in RUN_FILES


def read(folder: Path) -> Recording:
    """Reads an unpacked recording, or the folder of ``demo --keep``. Raises LabError."""
    try:
        about = msgspec.convert(json.loads((folder / ABOUT).read_text(encoding="utf-8")), About)
        lines = (folder / ANSWERS).read_text(encoding="utf-8").splitlines()
        answers = tuple(msgspec.convert(json.loads(line), RecordedAnswer) for line in lines)
    except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise LabError(f"{folder.name} holds no recording of the demo: {sanitize(str(error))}") from None
    runs = {name: Run(folder / RUNS / Path(run_id).name) for name, run_id in about.runs.items()}
    return Recording(about, runs, answers)


def pack(folder: Path, archive: Path) -> None:
    """Packs the folder of ``demo --keep``. The same files give the same archive. Raises LabError when a file
    is missing."""
    recording = read(folder)
    names = [ABOUT, ANSWERS]
    names += [f"{RUNS}/{run.id}/{name}" for run in recording.runs.values() for name in RUN_FILES]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise LabError(f"the demo was not played to its end: {', '.join(missing)} missing")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name in names:
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            packed.writestr(member, (folder / name).read_bytes())
