"""Finds out what a layer keeps of a token, for each architecture and way of training, and writes
``tui_lab/forecast/activations.toml``, from which the forecast's formula is made.

    python -m tests.benchmarks.activation_table        about ten minutes on one core

The memory probe runs on models of two and three layers whose sizes are told apart by their values; every
storage that lives when the loss is reached, and at the worst moment of the backward pass, is then recognised
by its size: so many bytes times the hidden size, the inner size, and so on. Nothing is fitted.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from tests.benchmarks.memory_table import CARD, MEASURED
from tui_lab.forecast import activations
from tui_lab.forecast.memory import EAGER
from tui_lab.models import meta_model, shapes
from tui_lab.recipes import presets
from tui_lab.recipes.resolve import resolve
from tui_lab.training import memory_probe
from tui_lab.training.live_storages import LiveStorages

OUT = Path(activations.__file__).with_name("activations.toml")
TOKENS, LAYERS, RANK = 416, 2, 10
#: So long that scores in full outweigh all else.
MANY_TOKENS = 7001
#: Sizes whose small multiples are all different.
HIDDEN, INNER, VOCABULARY = 704, 1984, 900
OWN_HEADS = {"heads": 8, "kv_heads": 1, "head_dim": 80}
TIED_HEADS = {"heads": 11, "kv_heads": 1, "head_dim": 64}
_OWN_HEAD_DIM = ("llama", "mistral", "qwen3", "gemma", "gemma2", "gemma3_text")
_NO_GROUPS = ("gpt2", "gpt_neox", "phi")
_ALL = {"quantization": "none", "lora_r": RANK}
#: Ways of training, as recipes.
WAYS: dict[str, dict[str, Any]] = {
    "frozen": {"preset": "prompt", "quantization": "none", "num_virtual_tokens": 1},
    "lora": {"preset": "starter", **_ALL},
    "lora_without_dropout": {"preset": "starter", **_ALL, "lora_dropout": 0.0},
    "lora_on_attention": {"preset": "style", **_ALL},
    "dora": {"preset": "dora", **_ALL},
    "adalora": {"preset": "adalora", "quantization": "none", "init_r": RANK, "target_r": 8},
    "ia3": {"preset": "ia3", "quantization": "none"},
    "ia3_nf4": {"preset": "ia3"},
    "full": {"preset": "naive"},
}
Sizes = Counter[tuple[int, tuple[int, ...]]]


class _Seen:
    """The storages alive at moments of a probe: before, at the loss, at the worst of the backward pass."""

    def __init__(self) -> None:
        self.at: dict[str, Sizes] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        sizes: dict[int, tuple[int, tuple[int, ...]]] = {}
        track, loss_phase = LiveStorages.track, memory_probe._loss_phase
        seen = self

        def remember(counting: LiveStorages, tensor: Any) -> None:
            storage = tensor.untyped_storage()
            if storage._cdata not in counting._known:
                sizes[storage._cdata] = (storage.nbytes(), tuple(tensor.shape))
            track(counting, tensor)

        class Peaks(dict[str, int]):
            def __setitem__(self, phase: str, size: int) -> None:
                super().__setitem__(phase, size)
                seen.at[phase] = Counter(sizes[key] for key in counting_now[0]._known)

        counting_now: list[LiveStorages] = []

        @contextlib.contextmanager
        def from_here(counting: LiveStorages) -> Iterator[list[int]]:
            counting_now[:] = [counting]
            counting.peaks = Peaks()
            seen.at = {"before": Counter(sizes[key] for key in counting._known)}
            with loss_phase(counting) as reached:
                forward = ChunkedLogProbFunction.forward

                def to_loss(ctx: Any, *args: Any) -> Any:
                    if "saved" not in seen.at:
                        seen.at["saved"] = Counter(sizes[key] for key in counting._known)
                    return forward(ctx, *args)

                with patch.object(ChunkedLogProbFunction, "forward", staticmethod(to_loss)):
                    yield reached

        with (
            patch.object(LiveStorages, "track", remember),
            patch.object(memory_probe, "_loss_phase", from_here),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            yield


def _shape(kind: str, layers: int) -> shapes.Shape:
    heads: dict[str, Any] = dict(OWN_HEADS if kind in _OWN_HEAD_DIM else TIED_HEADS)
    if kind in _NO_GROUPS:
        heads["kv_heads"] = heads["heads"]
    return shapes.Shape(
        kind, layers, HIDDEN, INNER, vocabulary=VOCABULARY, tied=True, context=4096,
        attention_bias=kind == "gpt_neox", **heads,
    )  # fmt: skip


def look(
    kind: str, way: str, dtype: str, checkpointing: bool, tokens: int = TOKENS
) -> dict[str, dict[str, dict[str, float]]]:
    """Of each moment: bytes a token that each further layer adds, and bytes a token beside the layers."""
    at: dict[int, dict[str, Sizes]] = {}
    for layers in (LAYERS, LAYERS + 1):
        shape = _shape(kind, layers)
        changes = {
            **WAYS[way], "max_length": tokens, "per_device_train_batch_size": 1, "compute_dtype": dtype,
            "gradient_accumulation_steps": 1, "gradient_checkpointing": checkpointing,
        }  # fmt: skip
        recipe = presets.make_recipe(str(changes.pop("preset")), model="pocket", **changes)
        facts = SimpleNamespace(
            model_type=kind, parameters=10**6, context=10**6, label=kind, chat_template=True
        )
        seen = _Seen()
        with seen.watching():
            memory_probe.probe(
                meta_model.config_of(shape), recipe, resolve(recipe, CARD, facts).values, "cuda"
            )
        at[layers] = seen.at
    length = tokens + (1 if way == "frozen" else 0)
    found = {}
    for moment in ("saved", "backward"):
        few, many = (_by_size(at[n][moment] - at[n]["before"], shape, length) for n in (LAYERS, LAYERS + 1))
        layer = _less(many, few, 1)
        found[moment] = {"layer": layer, "rest": _less(few, layer, LAYERS)}
    return found


def _less(one: dict[str, float], other: dict[str, float], times: int) -> dict[str, float]:
    result = {key: one.get(key, 0) - times * other.get(key, 0) for key in {*one, *other}}
    return {key: value for key, value in result.items() if value}


def _by_size(sizes: Sizes, shape: shapes.Shape, length: int) -> dict[str, float]:
    """Bytes a token by the size that they go with; what does not go with tokens is left out."""
    query, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    units: list[tuple[int, dict[str, int]]] = [
        (HIDDEN, {"hidden": 1}),
        (INNER, {"inner": 1}),
        (query, {"query": 1}),
        (keys, {"kv": 1}),
        (RANK, {"rank": 1}),
        (shape.heads, {"heads": 1}),
        (shape.heads * length, {"length_by_heads": 1}),
        (length, {"length": 1}),
        # fused layers
        (2 * INNER, {"inner": 2}),
        (3 * HIDDEN, {"hidden": 3}),
        (query + 2 * keys, {"query": 1, "kv": 2}),
    ]
    found: dict[str, float] = defaultdict(float)
    for (size, dimensions), many in sizes.items():
        if not any(each and each % length == 0 for each in dimensions):
            continue
        each = size / length
        known = next((pair for pair in units if each / pair[0] in (1, 2, 4, 8)), (1, {"constant": 1}))
        for name, times in known[1].items():
            found[name] += many * times * each / known[0]
    return dict(found)


def main() -> None:
    kinds = sys.argv[1:] or list(shapes.MODEL_TYPES)
    versions = ", ".join(f"{name} {version(name)}" for name in MEASURED)
    lines = [
        "# Bytes that a token keeps in training: what each layer adds and what there is beside the layers,",
        "# when the loss is reached (saved) and at the worst of the backward pass (backward). Times hidden",
        "# size, inner size, width of queries, of keys, heads, heads × length, rank, or nothing (constant).",
        "# Made by `python -m tests.benchmarks.activation_table`; do not edit.",
        f"# {versions}",
    ]
    for kind in kinds:
        for way in WAYS:
            for dtype in ("bfloat16", "float32"):
                for checkpointing in (True, False):
                    try:
                        found = look(kind, way, dtype, checkpointing)
                    except Exception as error:
                        print(kind, way, dtype, checkpointing, repr(error)[:150], flush=True)
                        continue
                    ending = "checkpointed" if checkpointing else "kept"
                    if kind in EAGER and checkpointing:
                        found["backward_long"] = look(kind, way, dtype, checkpointing, MANY_TOKENS)[
                            "backward"
                        ]
                    lines.append(f"\n[{kind}.{way}.{dtype}.{ending}]")
                    for moment, both in found.items():
                        for where, sizes in both.items():
                            body = ", ".join(f"{name} = {value:g}" for name, value in sorted(sizes.items()))
                            lines.append(
                                f"{moment}_{where} = {{ {body} }}" if body else f"{moment}_{where} = {{}}"
                            )
            print(kind, way, flush=True)
    OUT.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
