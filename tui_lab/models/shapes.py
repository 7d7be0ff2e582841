"""Parameter counts and linear layers of a model, computed from its shape alone, without torch.

Each formula is tested for every architecture here against transformers' own model on the meta device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tui_lab.core.errors import LabError
from tui_lab.decoding.context import CONTEXT_KEYS


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder-only transformer, as its ``config.json`` gives them."""

    model_type: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    context: int = 0  # rows of the learned position table (gpt2); elsewhere not a size
    attention_bias: bool = False
    mlp_bias: bool = False
    qk_layernorm: bool = False  # phi only


@dataclass(frozen=True)
class Linear:
    """One kind of linear layer: ``count`` of them in the model, one per block."""

    path: str  # within the block: self_attn.q_proj
    name: str  # as peft's target_modules names it: q_proj
    role: str  # q k v o qkv (fused) gate up gate_up (fused) down
    in_features: int
    out_features: int
    count: int
    bias: bool


# --------------------------------------------------------------------------------------------------
# architectures

#: Blocks of self_attn.{q,k,v,o}_proj and mlp.{gate,up,down}_proj.
_GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo2", "granite")
MODEL_TYPES: tuple[str, ...] = (*_GATED, "phi", "phi3", "gpt_neox", "gpt2")


def known(model_type: str | None) -> bool:
    """Whether the formulas cover this architecture."""
    return model_type in MODEL_TYPES


def layer_linears(shape: Shape) -> list[tuple[str, str, int, int, bool]]:
    """(path, role, in, out, bias) of the linear layers of one block, in module order."""
    hidden, inner = shape.hidden, shape.intermediate
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if shape.model_type in _GATED:
        qkv_bias = shape.attention_bias or shape.model_type == "qwen2"
        return [
            ("self_attn.q_proj", "q", hidden, q, qkv_bias),
            ("self_attn.k_proj", "k", hidden, kv, qkv_bias),
            ("self_attn.v_proj", "v", hidden, kv, qkv_bias),
            ("self_attn.o_proj", "o", q, hidden, shape.attention_bias and shape.model_type != "qwen2"),
            ("mlp.gate_proj", "gate", hidden, inner, shape.mlp_bias),
            ("mlp.up_proj", "up", hidden, inner, shape.mlp_bias),
            ("mlp.down_proj", "down", inner, hidden, shape.mlp_bias),
        ]
    if shape.model_type == "phi":
        return [
            ("self_attn.q_proj", "q", hidden, q, True),
            ("self_attn.k_proj", "k", hidden, kv, True),
            ("self_attn.v_proj", "v", hidden, kv, True),
            ("self_attn.dense", "o", q, hidden, True),
            ("mlp.fc1", "up", hidden, inner, True),
            ("mlp.fc2", "down", inner, hidden, True),
        ]
    if shape.model_type == "phi3":
        return [
            ("self_attn.qkv_proj", "qkv", hidden, q + 2 * kv, False),
            ("self_attn.o_proj", "o", q, hidden, False),
            ("mlp.gate_up_proj", "gate_up", hidden, 2 * inner, False),
            ("mlp.down_proj", "down", inner, hidden, False),
        ]
    if shape.model_type == "gpt_neox":
        return [
            ("attention.query_key_value", "qkv", hidden, 3 * hidden, shape.attention_bias),
            ("attention.dense", "o", hidden, hidden, shape.attention_bias),
            ("mlp.dense_h_to_4h", "up", hidden, inner, True),
            ("mlp.dense_4h_to_h", "down", inner, hidden, True),
        ]
    if shape.model_type == "gpt2":
        return [
            ("attn.c_attn", "qkv", hidden, 3 * hidden, True),
            ("attn.c_proj", "o", hidden, hidden, True),
            ("mlp.c_fc", "up", hidden, inner, True),
            ("mlp.c_proj", "down", inner, hidden, True),
        ]
    raise LabError(
        f"architecture {shape.model_type!r}: its layers are not known here; "
        f"known are {', '.join(MODEL_TYPES)}"
    )


def _target_name(path: str) -> str:
    # gpt2 calls two layers of a block c_proj: peft tells them apart by the longer suffix
    return path if path.endswith("c_proj") else path.rpartition(".")[2]


def linears(shape: Shape) -> list[Linear]:
    """The linear layers of the blocks, which adapters attach to; without embeddings and head."""
    return [
        Linear(path, _target_name(path), role, in_features, out_features, shape.layers, bias)
        for path, role, in_features, out_features, bias in layer_linears(shape)
    ]


def block_linears(model_type: str) -> list[tuple[str, str, str]]:
    """(path, name, role) of the linear layers of a block, which need no sizes."""
    shape = Shape(model_type, 1, 1, 1, 1, 1, 1, 1, True)
    return [(linear.path, linear.name, linear.role) for linear in linears(shape)]


