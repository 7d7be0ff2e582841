"""An action: one thing that a key does, where it works, and its texts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """``group`` is where the action works: everywhere ("app"), on one pane, in one kind of widget, or on one
    kind of modal screen."""

    id: str
    keys: str  # Textual's names, separated by commas; "" for an action of the palette and the help only
    action: str  # what Textual runs
    label: str  # one or two words, for the footer
    tooltip: str  # a sentence, for the help and the palette
    group: str = "app"
    show: bool = False  # in the footer
    display: str = ""  # how the footer writes the keys; "" for the first key
