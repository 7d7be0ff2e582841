"""The first line of the card: one obstacle with its key, and a start in green only for what can start."""

from __future__ import annotations

from typing import Any

from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.recipes.recipe import Recipe
from tui_lab.ui.views.access import Access
from tui_lab.ui.views.forecast import ForecastView
from tui_lab.ui.views.recipe_summary import RecipeSummary, summarise
from tui_lab.ui.views.start_check import download_line, headline

GIB = 1 << 30
L4 = DeviceFacts("cuda", "NVIDIA L4", 24 * GIB, True, 8)
KEYS = {"start": "s", "models": "m", "data": "d", "fields": "h"}


def summary(
    free_gib: int = 20, problem: str = "", **values: Any
) -> tuple[RecipeSummary, ForecastView | None]:
    budget = MemoryBudget(L4, free_gib * GIB, "NVIDIA L4", "free now on", problem=problem)
    found = summarise({**Recipe().model_dump(), **values}, "minute", {}, L4, budget)
    view = ForecastView(found.estimate, keys={"fit": "f", "ways": "F"}) if found.estimate else None
    return found, view


def line(found: tuple[RecipeSummary, ForecastView | None], access: Access = Access()) -> str:  # noqa: B008
    return headline(*found, access, KEYS).plain


def test_what_can_start_names_the_key_in_green() -> None:
    found = summary()
    assert line(found) == "▶ s starts the run"
    assert any("success" in str(span.style) for span in headline(*found, Access(), KEYS).spans)


def test_one_obstacle_with_its_key() -> None:
    over = summary(1, model="Qwen/Qwen2.5-1.5B")
    for found, access, words in (
        (over, Access(), "✗ does not fit: "),
        (
            summary(problem="the driver is too old"),
            Access(),
            "✗ No run can start here: the driver is too old",
        ),
        (summary(), Access(problem="it is gated"), "✗ it is gated · m chooses another"),
        (over, Access(problem="no such file", of="data"), "✗ no such file · d chooses another"),
        (summary(), Access(problem="no format", of="rows"), "✗ no format · d shows why"),
        (summary(lora_r=0), Access(), "✗ lora_r"),
        (summary(model="no-such"), Access(), "✗ model 'no-such' is not known"),
        (summary(), Access(asking="checking gemma…"), "◌ checking gemma…"),
    ):
        text = line(found, access)
        assert text.startswith(words) and "starts the run" not in text, text
    assert line(summary(lora_r=0)).endswith("· h changes it")
    assert line(summary(model="no-such")).endswith("· m changes it")


def test_a_download_is_named_before_it_begins() -> None:
    found = summary(model="google/gemma-3-270m")
    text = line(found, Access(missing_bytes=GIB))
    assert text == "▶ s downloads 1 GiB and starts the run"
    shown = download_line(found[0], Access(missing_bytes=GIB))
    assert (
        shown is not None
        and "1 GiB; gated: accept the licence at huggingface.co/google/gemma-3-270m" in shown.plain
    )
    assert download_line(summary()[0], Access()) is None


def test_one_figure_of_memory_on_the_screen() -> None:
    """No rule of thumb stands beside the forecast."""
    found, view = summary(
        20, model="google/gemma-2-2b", method="full", learning_rate=1e-5, optim="adamw_8bit"
    )
    assert view is not None and view.estimate.verdict == "over"
    assert not any("GiB" in warning for warning in found.warnings), found.warnings
