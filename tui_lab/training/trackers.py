"""Figures reported elsewhere (TensorBoard, Weights & Biases, Trackio), by the Trainer's own ``report_to`` and
only where a recipe asks. What is set here keeps their files in the run's folder and their runs under the
run's name, so that a resumed run goes on in the same curve there; what people set themselves is left alone.
"""

from __future__ import annotations

import os

from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.folder import Run

#: What the lab's runs are filed under, where a tracker has projects and none is named.
PROJECT = "tui-lab"


def prepare(recipe: Recipe, run: Run) -> None:
    """Settings of the trackers that the recipe names, before they are loaded."""
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
