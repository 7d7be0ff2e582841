"""The verdicts on what a run kept, each with its glyph and its word: the one table for panes, reports and
texts. Colour never says a verdict alone."""

from __future__ import annotations

VERDICTS: dict[str, tuple[str, str]] = {
    "green": ("✓", "kept"),
    "amber": ("~", "undecided"),
    "red": ("✗", "forgotten"),
    "cannot_tell": ("?", "cannot tell"),
}
