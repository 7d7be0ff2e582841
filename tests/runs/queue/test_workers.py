"""The devices of the queue's workers and the forecast of memory on each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tui_lab.core.errors import LabError
from tui_lab.forecast.estimate import RunEstimate
from tui_lab.hardware import memory_budget
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder
from tui_lab.runs.queue import workers

GIB = 1 << 30
CARD = MemoryBudget(DeviceFacts("cuda", "NVIDIA L4", 24 * GIB, True, 4), 20 * GIB, "NVIDIA L4", "", "GPU-a")


def test_without_a_gpu_workers_share_the_processors() -> None:
    assert workers.parse("", 3) == ("cpu", "cpu", "cpu")
    assert workers.parse("", 1) == () and workers.parse("", None) is None


def test_workers_take_the_first_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [CARD, replace(CARD, uuid="GPU-b")]
    monkeypatch.setattr(memory_budget, "detect", lambda: cards)
    monkeypatch.setattr(workers, "budget_of", {card.uuid: card for card in cards}.__getitem__)
    assert workers.parse("", 2) == ("GPU-a", "GPU-b")
    assert workers.parse("GPU-a, GPU-a", None) == ("GPU-a", "GPU-a")
    with pytest.raises(LabError, match="2 GPUs are visible; `--devices 0,0`"):
        workers.parse("", 3)


@pytest.mark.parametrize(
    ("devices", "count", "message"),
    [
        ("7", None, "there is no GPU '7' here; `tui-lab doctor`"),
        ("cpu,,cpu", None, "there is no GPU ''"),
        ("0,1", 2, "leave out --workers"),
        ("", 0, "1 to 64 workers, not 0"),
        ("", 65, "not 65"),
    ],
)
def test_what_is_no_device_is_refused(devices: str, count: int | None, message: str) -> None:
    with pytest.raises(LabError, match=message):
        workers.parse(devices, count)


def test_each_device_has_a_forecast_and_workers_of_one_share_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = folder.create(Recipe(model="pocket"), tmp_path)
    large = folder.create(Recipe(model="Qwen/Qwen2.5-1.5B", method="full"), tmp_path)
    cards = {"0": CARD, "1": replace(CARD, free_bytes=200 * GIB)}
    monkeypatch.setattr(workers, "budget_of", cards.__getitem__)
    computed: list[tuple[str, int | None]] = []
    own = workers.forecast

    def counted(recipe: Recipe, budget: MemoryBudget) -> RunEstimate:
        computed.append((recipe.model, budget.free_bytes))
        return own(recipe, budget)

    monkeypatch.setattr(workers, "forecast", counted)
    once, twice, again = workers.forecasts(["0", "1", "1"], [small, large])
    assert len(computed) == len({*computed}) == 4, "once for each run on each of the two cards"
    assert (once.waiting, once.fitting, once.largest) == (2, 1, large.id)
    assert (twice.fitting, twice.free_bytes) == (2, 100 * GIB) and again == twice
    assert once.largest_bytes is not None and 20 * GIB < once.largest_bytes < 100 * GIB
    assert workers.free_device(("0", "1"), [], large.recipe()) == "1"
    assert workers.free_device(("0", "1"), ["0", "1"], large.recipe()) is None
    assert workers.free_device(("0", "1"), ["1"], large.recipe()) == "0", (
        "it says itself that it does not fit"
    )


def test_a_device_that_is_gone_is_listed_with_its_reason(tmp_path: Path) -> None:
    (found,) = workers.forecasts(["GPU-gone"], [folder.create(Recipe(), tmp_path)])
    assert "there is no GPU 'GPU-gone'" in found.label and found.fitting == 0
