"""Loads a run's base model and its adapter into the playground process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_lab.runs.folder import Run

if TYPE_CHECKING:
    from tui_lab.playground.client import PlaygroundClient


async def load_base(client: PlaygroundClient, run: Run) -> None:
    """Loads the base model of a run, unless it is loaded. Raises LabError."""
    recipe = run.recipe()
    if client.wants != recipe.model:
        await client.load(recipe.model, revision=recipe.revision, allow_large=recipe.allow_large)


async def load_tuned(client: PlaygroundClient, run: Run, location: str = "") -> str:
    """Loads what a run saved next to its base; returns its name in lanes. ``location``: the run as the user
    named it. Raises LabError."""
    await load_base(client, run)
    names = client.status.names
    name = next(n for n in ("tuned", *(f"tuned{i}" for i in range(2, 99))) if n not in names)
    await client.add(name, location or str(run.path))
    return name
