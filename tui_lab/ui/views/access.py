"""What is known of the files that a run needs. A module of its own, because the first frame needs it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Access:
    """What is known of the files that a run needs. ``asking``: what is being asked; ``problem``: why it
    could not begin, and ``of`` whether that is its "model", its "data" or the "rows" of it;
    ``missing_bytes``: what is downloaded first."""

    asking: str = ""
    problem: str = ""
    of: str = "model"
    missing_bytes: int | None = None
