"""What an attempt does before data and model are prepared: its download and its unquantised layers,
written as events."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from tests.models.fake_hub import HUB_ID, serve
from tests.records import read_log
from tui_lab.core.errors import LabError
from tui_lab.models import catalog, dynamic_4bit
from tui_lab.models.dynamic_4bit import LayerError
from tui_lab.models.loading import ModelSource
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import build
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.training import attempt_setup, base_model
from tui_lab.training.attempt_records import AttemptContext, ResolvedRecipe


class _Context:
    def __init__(self, path: Path) -> None:
        self.events = EventWriter(path)


class _Resolved:
    source = ModelSource(HUB_ID)


def test_a_run_downloads_its_model_and_reports_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "events.jsonl"
    context, resolved = cast(AttemptContext, _Context(log)), cast(ResolvedRecipe, _Resolved())
    monkeypatch.setattr(attempt_setup, "DOWNLOAD_EVENT_S", 0.0)
    with serve(MODEL_DIR, tmp_path / "hub", monkeypatch) as hub:
        hub.status, hub.error_code = 403, "GatedRepo"
        with pytest.raises(LabError, match="it is gated"):
            attempt_setup.download_model(context, resolved)
        assert log.read_bytes() == b""
        hub.status = 200
        attempt_setup.download_model(context, resolved)
        events = read_log(log)
        hub.requests.clear()
        attempt_setup.download_model(context, resolved)
        assert hub.requests == [] and read_log(log) == events
    assert {event["kind"] for event in events} == {"download"} and len(events) > 2
    done = [event["done_bytes"] for event in events]
    assert done == sorted(done) and done[-1] == events[-1]["total_bytes"] > 8_000_000
    assert catalog.find(HUB_ID).on_disk


class _Group:
    """A process of several; what the first one broadcasts is ``sent``."""

    def __init__(self, is_main: bool, sent: object = None) -> None:
        self.is_main, self.sent = is_main, sent

    def broadcast(self, value: object) -> object:
        self.sent = value if self.is_main else self.sent
        return self.sent


def test_the_first_process_measures_which_layers_stay_unquantised_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, resolved = _Context(tmp_path / "events.jsonl"), _Resolved()
    context.recipe = build({"model": "pocket", "quantization": "nf4", "unquantized_budget": 20.0})  # type: ignore[attr-defined]
    context.run = Run(tmp_path)  # type: ignore[attr-defined]
    resolved.values = ResolvedValues(  # type: ignore[attr-defined]
        compute_dtype="float32", optim="adamw_torch", max_length=64, quantization="nf4"
    )
    measured: list[str] = []

    def measure(*_: object) -> list[LayerError]:
        measured.append("")
        return [LayerError("x", 0.1, 10), LayerError("y", 0.2, 2)]

    monkeypatch.setattr(base_model, "load_model", lambda *_, **__: object())
    monkeypatch.setattr(dynamic_4bit, "measure", measure)
    first = _Group(is_main=True)
    for group in (first, first, _Group(is_main=False)):
        group.sent = first.sent
        context.group = group  # type: ignore[attr-defined]
        attempt_setup._choose_unquantized(cast(AttemptContext, context), cast(ResolvedRecipe, resolved))
    assert len(measured) == 1 and dynamic_4bit.names_of(tmp_path) == ("y",)
    events = read_log(tmp_path / "events.jsonl")
    assert [event["kind"] for event in events] == ["phase", "choice", "choice", "choice"]
    assert {str(event["value"]) for event in events[1:]} == {"['y']"}
