"""What may import what: the layers of the package, no circles, and which libraries a process may load."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from typing import Any

import pytest

from tests.imports import PACKAGE, circles, import_graph
from tests.paths import ROOT

HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes")
#: Modules of the lab and of the command line: none may load a heavy library.
LIGHT = (
    "tui_lab.cli.main", "tui_lab.cli.show", "tui_lab.cli.train", "tui_lab.cli.follow",
    "tui_lab.recipes.recipe", "tui_lab.recipes.presets", "tui_lab.recipes.resolve",
    "tui_lab.models.catalog", "tui_lab.hardware.gpu", "tui_lab.doctor", "tui_lab.pocket",
    "tui_lab.runs.folder", "tui_lab.runs.events", "tui_lab.runs.commands", "tui_lab.cli.queue",
    "tui_lab.runs.queue.queue", "tui_lab.runs.queue.runner", "tui_lab.runs.index",
    "tui_lab.runs.comparison", "tui_lab.ui.screens.runs", "tui_lab.runs.launch", "tui_lab.runs.state",
    "tui_lab.runs.cost_so_far", "tui_lab.report.write", "tui_lab.runs.replay", "tui_lab.data.formats",
    "tui_lab.data.bundled", "tui_lab.ui.app", "tui_lab.ui.views.saved_comparison",
    "tui_lab.ui.screens.inspector", "tui_lab.ui.screens.blind", "tui_lab.ui.screens.export",
    "tui_lab.ui.demo.app", "tui_lab.export.records", "tui_lab.playground.client",
    "tui_lab.playground.messages", "tui_lab.retention.suites.registry", "tui_lab.retention.statistics",
    "tui_lab.playground.votes",
)  # fmt: skip
#: Runs, jobs and their parts work where no terminal library is installed.
WITHOUT_TEXTUAL = (
    "tui_lab.cli.main", "tui_lab.cli.train", "tui_lab.runs.state", "tui_lab.runs.launch",
    "tui_lab.data.preview", "tui_lab.cli.queue", "tui_lab.runs.queue.runner", "tui_lab.runs.index",
    "tui_lab.runs.comparison", "tui_lab.recipes.resolve", "tui_lab.training.__main__",
    "tui_lab.playground.__main__", "tui_lab.playground.worker", "tui_lab.playground.client",
    "tui_lab.playground.votes", "tui_lab.core.settings_file", "tui_lab.ui.demo.recording",
)  # fmt: skip
_IMPORTER = """
import importlib, json, sys
modules, libraries = json.loads(sys.argv[1])
found = {}
for module in modules:
    importlib.import_module(module)
    for library in libraries:
        if library in sys.modules:
            found.setdefault(library, module)
print(json.dumps(found))
"""


def loaded_by(modules: tuple[str, ...], libraries: tuple[str, ...]) -> dict[str, str]:
    """Imports ``modules`` in order in one fresh interpreter: library -> the module that loaded it."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTER, json.dumps([modules, libraries])],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_lab_and_the_command_line_load_no_heavy_library() -> None:
    assert loaded_by(LIGHT, HEAVY) == {}


def test_runs_and_jobs_load_no_textual() -> None:
    assert loaded_by(WITHOUT_TEXTUAL, ("textual",)) == {}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        (  # the grammar alone
            "tui_lab.cli.main",
            ("pydantic", "rich", "textual", "tomllib", "json", "psutil", "platformdirs", "msgspec"),
        ),
        (  # the first frame
            "tui_lab.ui.app",
            (
                "pydantic",
                "json",
                "msgspec",
                "tui_lab.decoding",
                "tui_lab.playground",
                "tui_lab.data",
                "tui_lab.models",
            ),
        ),
    ],
)
def test_a_start_loads_next_to_nothing(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*(n for n in {absent!r} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return import_graph()


@pytest.fixture(scope="module")
def contract() -> dict[str, Any]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (only,) = config["tool"]["importlinter"]["contracts"]
    assert isinstance(only, dict)
    return only


def test_no_import_circle_of_any_kind(graph: dict[str, set[str]]) -> None:
    """Imports inside functions and under TYPE_CHECKING count."""
    assert circles(graph) == []


def test_the_layers_contract_names_every_package_and_excuses_no_import(contract: dict[str, Any]) -> None:
    assert contract["type"] == "layers" and contract["exhaustive"] is True
    assert not {"ignore_imports", "unmatched_ignore_imports_alerting"} & set(contract)
    named = {
        name for layer in contract["layers"] for name in layer.replace(":", "|").replace(" ", "").split("|")
    }
    folders = {path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")}
    assert named == folders
    loose = {path.stem for path in (ROOT / PACKAGE).glob("*.py")} - {"__init__"}
    assert loose == set(contract["exhaustive_ignores"])


def test_each_package_imports_only_packages_below_it(
    graph: dict[str, set[str]], contract: dict[str, Any]
) -> None:
    """The contract, over all imports (`lint-imports` checks the same with its own graph)."""
    level = {
        name: number
        for number, layer in enumerate(contract["layers"])
        for name in layer.replace(" ", "").split("|")
    }
    faults = []
    for module, imported in graph.items():
        package = module.split(".")[1:2]
        for other in sorted(imported):
            below = other.split(".")[1:2]
            if not package or not below or package == below or package == ["__main__"]:
                continue
            if level[below[0]] <= level[package[0]]:
                faults.append(f"{module} imports {other}")
    assert faults == []


def test_each_type_name_has_one_meaning() -> None:
    """No public class or alias of types is defined in two modules (the builder is not shipped)."""
    modules = defaultdict(set)
    for path in (ROOT / PACKAGE).rglob("*.py"):
        if "builder" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].add(path)
            # an alias of types looks like Name = Union[...], Name = A | B or Name: TypeAlias = ...
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
                for target in node.targets:
                    if isinstance(target, ast.Name) and re.match(r"[A-Z][A-Za-z]*[a-z]", target.id):
                        modules[target.id].add(path)
    repeated = {name: sorted(map(str, paths)) for name, paths in modules.items() if len(paths) > 1}
    assert repeated == {}
