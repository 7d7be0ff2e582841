"""What an action is: one thing that can be done with a key, where it works, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """One thing to do. ``group`` is where it works: everywhere ("app"), on one pane, in one kind of widget,
    or on one kind of screen that lies over a pane."""

    id: str
    keys: str  # Textual's names, commas between; "" for what only the palette and the help offer
    action: str  # what Textual runs
    label: str  # a word or two, for the footer
    tooltip: str  # a sentence, for help and palette
    group: str = "app"
    show: bool = False  # in the footer
    display: str = ""  # how the footer writes the keys, where the first of them would say too little
