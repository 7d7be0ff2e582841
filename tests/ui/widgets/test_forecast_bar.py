"""The stacked bar: lengths against shares computed by hand, a letter for every component, nothing cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from tests.records import probe_answer
from tests.ui.helpers import screen_text
from tui_lab.forecast import remedies as fit
from tui_lab.forecast.estimate import RunEstimate, estimate, with_probe
from tui_lab.forecast.memory import LABELS, MemoryForecast, MemoryPart
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.models import catalog
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.resolve import resolve, unresolved
from tui_lab.ui.views.forecast import EDGE, FREE, MARKS, UNSURE, ForecastView, bar, cells, lines
from tui_lab.ui.widgets.forecast_bar import ForecastBar

GIB = 1 << 30
GPU = DeviceFacts("cuda", "NVIDIA L4", 24 * GIB, True, 8)
KEYS = {"fit": "x", "ways": "X", "probe": "e", "gpu": "g", "calibrate": "k"}


def memory(weights: int = 4, activations: int = 3, context: int = 1, high: int = 10) -> MemoryForecast:
    sizes = {"weights": weights, "activations": activations, "context": context}
    parts = tuple(MemoryPart(name, LABELS[name], size * GIB) for name, size in sizes.items())
    total = sum(part.bytes for part in parts)
    return MemoryForecast(parts, total, total - GIB, high * GIB, "cuda", "backward pass")


def estimated(free_gib: int | None, model: str = "Qwen/Qwen2.5-1.5B", preset: str = "premium") -> RunEstimate:
    entry = catalog.find(model)
    recipe = make_recipe(preset, model=model, fill_card=False)
    room = MemoryBudget(
        GPU, None if free_gib is None else free_gib * GIB, "GPU 1: NVIDIA L4", "free now on", "GPU-1"
    )
    return estimate(recipe, entry, resolve(recipe, GPU, entry).values, room)


def remedies(found: RunEstimate, model: str = "Qwen/Qwen2.5-1.5B") -> tuple[fit.Remedy, ...]:
    entry = catalog.find(model)
    assert entry.shape is not None
    recipe = make_recipe("premium", model=model, fill_card=False)
    return tuple(fit.remedies(entry.shape, recipe, GPU, found.budget.free_bytes, entry))


def test_the_bar_has_the_scale_of_free_memory() -> None:
    # 20 cells for 20 GiB free: 4 of weights, 3 of activations, 1 of context, 2 up to the upper bound
    assert bar(memory(), 20 * GIB, 22).plain == "[WWWWAAAc" + UNSURE * 2 + FREE * 10 + "]"


def test_an_edge_marks_the_free_memory_when_it_is_exceeded() -> None:
    # 8 cells for the sum of 8 GiB, and the edge after 6
    assert bar(memory(), 6 * GIB, 11).plain == f"[WWWWAA{EDGE}Ac]"


def test_unknown_free_memory_ends_at_the_upper_bound() -> None:
    assert bar(memory(), None, 12).plain == "[WWWWAAAc" + UNSURE * 2 + "]"


@given(
    sizes=st.lists(st.integers(1, 10**12), min_size=1, max_size=9),
    free=st.none() | st.integers(0, 10**12),
    width=st.integers(8, 200),
)
def test_the_bar_has_its_width_and_each_part_its_share(
    sizes: list[int], free: int | None, width: int
) -> None:
    parts = tuple(MemoryPart(name, name, size) for name, size in zip(MARKS, sizes, strict=False))
    total = sum(part.bytes for part in parts)
    found = MemoryForecast(parts, total, total, round(total * 1.2), "cuda")
    assert len(bar(found, free, width)) == width
    for part, count in cells(parts, total, width):
        assert abs(count - part.bytes / total * width) <= 1


def test_every_component_has_a_distinct_letter() -> None:
    assert set(MARKS) == set(LABELS)
    letters = [letter for letter, _ in MARKS.values()]
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("mode", ["brief", "legend", "full"])
def test_a_forecast_over_the_limit_names_remedy_and_key(mode: str) -> None:
    found = estimated(10)
    assert found.memory is not None
    ways = remedies(found)
    text = "\n".join(line.plain for line in lines(ForecastView(found, ways, keys=KEYS), 60, mode))  # type: ignore[arg-type]
    assert "✗ does not fit" in text and "GiB short" in text
    assert f"x makes it fit: {ways[0].text}" in text and f"X: {len(ways)} ways" in text
    assert "(GPU 1)" in text or "GPU 1: NVIDIA L4" in text
    assert "time " in text
    if mode == "full":
        for part in found.memory.parts:
            assert part.label in text


def test_the_probe_is_shown_next_to_the_forecast() -> None:
    found = with_probe(estimated(40), probe_answer(12 * GIB, 7.25, "backward"))
    assert found.memory is not None and found.probe is not None
    beside = found.memory.total_bytes - found.memory.tensors_bytes
    assert found.probe.total_bytes == 12 * GIB + beside
    text = "\n".join(line.plain for line in lines(ForecastView(found, keys=KEYS), 60, "full"))
    assert "counted exactly, in 7.2 s" in text and "e counts" not in text
    assert found.verdict == fit.FITS


def test_a_model_of_unknown_shape_names_the_probe() -> None:
    entry = replace(catalog.find("Qwen/Qwen2.5-0.5B"), shape=None, model_type=None)
    recipe = make_recipe("starter", model="Qwen/Qwen2.5-0.5B")
    found = estimate(
        recipe, entry, unresolved(recipe), MemoryBudget(GPU, 20 * GIB, "NVIDIA L4", "free now on")
    )
    text = "\n".join(line.plain for line in lines(ForecastView(found, keys=KEYS), 60, "brief"))
    assert "exact count" in text and "(e)" in text and "does not fit" not in text
    assert found.verdict == fit.UNKNOWN
    found = with_probe(found, probe_answer(30 * GIB, 1.0, "loss"))
    text = "\n".join(line.plain for line in lines(ForecastView(found, keys=KEYS), 60, "brief"))
    assert "counted exactly" in text and "✗ does not fit: 10" in text


def test_an_applied_remedy_names_the_key_that_undoes_it() -> None:
    text = "\n".join(
        line.plain for line in lines(ForecastView(estimated(80), (), applied=True, keys=KEYS), 60, "full")
    )
    assert "✓ fits" in text and "x undoes it" in text


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40), (200, 60)])
async def test_nothing_is_cut_at_any_size(size: tuple[int, int]) -> None:
    class Host(App[None]):
        def compose(self) -> ComposeResult:
            yield ForecastBar()

    found = estimated(16)
    app = Host()
    async with app.run_test(size=size) as pilot:
        widget = app.query_one(ForecastBar)
        assert not widget.display
        widget.show(ForecastView(found, remedies(found), keys=KEYS, places=2))
        await pilot.pause()
        shown = " ".join(screen_text(app).split())
        whole = " ".join(widget.content(widget.size.width).plain.split())
        assert whole in shown
        widget.show(None)
        await pilot.pause()
        assert not widget.display
