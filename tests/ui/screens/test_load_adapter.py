"""Adapters bear the short names of their runs, and what is loaded is used again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.messages import LoadRequest, PlaygroundStatus
from tui_lab.playground.names import lane_name
from tui_lab.recipes.recipe import build
from tui_lab.runs import folder, notes
from tui_lab.ui.screens.load_adapter import load_tuned


@pytest.fixture
def run(runs_dir: Path) -> folder.Run:
    del runs_dir
    return folder.create(build({"model": "pocket"}), name="keeper")


class PaperClient(PlaygroundClient):
    """Loads at once, without a process; knows how often."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []

    async def load(self, model: str, **how: Any) -> PlaygroundStatus:
        self.loads.append(model)
        self._load, self._added = LoadRequest(model), {}
        self.status = PlaygroundStatus("ready", names=("base",))
        return self.status

    async def add(self, name: str, location: str) -> PlaygroundStatus:
        self.loads.append(name)
        assert name not in self._added
        self._added[name] = location
        self.status = PlaygroundStatus("ready", names=("base", *self._added))
        return self.status


def test_names_are_words_that_lanes_and_modules_can_hold(run: folder.Run) -> None:
    assert lane_name(run).startswith("keeper-")
    for name, word in (("My shop = 2.0, final", "My-shop-2-0-final"), ("…", "tuned"), ("base", "base-2")):
        notes.write(run, name=name)
        assert lane_name(run) == word
    notes.write(run, name="x" * 80)
    assert lane_name(run) == "x" * 24
    assert lane_name(run, ["x" * 24]) == "x" * 24 + "-2"


async def test_a_run_is_loaded_once_also_after_its_memory_was_freed(run: folder.Run) -> None:
    client = PaperClient()
    name = await load_tuned(client, run, run.id)
    assert client.loads == ["pocket", name]
    assert await load_tuned(client, run) == name, "by its path"
    client.status = PlaygroundStatus("ready")  # the memory was freed
    assert client.names == ("base", name)
    assert await load_tuned(client, run, run.id) == name
    assert client.loads == ["pocket", name]
    other = folder.create(build({"model": "pocket"}), name="keeper")
    assert await load_tuned(client, other, other.id) != name
    assert len(client.added) == 2


async def test_a_run_that_is_loaded_as_the_model_is_used(run: folder.Run) -> None:
    client = PaperClient()
    client._load, client._run_name = LoadRequest(run.id), "keeper"
    assert await load_tuned(cast("PlaygroundClient", client), run, run.id) == "keeper"
    assert client.loads == []
