"""The pages and workflows of the repository: files that they name exist, versions agree, YAML is valid."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import tui_lab

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FOLDERS = (
    "", "tui_lab", "tui_lab/retention/suites", "tui_lab/decoding", "tui_lab/training", "tui_lab/recipes",
    "tests/runs", "tui_lab/ui",
)  # fmt: skip


def test_files_named_in_contributing_exist() -> None:
    """Paths relative to the repository or to the folder that their paragraph is about; NAME is a
    placeholder."""
    named = re.findall(r"`([\w./-]+\.(?:py|toml|jsonl|md)|(?:tests|tui_lab|presets)/[\w/]+)`", CONTRIBUTING)
    missing = [
        name
        for name in named
        if "NAME" not in name
        and name != "events.jsonl"
        and not any((ROOT / folder / name).exists() for folder in FOLDERS)
    ]
    assert len(named) > 30 and missing == []


def test_names_in_contributing_exist() -> None:
    """Identifiers of the recipes, which renames must follow."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tui_lab").rglob("*.py"))
    recipes = CONTRIBUTING.split("## How to add")[1].split("## Glossary")[0]
    names = re.findall(r"`(?:\w+\.)?([A-Z][A-Z_]{3,}|[A-Z][a-z]+[A-Z]\w+|make_\w+)`", recipes)
    assert {"PARAMETERS", "FAMILIES", "BUNDLED", "KINDS", "MODES"} <= set(names)
    assert [name for name in names if not re.search(rf"\b{name}\b", sources)] == []


def test_the_glossary_has_at_most_30_words() -> None:
    rows = re.findall(r"^\| ([\w, ]+) \|", CONTRIBUTING.split("## Glossary")[1], re.MULTILINE)[1:]
    assert 20 <= len(rows) <= 30


def test_every_recipe_has_ten_lines_or_fewer() -> None:
    recipes = re.split(r"\n\*\*an? ", CONTRIBUTING.split("## How to add")[1].split("## Glossary")[0])[1:]
    assert len(recipes) == 8
    assert max(len(recipe.strip().splitlines()) for recipe in recipes) <= 10


def test_the_changelog_has_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{tui_lab.__version__}]" in text and "## [Unreleased]" in text


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/**/*.yml")), ids=lambda path: path.name)
def test_yaml_is_valid(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_the_workflow_tests_the_python_versions_of_the_package() -> None:
    workflow: Any = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert matrix["python"] == versions and project["requires-python"] == f">={versions[0]}"
    assert matrix["os"] == ["ubuntu-latest", "macos-latest"]


def test_pre_commit_runs_the_programs_of_the_environment() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    entries = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    assert [entry.split()[0] for entry in entries] == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/mypy"]
