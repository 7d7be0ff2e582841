"""What a run keeps of how it asks: its next attempt and all that loads it use that, whatever has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.conftest import CHATML, byte_tokenizer
from tui_lab.core.errors import LabError
from tui_lab.data import prompt_settings, row_tokens, templates
from tui_lab.data.prepared_cache import prepare_recipe
from tui_lab.data.prompt_settings import PromptSettings
from tui_lab.recipes.recipe import Recipe

THINKS = "{% if enable_thinking %}[on]{% else %}[off]{% endif %}{{ strftime_now('%Y') }}" + CHATML


def rows_file(folder: Path, reasoning: str) -> Path:
    path = folder / "rows.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"question number {n} about {word}"},
                {"role": "assistant", "content": f"{word} {n}", "reasoning_content": reasoning},
            ]
        }
        for n, word in enumerate(("bees", "bears", "limes", "bread", "frost", "planets"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_next_attempt_prepares_the_same_rows(tmp_path: Path) -> None:
    data, template = rows_file(tmp_path, "first this"), tmp_path / "own.jinja"
    template.write_text(THINKS)
    recipe = Recipe(data=str(data), chat_template=str(template), max_length=256)
    tokenizer = byte_tokenizer()
    templates.use_settings(tokenizer, PromptSettings(date="2020-02-03"))
    first = prepare_recipe(recipe, tokenizer, 256, saved=tmp_path)
    assert first.summary.thinking and first.summary.thinking_rows == 6
    assert (first.summary.prompts_checked, first.summary.prompts_unlike) == (6, 0)
    templates.keep_with_run(tokenizer, tmp_path)
    template.write_text(CHATML)
    later = byte_tokenizer()
    second = prepare_recipe(recipe, later, 256, saved=tmp_path)
    assert [row["input_ids"] for row in second.train] == [row["input_ids"] for row in first.train]
    question = [{"role": "user", "content": "Hi?"}]
    asked = row_tokens.prompt_text(later, question)
    assert asked.startswith("[on]2020") and asked == row_tokens.prompt_text(tokenizer, question)
    other = prepare_recipe(recipe.changed(thinking="off"), later, 256, saved=tmp_path)
    assert not other.summary.thinking and any("thinking is off" in text for text in other.warnings)


def test_settings_of_a_folder(tmp_path: Path) -> None:
    assert prompt_settings.read(tmp_path) is None
    settings = PromptSettings(mode="on", thinking=True, date="2026-02-03", template_sha256="ab")
    prompt_settings.write(tmp_path, settings)
    assert prompt_settings.read(tmp_path) == settings
    (tmp_path / prompt_settings.FILE).write_text('{"mode": "sometimes"}')
    with pytest.raises(LabError, match=r"prompt\.json.*mode"):
        prompt_settings.read(tmp_path)
