"""Loads a run's base model and its adapter into the playground process."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING

from tui_lab.runs.folder import Run
from tui_lab.runs.notes import short_name

if TYPE_CHECKING:
    from tui_lab.playground.client import PlaygroundClient

#: Longest name of an adapter in lanes: it stands in their titles.
LONGEST_NAME = 24
#: What a lane's text or peft's names of modules cannot hold.
_REPLACED = re.compile(r"[^\w-]+")


def lane_name(run: Run, taken: Iterable[str] = ()) -> str:
    """The short name of a run as one word, with a number if another run has that name."""
    word = _REPLACED.sub("-", short_name(run)).strip("-")[:LONGEST_NAME].strip("-") or "tuned"
    used = {"base", *taken}
    return next(name for n in count(1) if (name := word if n == 1 else f"{word}-{n}") not in used)


async def load_base(client: PlaygroundClient, run: Run) -> None:
    """Loads the base model of a run, unless it is loaded. Raises LabError."""
    recipe = run.recipe()
    if client.wants != recipe.model:
        await client.load(recipe.model, revision=recipe.revision, allow_large=recipe.allow_large)


async def load_tuned(client: PlaygroundClient, run: Run, location: str = "") -> str:
    """Loads what a run saved next to its base, unless it is there; returns its name in lanes. ``location``:
    the run as the user named it. Raises LabError."""
    places = (location or str(run.path), run.id, str(run.path))
    if client.wants not in places:
        await load_base(client, run)
    for name, place in client.added.items():
        if place in places:
            return name
    name = lane_name(run, client.added)
    await client.add(name, places[0])
    return name
