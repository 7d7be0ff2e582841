"""trl's variants of known chat templates, with marks around the assistant's turns."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path


@functools.cache
def _trl_folder() -> Path | None:
    spec = importlib.util.find_spec("trl")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) / "chat_templates" if places else None


def training_variant(template: str) -> str | None:
    """trl's variant of ``template`` with marks, if trl has one.

    ``trl.chat_template_utils.get_training_chat_template`` compares with the same files; they are read here
    because importing trl takes seconds, which a preview should not wait for.
    """
    folder = _trl_folder()
    if folder is None or not folder.is_dir():
        return None
    for path in sorted(folder.glob("*.jinja")):
        variant = path.with_name(f"{path.stem}_training.jinja")
        if variant.exists() and path.read_text(encoding="utf-8") == template:
            return variant.read_text(encoding="utf-8")
    return None
