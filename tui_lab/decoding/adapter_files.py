"""What an adapter folder brings besides the adapter: whole embeddings, and the tokenizer that goes with them.
No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tui_lab.core import safetensors_file

WEIGHTS = "adapter_model.safetensors"
_INPUTS = r"embed_tokens|wte|embed_in|word_embeddings"
_OUTPUTS = r"lm_head|embed_out"
#: Whole weights of the base that peft saves beside an adapter whose tokenizer was changed.
EMBEDDINGS = re.compile(rf"(^|\.)({_INPUTS}|{_OUTPUTS})(\.base_layer)?\.weight")
_OUTPUT = re.compile(rf"(^|\.)({_OUTPUTS})\.")


def embedding_rows(header: Mapping[str, safetensors_file.TensorEntry]) -> tuple[set[int], set[int]]:
    """The rows of the whole input and output embeddings among the tensors of an adapter."""
    found: tuple[set[int], set[int]] = (set(), set())
    for name, entry in header.items():
        if EMBEDDINGS.search(name) and "lora" not in name and entry.shape:
            found[bool(_OUTPUT.search(name))].add(entry.shape[0])
    return found


def own_tokenizer(folder: Path) -> Path | None:
    """The folder of the tokenizer that an adapter with embeddings of its own brings; None for any other."""
    weights = folder / WEIGHTS
    if not (folder / "tokenizer.json").is_file() or not weights.is_file():
        return None
    if safetensors_file.problem(weights):
        return None
    return folder if any(embedding_rows(safetensors_file.read_header(weights))) else None
