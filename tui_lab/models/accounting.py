"""Checks of a loaded model: every weight came from its files, every tensor of the files has a place in it,
and every value is finite. A model that fails would train, answer and be exported as if nothing were wrong."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch

from tui_lab.core.sanitize import sanitize
from tui_lab.core.tensor_names import tensors
from tui_lab.decoding.finite_weights import not_finite

#: Tensors that a causal language model does not use: tables that it computes, parts for other inputs, heads
#: for other tasks, and layers that predict tokens ahead.
_NOT_OF_THE_MODEL = re.compile(
    r"(^|\.)(rotary_emb\.|inv_freq$|masked_bias$|attn\.bias$|attention\.bias$|num_batches_tracked$"
    r"|position_ids$|vision|visual|image|audio|multi_modal|mm_|mtp|score\.|classifier\.|v_head\.)"
)


def problem(model: torch.nn.Module, info: Mapping[str, Collection[Any]]) -> str:
    """What is wrong with a loaded model, as a sentence that continues its name; "" for a sound one. ``info``:
    transformers' ``output_loading_info``."""
    mismatched = [str(key[0]) for key in info.get("mismatched_keys", ())]
    if mismatched:
        name, stored, wanted = next(iter(info["mismatched_keys"]))
        return (
            f"{tensors(mismatched)} of another size in its files than its config.json says "
            f"({sanitize(str(name))}: {_shape(stored)} instead of {_shape(wanted)}); get the files again"
        )
    if missing := info.get("missing_keys", ()):
        return f"{tensors(missing)} missing from its files; get the files again"
    unexpected = [key for key in info.get("unexpected_keys", ()) if not _NOT_OF_THE_MODEL.search(key)]
    if unexpected:
        return (
            f"{tensors(unexpected)} in its files but not in the model that its config.json describes; "
            "get the files again"
        )
    if errors := info.get("error_msgs", ()):
        return sanitize(str(next(iter(errors)))[:300])
    return not_finite_problem(model)


def not_finite_problem(model: torch.nn.Module) -> str:
    """The weights with NaN or infinite values, as a sentence that continues a name; "" where there are
    none."""
    bad = not_finite(model)
    return f"{tensors(bad, 'holds', 'hold')} NaN or infinite values; get the files again" if bad else ""


def _shape(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape))
