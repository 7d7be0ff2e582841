"""The lab's tests never touch a person's own runs, themes or hub cache."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
import textual._wait
from textual.css import stylesheet
from textual.css.model import RuleSet
from textual.css.tokenize import Token

from tui_lab.core import job_client
from tui_lab.hardware import memory_budget
from tui_lab.runs import launch
from tui_lab.runs.folder import Run
from tui_lab.ui.screens.playground import PlaygroundPane
from tui_lab.ui.views.welcome import MARK

# After each key the pilot waits until the app has done nothing for 20 ms, twice; a quarter of that shows it
# as well, and the suite presses thousands of keys.
textual._wait.SLEEP_GRANULARITY /= 4
textual._wait.SLEEP_IDLE /= 4

# Each app parses the same style sheets, a third of its start: the tests start hundreds of apps.
_parse, _tokenize = stylesheet.parse, stylesheet.tokenize_values
_tokens: dict[tuple[tuple[str, str], ...], dict[str, list[Token]]] = {}
_rules: dict[tuple[object, ...], tuple[RuleSet, ...]] = {}


def _tokenize_once(variables: dict[str, str]) -> dict[str, list[Token]]:
    key = tuple(variables.items())
    if key not in _tokens:
        _tokens[key] = _tokenize(variables)
    return _tokens[key]


def _parse_once(*text: Any, variable_tokens: dict[str, list[Token]], **options: Any) -> tuple[RuleSet, ...]:
    key = (*text, id(variable_tokens), *options.items())  # the tokens live as long as the tests
    if key not in _rules:
        _rules[key] = tuple(_parse(*text, variable_tokens=variable_tokens, **options))
    return _rules[key]


cast("Any", stylesheet).tokenize_values = _tokenize_once
cast("Any", stylesheet).parse = _parse_once


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs, config and cache below the test's own folder; returns the folder of runs."""
    monkeypatch.setenv("TUI_LAB_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("TUI_LAB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("TUI_LAB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def been_here(tmp_path: Path) -> Path:
    """The lab was started before: its words of welcome would lie over what tests look at."""
    mark = tmp_path / "state" / MARK
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    return mark


@pytest.fixture(autouse=True)
def plenty_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a run is asked about before it starts does not depend on how full this machine is."""
    monkeypatch.setattr(memory_budget, "available_bytes", lambda *_: 64 << 30)


class Child:
    """Stands for the process of a run that was started."""

    def poll(self) -> None:
        return None


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Runs that were launched, instead of launching them."""
    runs: list[Run] = []

    def start(run: Run, environment: object = None) -> Any:
        runs.append(run)
        return Child()

    monkeypatch.setattr(launch, "start", start)
    return runs


@pytest.fixture
def warm_up() -> None:
    """For tests of the playground process: Playground starts it with the bundled model."""


@pytest.fixture(autouse=True)
def no_processes_beside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setup and Playground start processes that most tests have no use for, each seconds of work."""
    run_job = job_client.run_job

    async def run_job_unless_preview(module: str, *request: Any, **options: Any) -> Any:
        if module == "tui_lab.data.preview":
            await asyncio.Event().wait()
        return await run_job(module, *request, **options)

    if "jobs_here" not in request.fixturenames:
        monkeypatch.setattr(job_client, "run_job", run_job_unless_preview)
    if "warm_up" not in request.fixturenames:
        monkeypatch.setattr(PlaygroundPane, "_warm_up", lambda _pane: None)
