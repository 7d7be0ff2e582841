"""Loads a run's base model and its adapter into the playground process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_lab.playground.names import lane_name
from tui_lab.runs.folder import Run

if TYPE_CHECKING:
    from tui_lab.playground.client import PlaygroundClient


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
