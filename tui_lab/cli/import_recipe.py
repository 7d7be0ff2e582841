"""``tui-lab import``: a recipe of axolotl, LLaMA-Factory, Unsloth or trl becomes a preset."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from msgspec import Struct

from tui_lab.cli.options import EXIT_OK
from tui_lab.cli.output import Answer, as_json, note, table
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.paths import expanded, user_dir
from tui_lab.core.sanitize import sanitize
from tui_lab.recipes import other_tools
from tui_lab.recipes.other_tools import TOOLS, ImportedKey


class OtherKey(Struct, frozen=True):
    """What became of a key: ``outcome`` is taken (as the recipe key ``to``), same (without a setting) or
    cannot (``reason``)."""

    key: str
    value: str
    outcome: str
    to: str
    reason: str


class ImportAnswer(Answer, tag="import", kw_only=True, frozen=True):
    """The answer of ``import``. ``path``: the preset that was written; ``problems``: values in it that do not
    go together."""

    tool: str
    path: str
    preset: str
    items: list[OtherKey]
    problems: list[str]


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    found = other_tools.read(args.file, args.tool or None)
    target = _target(args)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, found.to_toml(Path(args.file).name))
    keys = [_record(key) for key in found.keys]
    own = target.parent == user_dir("presets")
    preset = target.stem if own else str(target)
    if args.json:
        as_json(
            ImportAnswer(
                tool=found.tool, path=str(target), preset=preset, items=keys, problems=list(found.problems)
            )
        )
        return EXIT_OK
    print(f"{TOOLS[found.tool]} recipe {sanitize(Path(args.file).name)}: {_counts(keys)}")
    table(("key", "value", "", "here"), [_row(key) for key in keys])
    for problem in found.problems:
        note(f"tui-lab: {sanitize(problem)}")
    print(f"written to {sanitize(str(target))}; start it with `tui-lab train --preset {sanitize(preset)}`")
    return EXIT_OK


def _target(args: argparse.Namespace) -> Path:
    """Where the preset is written. Raises LabError where a file is there already."""
    name = re.sub(r"[^a-z0-9]+", "-", Path(args.file).stem.lower()).strip("-")[:40] or "imported"
    target: Path = expanded(args.out) if args.out else user_dir("presets") / f"{name}.toml"
    if target.suffix != ".toml":
        raise LabError(f"--out {sanitize(str(target))}: a preset's name ends with .toml")
    if target.exists() and not args.force:
        raise LabError(f"{sanitize(str(target))} exists already; --force replaces it, --out writes elsewhere")
    return target


def _record(key: ImportedKey) -> OtherKey:
    return OtherKey(key.key, sanitize(str(key.value))[:200], key.outcome, key.to, key.reason)


def _counts(keys: list[OtherKey]) -> str:
    number = {name: sum(key.outcome == name for key in keys) for name in ("taken", "same", "cannot")}
    return f"{number['taken']} keys taken, {number['same']} the same here, {number['cannot']} not possible"


def _row(key: OtherKey) -> tuple[str, str, str, str]:
    mark = {"taken": "✓ taken", "same": "= same", "cannot": "✗ cannot"}[key.outcome]
    return (
        key.key,
        key.value,
        mark,
        f"{key.to}: {key.reason}" if key.to and key.reason else key.to or key.reason,
    )
