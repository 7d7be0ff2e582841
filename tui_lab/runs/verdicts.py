"""The verdicts on retention, each with its glyph and its word, for panes, reports and texts: a verdict is
never shown by colour alone."""

from __future__ import annotations

VERDICTS: dict[str, tuple[str, str]] = {
    "green": ("✓", "kept"),
    "amber": ("~", "undecided"),
    "red": ("✗", "forgotten"),
    "cannot_tell": ("?", "cannot tell"),
}


def verdict_label(verdict: str) -> str:
    """Glyph and word; for a verdict of a newer version its own name."""
    return " ".join(VERDICTS.get(verdict, (verdict.replace("_", " "),)))
