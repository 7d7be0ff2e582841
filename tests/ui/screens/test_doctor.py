"""The doctor inside the lab: checks as they come from the child, which ends with the screen."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

from tests.ui.helpers import screen_text, until
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.doctor import DoctorScreen

TWO = """
import pathlib, time
print('{"name": "torch", "state": "fail", "found": "cannot be [b]used\\\\u001b[31m", "advice": "install it"}',
      flush=True)
while not pathlib.Path(%r).exists():
    time.sleep(0.02)
print('{"name": "hub", "state": "ok", "found": "not asked", "advice": ""}', flush=True)
"""


def child(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


async def test_the_checks_come_one_by_one_and_end_with_what_to_do(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    app = LabApp()
    async with app.run_test(size=(80, 40)) as pilot:
        await until(lambda: app.pane and "starts the run" in screen_text(app))
        screen = DoctorScreen(child(TWO % str(gate)))
        app.push_screen(screen)
        await until(lambda: "more are running" in screen_text(app))
        await until(lambda: "torch" in screen_text(app))
        assert "cannot be [b]used␛[31m" in screen_text(app) and "✗ fail  torch" in screen_text(app)
        assert "hub" not in [check.name for check in screen.found]
        gate.write_text("")
        await until(lambda: "1. torch: install it" in screen_text(app))
        assert "Training is not possible yet" in screen_text(app)
        assert [check.name for check in screen.found][-5:] == [
            "torch",
            "hub",
            "settings",
            "themes",
            "presets",
        ]
        gate.unlink()
        await pilot.press("r")
        await until(lambda: "more are running" in screen_text(app))
        gate.write_text("")
        await until(lambda: "1. torch: install it" in screen_text(app))


async def test_a_child_that_dies_is_told_and_one_that_hangs_ends_with_the_screen() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 40)) as pilot:
        await until(lambda: app.pane and "starts the run" in screen_text(app))
        await app.push_screen(DoctorScreen(child("raise SystemExit(3)")))
        await until(lambda: "ended early" in screen_text(app))
        await pilot.press("escape")
        hanging = DoctorScreen(child("import time; time.sleep(600)"))
        await app.push_screen(hanging)
        await until(lambda: hanging._child is not None)
        assert hanging._child is not None
        process = psutil.Process(hanging._child.pid)
        await pilot.press("escape")
        await until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


async def test_d_opens_it() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.pane and "starts the run" in screen_text(app))
        await pilot.pause()
        await pilot.press("D")
        await until(lambda: isinstance(app.screen, DoctorScreen) and "colours" in screen_text(app))
        await pilot.press("q")
        await until(lambda: len(app.screen_stack) == 1)
