"""How items are asked in measurements. The same items must be the same tokens on another day, because scores
of a base are cached, and for base and tuned model, unless an adapter has tokens of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from tui_lab.data.rows import Tokenizer
from tui_lab.runs.references import ModelReference


@dataclass(frozen=True)
class Tokenizers:
    """How a base is asked, and how what was made of it is: alike, unless that has added tokens."""

    base: Tokenizer
    tuned: Tokenizer

    @classmethod
    def of(cls, base: ModelReference, tuned: ModelReference | None) -> Tokenizers:
        """Those of a base and an adapter or model made of it. Raises LabError."""
        from tui_lab.data import templates
        from tui_lab.decoding.adapter_files import own_tokenizer

        saved = tuned.saved if tuned is not None else None
        if saved is None or own_tokenizer(saved) is None:
            only = measuring_tokenizer(base.location, base.revision, saved)
            return cls(only, only)
        of_base = templates.load_for_base(base.location, base.revision, saved)
        _fix_date(of_base)
        return cls(of_base, measuring_tokenizer(base.location, base.revision, saved))

    def side(self, tuned: bool | str) -> Tokenizer:
        """That of the tuned model, or of the base."""
        return self.tuned if tuned else self.base


def measuring_tokenizer(location: str, revision: str, saved: Path | None) -> Tokenizer:
    """The tokenizer of a base, or of an adapter with tokens of its own, asking as what was saved in a folder
    was trained, on a fixed date where that has none. Raises LabError."""
    from tui_lab.data import templates

    tokenizer = templates.load_for(location, revision, saved)
    _fix_date(tokenizer)
    return tokenizer


def _fix_date(tokenizer: Tokenizer) -> None:
    from tui_lab.data import prompt_settings, templates

    settings = templates.settings_of(tokenizer)
    if not settings.date:
        settings = msgspec.structs.replace(settings, date=prompt_settings.FIXED_DATE)
        templates.use_settings(tokenizer, settings)


def with_prompts(weights: str, tokenizer: Tokenizer) -> str:
    """The key of scores: the identity of the weights, and how items are asked as far as it is not how the
    bare base is asked."""
    from tui_lab.data import templates

    return " ".join(filter(None, (weights, templates.identity(tokenizer))))
