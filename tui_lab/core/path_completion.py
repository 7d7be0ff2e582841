"""Completes a path that is typed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tui_lab.core.paths import expanded

#: Entries of a folder that are looked at.
MOST_ENTRIES = 5_000


def looks_like_path(text: str) -> bool:
    """Whether a name that is typed is meant as a path."""
    return text.startswith(("/", "~", "./", "../")) or text in (".", "..")


def completions(
    text: str, accepts: Callable[[os.DirEntry[str]], bool] = lambda _: True, most: int = 50
) -> list[str]:
    """The paths that ``text`` begins, as they would be typed: folders end with a slash; hidden ones only
    once their dot is typed. Files are left out unless ``accepts`` takes them. Reads one folder; empty where
    it cannot."""
    head, _, begin = text.rpartition("/")
    typed = f"{head}/" if "/" in text else ""
    if text in ("~", ".", ".."):
        return [f"{text}/"]
    found = []
    try:
        with os.scandir(expanded(Path(typed or "."))) as entries:
            for number, entry in enumerate(entries):
                if number >= MOST_ENTRIES:
                    break
                name = entry.name
                if not name.lower().startswith(begin.lower()) or (name.startswith(".") and not begin):
                    continue
                if entry.is_dir():
                    found.append(f"{typed}{name}/")
                elif accepts(entry):
                    found.append(f"{typed}{name}")
    except (OSError, ValueError):
        return []
    return sorted(found, key=lambda path: (path.startswith("."), path.lower()))[:most]


def common_start(text: str, found: list[str]) -> str:
    """What all completions begin with, at least ``text``."""
    first, last = min(found, default=""), max(found, default="")
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:same] if same > len(text) else text
