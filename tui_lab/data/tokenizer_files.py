"""Tokenizer files that transformers does not read without help, and messages for unreadable ones."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tui_lab.core import input_files
from tui_lab.data.chat_template import MAX_SOURCE_CHARS

LEGACY_TEMPLATE = "chat_template.json"


class _LegacyTemplate(msgspec.Struct):
    chat_template: str | list[dict[str, str]] = ""


def legacy_template(folder: Path | None) -> str | dict[str, str]:
    """The chat template of ``chat_template.json``, which older models have in place of
    ``chat_template.jinja``; "" without one that can be read. Named variants come as a dictionary."""
    if folder is None:
        return ""
    try:
        content = input_files.read_bytes(folder / LEGACY_TEMPLATE, MAX_SOURCE_CHARS)
        found = msgspec.json.decode(content, type=_LegacyTemplate).chat_template
    except (OSError, msgspec.MsgspecError, RecursionError):
        return ""
    if isinstance(found, str):
        return found
    return {part.get("name", ""): part.get("template", "") for part in found}
