"""The imports of the package, read from its source: at module level, inside functions and for typing."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.paths import ROOT

PACKAGE = "tui_lab"


def module_name(path: Path) -> str:
    """``tui_lab/runs/__init__.py`` is ``tui_lab.runs``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports, wherever in its source the import stands."""
    paths = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
    graph: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                # "from package import module" imports the module, "from module import name" the module too
                wanted = {f"{node.module}.{each.name}" for each in node.names}
                found = {each if each in paths else node.module for each in wanted}
            elif isinstance(node, ast.Import):
                found = {each.name for each in node.names}
            else:
                continue
            graph[name] |= {each for each in found if each in paths and each != name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan 1972), each sorted by name."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        stack.append(module)
        for other in graph[module]:
            if other not in index:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], index[other])
        if lowest[module] == index[module]:
            position = stack.index(module)
            component = sorted(stack[position:])
            del stack[position:]
            if len(component) > 1:
                found.append(component)

    for module in graph:
        if module not in index:
            visit(module)
    return sorted(found)
