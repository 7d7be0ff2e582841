"""The main job as a person does it: open the lab, press start, watch, and find an adapter on disk that plain
peft loads. The run is a real one, shortened by editing two fields with the keyboard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.ui.helpers import screen_text, until
from tui_lab.runs.folder import open_run
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.setup import SetupPane

HEAVY = {"torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes"}
STEPS = 4


@pytest.mark.slow
async def test_from_a_fresh_start_to_an_adapter_by_keys_alone() -> None:
    before = set(sys.modules)
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app), 60)
        choose = app.screen
        assert isinstance(choose, SetupPane)
        await pilot.press("h")
        for key, value in (("max_steps", str(STEPS)), ("score_rows", "4")):
            choose.form.go_to(key)
            await pilot.press("enter", "ctrl+u", *value, "enter")
        await until(lambda: choose.values["max_steps"] == STEPS)
        await pilot.press("s")
        await until(lambda: app.pane == "train", 30)
        ended = ("✓ finished", "✗ failed", "✗ crashed")
        try:
            await until(lambda: any(word in screen_text(app) for word in ended), 560, "the end of the run")
        finally:
            for child in app.runs.children:  # a run outlives the lab, but must not outlive a failed test
                child.terminate()
        text = screen_text(app)
        assert "✓ finished" in text and f"{STEPS}/{STEPS} steps" in text, text
        assert "loss" in text and "validation" in text and "adapter saved" in text
        run = open_run(app.run_id)
        await pilot.press("q")
        await until(lambda: not app.is_running)
    # tests that ran earlier in this process may have imported them: what counts is what the lab added
    assert not (set(sys.modules) - before) & HEAVY
    assert sorted(path.name for path in run.adapter_path.glob("adapter_*")) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert read_adapter(run.adapter_path) > 0


def read_adapter(path: Path) -> float:
    """How far the adapter moved from its start, as plain peft reads it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tui_lab.pocket import MODEL_DIR

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(MODEL_DIR), str(path))
    return sum(float(p.detach().abs().sum()) for n, p in model.named_parameters() if "lora_B" in n)
