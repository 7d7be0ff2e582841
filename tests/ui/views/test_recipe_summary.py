"""The summary of a recipe against numbers computed by hand."""

from __future__ import annotations

import shlex
from typing import Any

from tui_lab.hardware.device import DeviceFacts
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.recipe import Recipe
from tui_lab.ui.views.access import Access
from tui_lab.ui.views.recipe_summary import command_line, summarise
from tui_lab.ui.views.summary_text import summary_content

CPU = DeviceFacts("cpu", "the CPU", 16 << 30, False, 2)
GPU = DeviceFacts("cuda", "A GPU", 24 << 30, True, 8)


def values(**changes: Any) -> dict[str, Any]:
    return {**Recipe().model_dump(), **changes}


def test_trained_parameters_of_lora_on_qwen_by_hand() -> None:
    # Qwen2.5-0.5B: 24 layers, hidden 896, 14 heads of 64, 2 key-value heads, intermediate 4864;
    # r 8 on q and v: 24 * 8 * ((896 + 896) + (896 + 128))
    found = summarise(values(model="Qwen/Qwen2.5-0.5B", lora_r=8, target_modules="qv"), "starter", {}, GPU)
    assert found.trainable == 24 * 8 * ((896 + 896) + (896 + 128))
    assert found.targets == ("q_proj", "v_proj")
    assert found.share is not None and abs(found.share - found.trainable / 494_032_768) < 1e-12
    assert any("bf16" in reason for _, _, reason in found.reasons)
    assert not found.refusals
    told = summary_content(found, "c", Access()).plain
    assert "compute_dtype = bfloat16: bf16" in told and "target_modules = q_proj, v_proj: " in told


def test_all_problems_are_listed_and_the_command_is_given() -> None:
    found = summarise(values(lora_r=0, learning_rate=-1.0, model="no-such-model"), "minute", {}, CPU)
    text = " ".join(found.refusals)
    assert "lora_r" in text and "learning_rate" in text and "no-such-model" in text
    assert found.recipe is None and found.command.startswith("tui-lab train")


def test_models_over_the_limit_are_refused_until_allowed() -> None:
    refused = summarise(values(model="Qwen/Qwen3-4B"), "starter", {}, GPU)
    assert any("3 B" in text for text in refused.refusals)
    allowed = summarise(
        values(model="Qwen/Qwen3-4B", allow_large=True), "starter", {"allow_large": True}, GPU
    )
    assert not allowed.refusals and "--allow-large" in allowed.command


def test_the_command_gives_the_same_recipe() -> None:
    """Parsed again as a shell and the command line would, it gives the same recipe."""
    from tui_lab.recipes.recipe import parse_value

    changes = {"learning_rate": 3e-4, "packing": True, "sample_prompt": "it's $HOME; [b]", "lora_r": 32}
    words = shlex.split(command_line("starter", "pocket", "my data/rows.jsonl", changes))
    assert words[:8] == [
        "tui-lab", "train", "--model", "pocket", "--preset", "starter", "--data", "my data/rows.jsonl",
    ]  # fmt: skip
    pairs = [words[i + 1].split("=", 1) for i, word in enumerate(words) if word == "--set"]
    settings = {key: parse_value(key, raw) for key, raw in pairs}
    assert settings == changes
    base = {"model": "pocket", "data": "my data/rows.jsonl"}
    assert make_recipe("starter", **base, **settings) == make_recipe("starter", **base, **changes)
