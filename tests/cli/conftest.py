"""Everything that a command prints for programs in these tests is compared with the committed JSON schema."""

from __future__ import annotations

import json

import pytest

from tests.cli.json_check import problems
from tui_lab.cli import follow, logs, output
from tui_lab.core import records


def _to_json(value: object) -> str:
    text = records.to_json(value)
    assert problems(json.loads(text)) == []
    return text


@pytest.fixture(autouse=True)
def _output_is_in_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    def jsonable(value: object) -> object:
        return json.loads(_to_json(value))

    monkeypatch.setattr(output, "jsonable", jsonable)
    for module in (output, follow, logs):
        monkeypatch.setattr(module, "to_json", _to_json)
