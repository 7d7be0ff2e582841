"""``python -m tests.metrics``: size and structure of the package in figures, for notes on a change."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from tests.imports import PACKAGE, circles, import_graph
from tests.paths import ROOT

#: What the wheel leaves out.
NOT_SHIPPED = ROOT / PACKAGE / "pocket" / "builder"
LONG_LINES = 500


def metrics() -> dict[str, float]:
    """Each figure by its name."""
    paths = [path for path in sorted((ROOT / PACKAGE).rglob("*.py")) if not path.is_relative_to(NOT_SHIPPED)]
    texts: dict[Path, str] = {path: path.read_text("utf-8") for path in paths}
    lines = sum(text.count("\n") for text in texts.values())
    graph = import_graph()
    packages: dict[str, set[str]] = defaultdict(set)
    for module, imported in graph.items():
        own = ".".join(module.split(".")[:2])
        packages[own] |= {".".join(each.split(".")[:2]) for each in imported} - {own}
    loose = [path for path in (ROOT / PACKAGE).glob("*.py") if not path.name.startswith("__")]
    return {
        "product lines in the wheel": lines,
        "Python files in the wheel": len(texts),
        "packages": sum((ROOT / PACKAGE / name.rpartition(".")[2]).is_dir() for name in packages),
        "imports between packages": sum(len(imported) for imported in packages.values()),
        "circles of modules, over all imports": len(circles(graph)),
        "circles of packages, over all imports": len(
            circles({k: v & packages.keys() for k, v in packages.items()})
        ),
        "modules loose at the root": len(loose),
        "Any per 1,000 lines": 1000
        * sum(len(re.findall(r"\bAny\b", text)) for text in texts.values())
        / lines,
        f"modules over {LONG_LINES} lines": sum(text.count("\n") > LONG_LINES for text in texts.values()),
    }


if __name__ == "__main__":
    for name, value in metrics().items():
        print(f"{name:<40} {value:>10,.{0 if value == int(value) else 1}f}")
