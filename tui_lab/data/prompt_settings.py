"""The prompt settings of a run: its thinking setting and the date that its chat template writes. They are
saved as ``prompt.json`` beside the chat template, so that prompts are rendered as in the training."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from tui_lab.core import files, input_files
from tui_lab.core.records import from_json, to_json

FILE = "prompt.json"
#: The date of templates in measurements of a base that no run was made from: a cached baseline of another day
#: must have the same tokens. It is the date that Llama 3.2's template writes without a clock.
FIXED_DATE = "2024-07-26"
ThinkingMode = Literal["auto", "on", "off"]
_WRITES_DATE = re.compile(r"strftime_now|date_string")


class PromptSettings(msgspec.Struct, frozen=True):
    """``mode``: thinking by the rows' own answers ("auto"), or always on or off. ``thinking``: what a prompt
    without a row asks for. ``date``, as 2026-11-30, is "today" for the template; "" means the real date.
    ``template_sha256``: of the chat template; ``template_file``: the recipe's, "" for the model's own."""

    mode: ThinkingMode = "auto"
    thinking: bool = False
    date: str = ""
    template_sha256: str = ""
    template_file: str = ""
    v: int = 1

    @property
    def day(self) -> datetime | None:
        """The date, None for the real one."""
        try:
            return datetime.fromisoformat(self.date) if self.date else None
        except ValueError:
            return None


def read(folder: Path) -> PromptSettings | None:
    """The settings in a folder, None where it has none (older runs, adapters of others). Raises LabError for
    a damaged file."""
    try:
        text = input_files.read_bytes(folder / FILE, 1 << 16)
    except OSError:
        return None
    return from_json(text, PromptSettings, FILE)


def write(folder: Path, settings: PromptSettings) -> None:
    """Writes the settings into a folder. Raises OSError."""
    files.write_atomically(folder / FILE, to_json(settings) + "\n")


def date_of(timestamp: float) -> str:
    """The date of a time in seconds, in UTC, so that it does not depend on where the lab runs."""
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()


def digest(template: str) -> str:
    """The hash of a chat template."""
    return hashlib.sha256(template.encode("utf-8", "replace")).hexdigest()


def writes_date(template: str) -> bool:
    """Whether a chat template writes the date into what it renders."""
    return _WRITES_DATE.search(template) is not None


def with_defaults(template: str, settings: PromptSettings) -> str:
    """The chat template for programs that know nothing of the settings: where they leave thinking and date
    open, it takes those of the run."""
    switch = str(settings.thinking).lower()
    defaults = {"enable_thinking": switch, "thinking": switch}
    if settings.day is not None:
        defaults["date_string"] = f"'{settings.day:%d %b %Y}'"
    lines = [
        f"{{%- if {name} is not defined %}}{{%- set {name} = {value} %}}{{%- endif %}}"
        for name, value in defaults.items()
        if re.search(rf"(?<![.\w'\"]){name}\b", template)
    ]
    begins = "".join(lines)
    return template if template.startswith(begins) else begins + template
