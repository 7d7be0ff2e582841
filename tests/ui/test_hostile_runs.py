"""The lab answers keys whatever lies in the runs folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.paths import ROOT
from tests.ui.helpers import until
from tui_lab.runs import folder
from tui_lab.ui.app import LabApp

WRITTEN = ROOT / "tests" / "fixtures" / "caf9144"
LONG = "word " * 180_000


def _replace(path: Path, target: str = "") -> None:
    """A pipe in place of a file, or a link to a device."""
    path.unlink(missing_ok=True)
    if target:
        path.symlink_to(target)
    else:
        os.mkfifo(path)


async def test_every_pane_opens_over_hostile_runs(runs_dir: Path) -> None:
    shutil.copytree(WRITTEN / "runs", runs_dir)
    blocked, long = (folder.open_run(name, runs_dir) for name in ("crashed", "finished"))
    for name in ("events.jsonl", "commands.jsonl", "notes.json", "retention/everyday.json"):
        _replace(blocked.path / name)
    _replace(blocked.log_path, "/dev/zero")
    _replace(runs_dir / ".index.json")
    _replace(runs_dir / ".queue" / "queue.json")
    text = long.recipe_path.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("sample_prompt")]
    long.recipe_path.write_text("\n".join([f'sample_prompt = "{LONG}"', *lines]))
    assert long.recipe().sample_prompt == LONG
    with long.events_path.open("a") as file:
        file.write(f'{{"v": 1, "t": 1, "kind": "warning", "text": "{LONG * 10}"}}\n' * 3)
        file.write("x" * (20 << 20))
    for run in (blocked, long):
        app = LabApp(run_id=run.id, pane="runs")
        async with app.run_test(size=(120, 40)) as pilot:
            await until(lambda app=app: app.first_frame.drawn)
            for key, pane in (("f3", "train"), ("f5", "retention"), ("f6", "runs")):
                await pilot.press(key)
                await until(lambda app=app, pane=pane: app.pane == pane)
                await pilot.pause()
            assert app._exception is None
