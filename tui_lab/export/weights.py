"""The weights of an export: an adapter as peft reads it anywhere, or one whole model with the adapter in it.

Merging adds in float32 to the unquantised base and rounds once, at the end; it is never done into 4-bit
weights, whose rounding would swallow small changes. Tokenizer, template and end tokens go with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.export.source import CONFIG, WEIGHTS, Source

#: Where an adapter looks for a base that no hub has: beside it. Not a hub name, so nothing is ever fetched.
BASE_BESIDE = "./base"
#: What of a local base belongs to it.
_BASE_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt", ".md")


def stop_ids(tokenizer: Any, model: Any) -> list[int]:
    """What ends an answer: the template's end of turn first, then the tokenizer's and the model's tokens."""
    from tui_lab.data import templates
    from tui_lab.models.inference import stop_ids as of_model

    found = templates.stop_ids(tokenizer)
    mark = templates.renderer_of(tokenizer).end_of_turn
    first = tokenizer.convert_tokens_to_ids(mark) if mark else None
    ordered = sorted(found, key=lambda token: token != first)
    return [*ordered, *sorted(of_model(model) - set(found))]


def generation_config(model: Any, tokenizer: Any) -> Any:
    """The base's settings for answers, with what ends a turn in this template."""
    from transformers import GenerationConfig

    base = model.generation_config
    ends = stop_ids(tokenizer, model)
    pad = tokenizer.pad_token_id
    if pad is None and ends:
        pad = ends[0]
    settings: dict[str, Any] = {
        "eos_token_id": ends if len(ends) > 1 else ends[0] if ends else None,
        "pad_token_id": pad,
        "bos_token_id": getattr(base, "bos_token_id", None),
    }
    if getattr(base, "do_sample", False):
        names = ("do_sample", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        settings |= {name: getattr(base, name, None) for name in names}
    return GenerationConfig(**{name: value for name, value in settings.items() if value is not None})


# --- adapter ------------------------------------------------------------------------------------------


def write_adapter(source: Source, target: Path, commit: str) -> None:
    """The adapter's two files as they are, with a base that is found elsewhere too: a hub id with the commit
    that was tuned, or a folder beside for a base that no hub has."""
    if source.whole:
        raise LabError(
            f"run {source.run.id} tuned all weights, so there is no adapter: export it with --as merged"
        )
    config = {**source.config, "inference_mode": True}
    if source.base_is_folder:
        config |= {"base_model_name_or_path": BASE_BESIDE, "revision": None}
    else:
        config |= {
            "base_model_name_or_path": source.base,
            "revision": commit or source.recipe.revision or None,
        }
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
    (target / CONFIG).write_text(text + "\n", encoding="utf-8")
    shutil.copyfile(source.path / WEIGHTS, target / WEIGHTS)


def copy_base(source: Source, target: Path) -> None:
    """Copies a base that is a folder here beside the export."""
    place = target / BASE_BESIDE
    place.mkdir(mode=0o700)
    for file in sorted(Path(source.base).iterdir()):
        if file.is_file() and file.suffix in _BASE_FILES:
            shutil.copyfile(file, place / file.name)


def tensors_equal(first: Path, second: Path) -> bool:
    """Whether two safetensors files hold the same tensors, bit for bit."""
    import torch
    from safetensors.torch import load_file

    own, other = load_file(first), load_file(second)
    return own.keys() == other.keys() and all(
        own[name].dtype == other[name].dtype and torch.equal(own[name], other[name]) for name in own
    )


# --- whole model --------------------------------------------------------------------------------------


def refuse_unmergeable(source: Source, kind: str) -> None:
    """Raises LabError for adapters that are no change of the weights."""
    if source.virtual:
        raise LabError(
            f"run {source.run.id} learned virtual tokens ({source.recipe.method}), which stand before the "
            f"text and change no weights, so {kind} cannot hold them: export --as adapter"
        )


def merged(model: Any, source: Source) -> Any:
    """The whole model of a loaded one: the adapter added to the weights of its base, in place."""
    refuse_unmergeable(source, "merged")
    if source.whole:
        return model
    try:
        return model.merge_and_unload(safe_merge=True)  # raises where a weight would not be finite
    except ValueError as error:
        raise LabError(
            f"run {source.run.id}: its adapter cannot be merged ({str(error)[:200]}): export --as adapter"
        ) from None


def write_model(model: Any, target: Path, dtype: str) -> None:
    """Saves a whole model in safetensors, tied weights once."""
    import torch

    model = model.to(getattr(torch, dtype))
    model.config.use_cache = True
    model.save_pretrained(target, safe_serialization=True)
    _forget_places(target / "config.json")


def _forget_places(path: Path) -> None:
    """Takes out where the base lay on this machine, and that it was looked for nowhere else."""
    config = json.loads(path.read_text(encoding="utf-8"))
    own = [name for name in ("_name_or_path", "is_local", "local_files_only") if name in config]
    for name in own:
        del config[name]
    if own:
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_tokenizer(tokenizer: Any, target: Path) -> None:
    """Tokenizer and chat template."""
    tokenizer.save_pretrained(target)
    _forget_places(target / "tokenizer_config.json")
