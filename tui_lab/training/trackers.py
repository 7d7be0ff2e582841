"""Reporting to TensorBoard, Weights & Biases or Trackio by the Trainer's ``report_to``, where a recipe asks.

The settings here keep their files in the run's folder and their runs under the run's name, so that a resumed
run continues the same curve. Variables that are set already are not changed.
"""

from __future__ import annotations

import os

from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.folder import Run

#: The project of the lab's runs, for trackers that have projects.
PROJECT = "tui-lab"


def prepare(recipe: Recipe, run: Run) -> None:
    """Sets the environment of the trackers that the recipe names; to be called before they are imported."""
    wanted = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": str(run.path / "tensorboard")},
        "wandb": {
            "WANDB_PROJECT": PROJECT,
            "WANDB_DIR": str(run.path),
            "WANDB_RUN_ID": run.id,
            "WANDB_RESUME": "allow",
        },
    }
    for tracker in recipe.trackers:
        for name, value in wanted.get(tracker, {}).items():
            os.environ.setdefault(name, value)
