"""The weights of an export: an adapter for peft, or one whole model with the adapter merged into it.

Merging adds in float32 to the unquantised base and rounds once, at the end. It never merges into 4-bit
weights, whose rounding would swallow small changes. Tokenizer, chat template and stop tokens are written
beside the weights.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tui_lab.core.errors import LabError
from tui_lab.core.job_protocol import OnProgress
from tui_lab.export.check import Model, Tokenizer
from tui_lab.export.source import CONFIG, WEIGHTS, SavedRun

if TYPE_CHECKING:
    from transformers import GenerationConfig

#: Where an adapter finds a base that is on no hub: in the export itself. It is no hub id, so nothing is
#: ever downloaded for it.
LOCAL_BASE = "./base"
_BASE_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt", ".md")
_SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def generation_config(model: Model, tokenizer: Tokenizer) -> GenerationConfig:
    """The base model's generation settings with the stop tokens of the run's template."""
    from transformers import GenerationConfig

    from tui_lab.data.row_tokens import stop_ids

    base = model.generation_config
    ends = stop_ids(tokenizer, model)
    pad = tokenizer.pad_token_id
    if pad is None and ends:
        pad = ends[0]
    settings: dict[str, object] = {
        "eos_token_id": ends if len(ends) > 1 else ends[0] if ends else None,
        "pad_token_id": pad,
        "bos_token_id": getattr(base, "bos_token_id", None),
    }
    if getattr(base, "do_sample", False):
        settings |= {name: getattr(base, name, None) for name in _SAMPLING}
    known = {name: value for name, value in settings.items() if value is not None}
    config: GenerationConfig = GenerationConfig.from_dict(known)
    return config


# --- adapter ------------------------------------------------------------------------------------------


def write_adapter(source: SavedRun, target: Path, commit: str) -> None:
    """Writes the adapter's two files. Their base is a hub id with the commit that was tuned, or, for a base
    that is on no hub, a folder inside the export. Raises LabError for a fully tuned model."""
    if source.is_full_model:
        raise LabError(
            f"run {source.run.id} tuned all weights, so there is no adapter: export it with --as merged"
        )
    config = {**source.adapter_config, "inference_mode": True}
    if source.base_is_folder:
        config |= {"base_model_name_or_path": LOCAL_BASE, "revision": None}
    else:
        config |= {
            "base_model_name_or_path": source.base,
            "revision": commit or source.recipe.revision or None,
        }
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
    (target / CONFIG).write_text(text + "\n", encoding="utf-8")
    shutil.copyfile(source.path / WEIGHTS, target / WEIGHTS)


def copy_base(source: SavedRun, target: Path) -> None:
    """Copies a base model that is a local folder into the export."""
    place = target / LOCAL_BASE
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


def check_mergeable(source: SavedRun, kind: str) -> None:
    """Raises LabError for adapters that do not change the weights."""
    if source.has_virtual_tokens:
        raise LabError(
            f"run {source.run.id} learned virtual tokens ({source.recipe.method}), which are input and "
            f"change no weights, so {kind} cannot hold them: export --as adapter"
        )


def merge(model: Model, source: SavedRun, on_progress: OnProgress) -> Model:
    """The whole model: the adapter is added to the weights of its base, in place. Raises LabError."""
    check_mergeable(source, "merged")
    if source.is_full_model:
        return model
    _count_merges(model, on_progress)
    try:
        return model.merge_and_unload(safe_merge=True)  # raises where a weight would not be finite
    except ValueError as error:
        raise LabError(
            f"run {source.run.id}: its adapter cannot be merged ({str(error)[:200]}): export --as adapter"
        ) from None


def _count_merges(model: Model, on_progress: OnProgress) -> None:
    """Reports every layer that is merged; the layers that count are gone after it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [each for each in model.modules() if isinstance(each, BaseTunerLayer)]
    done = itertools.count(1)

    def counted(merge: Callable[..., None]) -> Callable[..., None]:
        def merge_and_report(*args: object, **kwargs: object) -> None:
            merge(*args, **kwargs)
            on_progress("merging layers", next(done), len(layers))

        return merge_and_report

    on_progress("merging layers", 0, len(layers))
    for layer in layers:
        vars(layer)["merge"] = counted(layer.merge)


def write_model(model: Model, target: Path, dtype: str) -> None:
    """Saves a whole model as safetensors; tied weights are stored once."""
    import torch

    model = model.to(getattr(torch, dtype))
    model.config.use_cache = True
    model.save_pretrained(target, safe_serialization=True)
    _remove_local_paths(target / "config.json")


def _remove_local_paths(path: Path) -> None:
    """Removes from a JSON file where the base was on this machine."""
    config = json.loads(path.read_text(encoding="utf-8"))
    local = [name for name in ("_name_or_path", "is_local", "local_files_only") if name in config]
    for name in local:
        del config[name]
    if local:
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_tokenizer(tokenizer: Tokenizer, target: Path) -> None:
    """Saves the tokenizer with its chat template, and how it asks."""
    from tui_lab.data import templates

    tokenizer.save_pretrained(target)
    settings = templates.settings_of(tokenizer)
    here = replace(settings, template_file=Path(settings.template_file).name)  # no path of this machine
    templates.use_settings(tokenizer, here)
    templates.save_settings(tokenizer, target)
    _remove_local_paths(target / "tokenizer_config.json")
