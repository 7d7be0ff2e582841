"""What may import what, and how soon the command line answers, looked at in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes")
#: Imports of the lab and of the command line: none may bring a heavy library.
LIGHT = (
    "tui_lab.cli.main", "tui_lab.cli.show", "tui_lab.cli.train", "tui_lab.cli.follow", "tui_lab.recipes.recipe",
    "tui_lab.recipes.presets", "tui_lab.recipes.resolve", "tui_lab.models.catalog", "tui_lab.hardware.gpu", "tui_lab.doctor",
    "tui_lab.pocket", "tui_lab.runs.folder", "tui_lab.runs.events", "tui_lab.runs.commands",
    "tui_lab.cli.queue", "tui_lab.runs.queue.queue", "tui_lab.runs.queue.runner", "tui_lab.runs.index",
    "tui_lab.runs.comparison", "tui_lab.ui.screens.runs",
    "tui_lab.runs.launch", "tui_lab.runs.state", "tui_lab.runs.cost_so_far",
    "tui_lab.report.write", "tui_lab.runs.replay",
    "tui_lab.data.formats", "tui_lab.data.bundled", "tui_lab.ui.app", "tui_lab.ui.views.saved_comparison",
    "tui_lab.ui.screens.inspector", "tui_lab.ui.screens.blind", "tui_lab.ui.screens.export",
    "tui_lab.ui.screens.dashboard", "tui_lab.ui.demo.app", "tui_lab.export.request", "tui_lab.playground.client",
    "tui_lab.playground.messages", "tui_lab.retention.suites.registry", "tui_lab.retention.statistics", "tui_lab.playground.votes",
)  # fmt: skip
#: Runs, jobs and what they are made of work where there is no terminal library.
WITHOUT_TEXTUAL = (
    "tui_lab.cli.main", "tui_lab.cli.train", "tui_lab.runs.state", "tui_lab.runs.launch", "tui_lab.data.preview",
    "tui_lab.cli.queue", "tui_lab.runs.queue.runner", "tui_lab.runs.index", "tui_lab.runs.comparison",
    "tui_lab.recipes.resolve", "tui_lab.training.__main__", "tui_lab.playground.__main__", "tui_lab.playground.worker",
    "tui_lab.playground.client", "tui_lab.playground.votes", "tui_lab.core.settings_file", "tui_lab.ui.demo.recording",
)  # fmt: skip


def loaded_by(module: str, names: tuple[str, ...]) -> set[str]:
    """Which of ``names`` are in ``sys.modules`` once ``module`` is imported, in a fresh interpreter."""
    code = f"import sys, {module}; print(*(n for n in {names!r} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", LIGHT)
def test_the_lab_and_the_command_line_load_nothing_heavy(module: str) -> None:
    assert loaded_by(module, HEAVY) == set()


@pytest.mark.parametrize("module", WITHOUT_TEXTUAL)
def test_runs_and_jobs_load_no_textual(module: str) -> None:
    assert loaded_by(module, ("textual",)) == set()


def test_the_grammar_alone_loads_next_to_nothing() -> None:
    ours = ("pydantic", "rich", "textual", "tomllib", "json", "psutil", "platformdirs")
    assert loaded_by("tui_lab.cli.main", ours) == set()


def test_the_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.exists():
        pytest.skip("import-linter is not installed")
    root = Path(__file__).parent.parent
    done = subprocess.run([linter, "--no-cache"], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
