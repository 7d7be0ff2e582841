"""Trackers are used when a recipe asks for them, and not even imported otherwise. The packages here are
stand-ins that write down what the Trainer's own callbacks hand them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.training.conftest import recipe_for
from tui_lab.core.errors import LabError
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models.catalog import find
from tui_lab.recipes import resolve as resolution
from tui_lab.recipes.recipe import build
from tui_lab.recipes.resolve import resolve
from tui_lab.runs.folder import Run
from tui_lab.training import trackers
from tui_lab.training.trainer import LabTrainer

CPU = DeviceFacts("cpu", "cpu", 0, True, 1)
TRACKIO = """
import json, os
class _Space:
    def get(self): return None
class context_vars: current_space_id = _Space()
def _write(kind, *args, **kwargs):
    with open(os.environ["HEARD"], "a") as file:
        file.write(json.dumps([kind, *map(str, args), {k: str(v) for k, v in kwargs.items()}]) + "\\n")
class _Config(dict):
    def update(self, *args, **kwargs): _write("config")
config = _Config()
def init(**kwargs): _write("init", **kwargs)
def log(metrics, **kwargs): _write("log", *sorted(metrics))
def finish(): _write("finish")
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand-ins for all three where they would be found, and the file they write to."""
    site = tmp_path / "site"
    site.mkdir()
    for name in ("wandb", "tensorboard", "tensorboardX"):
        (site / f"{name}.py").write_text("raise AssertionError('imported')")
    (site / "trackio.py").write_text(TRACKIO)
    (site / "trackio-0.30.0.dist-info").mkdir()
    (site / "trackio-0.30.0.dist-info" / "METADATA").write_text("Name: trackio\nVersion: 0.30.0\n")
    heard = tmp_path / "heard"
    monkeypatch.setenv("HEARD", str(heard))
    monkeypatch.syspath_prepend(str(site))
    yield heard
    sys.modules.pop("trackio", None)


def test_no_tracker_is_imported_by_default(packages: Path, make_trainer: Callable[..., LabTrainer]) -> None:
    make_trainer(recipe_for(max_steps=1)).train()
    assert not {"wandb", "tensorboard", "tensorboardX", "trackio"} & set(sys.modules)
    assert not packages.exists()


def test_trackers_receive_the_figures(packages: Path, make_trainer: Callable[..., LabTrainer]) -> None:
    from transformers.utils import import_utils

    for name in ("is_trackio_available",):
        clear = getattr(getattr(import_utils, name, None), "cache_clear", None)
        if clear:
            clear()
    make_trainer(recipe_for(max_steps=2, report_to="trackio")).train()
    heard = [json.loads(line) for line in packages.read_text().splitlines()]
    [begun] = [each for each in heard if each[0] == "init"]
    assert begun[-1]["project"] == "tui-lab" and begun[-1]["space_id"] == "None"  # on this machine only
    logged = [each for each in heard if each[0] == "log"]
    assert any("train/loss" in each for each in logged)
    assert not {"wandb", "tensorboard"} & set(sys.modules)


@pytest.mark.parametrize(
    ("report_to", "package"), [("wandb", "wandb"), ("tensorboard,trackio", "tensorboard")]
)
def test_missing_package_is_refused_before_the_start(
    report_to: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolution, "find_spec", lambda name: None)
    with pytest.raises(LabError) as refused:
        resolve(build({"report_to": report_to}), CPU, find("pocket"))
    assert f"pip install {package}" in str(refused.value) and "\n" not in str(refused.value)
    resolve(build({}), CPU, find("pocket"))


def test_notes_name_where_figures_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolution, "find_spec", lambda name: object())
    found = resolve(build({"report_to": "tensorboard, wandb"}), CPU, find("pocket"))
    assert [c.value for c in found.reasons if c.field == "report_to"] == ["tensorboard", "wandb"]
    assert not [c for c in resolve(build({}), CPU, find("pocket")).reasons if c.field == "report_to"]


def test_tracker_files_are_in_the_run_folder_by_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = (
        "TENSORBOARD_LOGGING_DIR", "WANDB_PROJECT", "WANDB_DIR", "WANDB_RUN_ID", "WANDB_RESUME",
    )  # fmt: skip
    for name in names:
        monkeypatch.setenv(name, "x")  # put back as it was afterwards
        monkeypatch.delenv(name)
    run = Run(tmp_path / "some-run")
    trackers.prepare(build({}), run)
    assert not set(names) & set(os.environ)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    trackers.prepare(build({"report_to": "wandb,tensorboard"}), run)
    assert os.environ["WANDB_PROJECT"] == "mine"
    assert os.environ["WANDB_RUN_ID"] == "some-run" and os.environ["WANDB_DIR"] == str(run.path)
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(run.path / "tensorboard")
