"""``tui-lab import``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tui_lab.cli import main


def test_a_preset_is_written_and_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUI_LAB_CONFIG_DIR", str(tmp_path / "config"))
    recipe = tmp_path / "My Recipe.yml"
    recipe.write_text("base_model: pocket\nadapter: lora\nlora_r: 8\nsequence_len: 512\nweird: 3\n")
    assert main.main(["import", str(recipe)]) == 0
    printed = capsys.readouterr().out
    assert "4 keys taken, 0 the same here, 1 not possible" in printed
    assert "✗ cannot" in printed and "--preset my-recipe" in printed
    assert main.main(["train", "--dry-run", "--preset", "my-recipe", "-o", "json"]) == 0
    made = json.loads(capsys.readouterr().out)["recipe"]
    assert (made["lora_r"], made["max_length"], made["model"]) == (8, 512, "pocket")
    assert main.main(["import", str(recipe)]) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert main.main(["import", str(recipe), "--force", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["kind"], answer["tool"]) == ("import", "axolotl")
    assert {item["key"]: item["outcome"] for item in answer["items"]}["weird"] == "cannot"
