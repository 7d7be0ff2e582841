"""How items are asked in measurements. The same items must be the same tokens for base and tuned model, and
on another day, because scores of a base are cached."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tui_lab.data.rows import Tokenizer


def measuring_tokenizer(location: str, revision: str, saved: Path | None) -> Tokenizer:
    """The tokenizer of a base, asking as what was saved in a folder was trained, on a fixed date where that
    has none. Raises LabError."""
    from tui_lab.data import prompt_settings, templates

    tokenizer = templates.load_for(location, revision, saved)
    settings = templates.settings_of(tokenizer)
    if not settings.date:
        settings = msgspec.structs.replace(settings, date=prompt_settings.FIXED_DATE)
        templates.use_settings(tokenizer, settings)
    return tokenizer


def with_prompts(weights: str, tokenizer: Tokenizer) -> str:
    """The key of scores: the identity of the weights, and how items are asked as far as it is not how the
    bare base is asked."""
    from tui_lab.data import templates

    return " ".join(filter(None, (weights, templates.identity(tokenizer))))
