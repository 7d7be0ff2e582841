"""Tokenizer files that transformers does not read by itself, and what to say of those that it cannot read."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tui_lab.data.chat_template import MAX_SOURCE_CHARS

LEGACY_TEMPLATE = "chat_template.json"


class _LegacyTemplate(msgspec.Struct):
    chat_template: str | list[dict[str, str]] = ""


def legacy_template(folder: Path | None) -> str | dict[str, str]:
    """The chat template of ``chat_template.json``, which older models have in place of
    ``chat_template.jinja``; "" without one that can be read. Named variants come as a dictionary."""
    path = folder / LEGACY_TEMPLATE if folder is not None else None
    try:
        if path is None or not path.is_file() or path.stat().st_size > MAX_SOURCE_CHARS:
            return ""
        found = msgspec.json.decode(path.read_bytes(), type=_LegacyTemplate).chat_template
    except (OSError, msgspec.MsgspecError, RecursionError):
        return ""
    if isinstance(found, str):
        return found
    return {part.get("name", ""): part.get("template", "") for part in found}
