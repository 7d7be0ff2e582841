"""The verdicts on retention, each with its glyph and its word, for panes, reports and texts: a verdict is
never shown by colour alone."""

from __future__ import annotations

#: In place of a retention that says nothing: the base itself hardly knows the suite.
NOT_MEASURABLE = "n/a: base at chance"
#: The verdict on the base compared with itself, before any training.
BASELINE = "baseline"

VERDICTS: dict[str, tuple[str, str]] = {
    "green": ("✓", "kept"),
    "amber": ("~", "undecided"),
    "red": ("✗", "forgotten"),
    "cannot_tell": ("?", NOT_MEASURABLE),
    BASELINE: ("·", "baseline measured"),
}


def verdict_label(verdict: str) -> str:
    """Glyph and word; for a verdict of a newer version its own name."""
    return " ".join(VERDICTS.get(verdict, (verdict.replace("_", " "),)))