def norm_parameters(shape: Shape) -> int:
    """Parameters of the normalisation layers of one block."""
    hidden, q, kv = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    match shape.model_type:
        case "qwen3":
            return 2 * hidden + 2 * shape.head_dim
        case "gemma2":
            return 4 * hidden
        case "gemma3_text":
            return 4 * hidden + 2 * shape.head_dim
        case "olmo2":
            return 2 * hidden + q + kv
        case "phi":  # one LayerNorm for the parallel attention and MLP
            return 2 * hidden + (4 * (hidden // shape.heads) if shape.qk_layernorm else 0)
        case "gpt_neox" | "gpt2":  # two LayerNorms with weight and bias
            return 4 * hidden
        case _:
            return 2 * hidden


def parameter_count(shape: Shape) -> int:
    """Number of parameters, tied weights once, equal to ``model.num_parameters()``."""
    block = sum(i * o + (o if bias else 0) for _, _, i, o, bias in layer_linears(shape))
    block += norm_parameters(shape)
    layer_norm = shape.model_type in ("phi", "gpt_neox", "gpt2")  # weight and bias; RMSNorm has only a weight
    total = shape.layers * block + shape.hidden * (2 if layer_norm else 1)
    total += embedding_parameters(shape)
    return total


def embedding_parameters(shape: Shape) -> int:
    """Parameters of token and position embeddings and of an untied output head."""
    total = shape.vocabulary * shape.hidden
    if not shape.tied:
        total += shape.vocabulary * shape.hidden
    if shape.model_type == "phi":
        total += shape.vocabulary  # the head has a bias
    if shape.model_type == "gpt2":
        total += shape.context * shape.hidden
    return total


# --------------------------------------------------------------------------------------------------
# reading config.json

#: Defaults of transformers for keys that a config.json omits.
_TIED_BY_DEFAULT = frozenset({"gemma", "gemma2", "gemma3_text", "gpt2"})
_HEAD_DIM_BY_DEFAULT = {"qwen3": 128, "gemma": 256, "gemma2": 256, "gemma3_text": 256}
_KV_HEADS_BY_DEFAULT = {"mistral": 8, "gemma": 16, "gemma2": 4, "gemma3_text": 4, "qwen2": 32, "qwen3": 32}
#: Limit of a size; no real model reaches it.
MAX_SIZE = 1 << 32


class ShapeError(ValueError):
    """A config.json with an impossible size; ``str(error)`` names the key."""


def _size(config: Mapping[str, object], keys: tuple[str, ...], default: int | None = None) -> int:
    for key in keys:
        value = config.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < MAX_SIZE:
            raise ShapeError(f"{key} is not a positive whole number")
        return value
    if default is None:
        raise ShapeError(f"{keys[0]} is missing")
    return default


def from_config(config: Mapping[str, object]) -> Shape | None:
    """The shape of a ``config.json``; None for an architecture without formulas. Raises ShapeError for a size
    that is missing or impossible.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or not known(kind):
        return None
    hidden = _size(config, ("hidden_size", "n_embd"))
    heads = _size(config, ("num_attention_heads", "n_head"))
    if kind in ("gpt2", "gpt_neox"):
        kv_heads = heads
    elif "num_key_value_heads" in config:
        kv_heads = _size(config, ("num_key_value_heads",), heads)  # null means one a head
    else:
        kv_heads = _KV_HEADS_BY_DEFAULT.get(kind, heads)
    if heads % kv_heads:
        raise ShapeError("num_key_value_heads does not divide num_attention_heads")
    own_head_dim = (
        kind not in ("gpt2", "gpt_neox", "phi", "phi3", "qwen2", "olmo2", "granite") or "head_dim" in config
    )
    head_dim = hidden // heads
    if own_head_dim and kind not in ("gpt2", "gpt_neox"):
        head_dim = _size(config, ("head_dim",), _HEAD_DIM_BY_DEFAULT.get(kind, head_dim))
    if head_dim == 0:
        raise ShapeError("num_attention_heads is larger than hidden_size")
    tied = config.get("tie_word_embeddings")
    return Shape(
        model_type=kind,
        layers=_size(config, ("num_hidden_layers", "n_layer")),
        hidden=hidden,
        intermediate=_size(config, ("intermediate_size", "n_inner"), 4 * hidden if kind == "gpt2" else None),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=_size(config, ("vocab_size",)),
        tied=tied if isinstance(tied, bool) else kind in _TIED_BY_DEFAULT,
        context=_size(config, CONTEXT_KEYS, 1024 if kind == "gpt2" else 1),
        attention_bias=bool(config.get("attention_bias", kind == "gpt_neox")),
        mlp_bias=bool(config.get("mlp_bias", False)),
        qk_layernorm=bool(config.get("qk_layernorm", False)),
    )
