"""The verdicts on what a run kept, each with its glyph and its word: the one table for panes, reports and
texts. Colour never says a verdict alone."""

from __future__ import annotations

from typing import Any

VERDICTS: dict[str, tuple[str, str]] = {
    "green": ("✓", "kept"),
    "amber": ("~", "undecided"),
    "red": ("✗", "forgotten"),
    "cannot_tell": ("?", "cannot tell"),
}


def verdict_label(verdict: Any) -> str:
    """Glyph and word; of a verdict that a newer version brings, its own name."""
    name = str(verdict)
    return " ".join(VERDICTS.get(name, (name.replace("_", " "),)))
