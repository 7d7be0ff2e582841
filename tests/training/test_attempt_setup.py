"""What an attempt does before data and model are prepared: its download, written as events."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from tests.models.fake_hub import HUB_ID, serve
from tests.records import read_log
from tui_lab.core.errors import LabError
from tui_lab.models import catalog
from tui_lab.models.loading import ModelSource
from tui_lab.pocket import MODEL_DIR
from tui_lab.runs.events import EventWriter
from tui_lab.training import attempt_setup
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
