"""The verdicts on retention, each with its glyph and its word, for panes, reports and texts: a verdict is
never shown by colour alone."""

from __future__ import annotations

from typing import Any

VERDICTS: dict[str, tuple[str, str]] = {
    "green": ("✓", "kept"),
    "amber": ("~", "undecided"),
    "red": ("✗", "forgotten"),
    "cannot_tell": ("?", "cannot tell"),
}


def verdict_label(verdict: Any) -> str:
    """Glyph and word; for a verdict of a newer version its own name."""
    name = str(verdict)
    return " ".join(VERDICTS.get(name, (name.replace("_", " "),)))
