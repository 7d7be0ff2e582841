"""Which layers get an adapter: presets (``qv``, ``qkv``, ``qkvo``, ``mlp``, ``all``) and module names,
resolved to peft's ``target_modules`` for every architecture of the catalog. For architectures with a fused
layer for query, key and value (GPT-NeoX, GPT-2, Phi-3) a note says so. For an unknown architecture the names
of its modules are used, or peft's ``all-linear``. No torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from tui_lab.core.errors import LabError
from tui_lab.models.shapes import Linear, Shape, block_linears, known, linears

#: The roles of layers that each preset covers; a fused layer counts for each of its parts.
PRESETS: dict[str, frozenset[str]] = {
    "qv": frozenset({"q", "v", "qkv"}),
    "qkv": frozenset({"q", "k", "v", "qkv"}),
    "qkvo": frozenset({"q", "k", "v", "o", "qkv"}),
    "mlp": frozenset({"gate", "up", "down", "gate_up"}),
    "all": frozenset({"q", "k", "v", "o", "qkv", "gate", "up", "down", "gate_up"}),
}
#: peft's name for every linear layer except the head, for unknown architectures.
ALL_LINEAR = "all-linear"

#: Usual names of layers by role, for unknown architectures.
_USUAL_NAMES = {
    "q": {"q_proj", "query", "q_lin", "wq", "q"},
    "k": {"k_proj", "key", "k_lin", "wk", "k"},
    "v": {"v_proj", "value", "v_lin", "wv", "v"},
    "qkv": {"query_key_value", "c_attn", "qkv_proj", "Wqkv", "wqkv", "qkv", "in_proj"},
    "o": {"o_proj", "out_proj", "dense", "attn.c_proj", "wo", "attn_out"},
    "gate": {"gate_proj", "w1"},
    "up": {"up_proj", "fc1", "fc_in", "c_fc", "dense_h_to_4h", "w3"},
    "down": {"down_proj", "fc2", "fc_out", "mlp.c_proj", "dense_4h_to_h", "w2"},
    "gate_up": {"gate_up_proj"},
}
#: Names of heads and embeddings, which get no adapters.
_NOT_A_LAYER = {"lm_head", "embed_out", "embed_tokens", "embed_in", "wte", "wpe", "score"}


@dataclass(frozen=True)
class Targets:
    """A spec resolved for one architecture."""

    modules: tuple[str, ...]  # peft's target_modules
    feedforward: tuple[str, ...]  # the ones whose inputs IA3 scales
    notes: tuple[str, ...]  # surprising effects, in words


def _role(name: str, parent: str) -> str | None:
    for role, names in _USUAL_NAMES.items():
        if name in names or f"{parent}.{name}" in names:
            return role
    return None


def _from_module_names(module_names: Iterable[str]) -> list[tuple[str, str, str]]:
    """(path in the block, name for peft, role) from the full names of a model's linear modules."""
    found: dict[str, tuple[str, str, str]] = {}
    for full in module_names:
        parts = [part for part in full.split(".") if not part.isdigit()]
        name, parent = parts[-1], parts[-2] if len(parts) > 1 else ""
        if name in _NOT_A_LAYER:
            continue
        role = _role(name, parent)
        target = f"{parent}.{name}" if name == "c_proj" else name
        found.setdefault(target, (f"{parent}.{name}" if parent else name, target, role or ""))
    return list(found.values())


#: The fused layer that contains a part, and the substitute for a missing gate.
_STANDS_FOR = {"q": "qkv", "k": "qkv", "v": "qkv", "up": "gate_up", "gate_up": "up"}


def _nearest(wanted: str, layers: list[tuple[str, str, str]]) -> str | None:
    """The layer with the same role as ``wanted``, else the preset or name with the most similar spelling."""
    role = _role(wanted.rpartition(".")[2], wanted.rpartition(".")[0])
    for same in (role, _STANDS_FOR.get(role or ""), "up" if role == "gate" else None):
        for _, name, its_role in layers:
            if same and its_role == same:
                return name
    names = [*PRESETS, *(name for _, name, _ in layers)]
    return next(iter(difflib.get_close_matches(wanted, names, n=1, cutoff=0.0)), None)


def _unknown(wanted: str, layers: list[tuple[str, str, str]], model_type: str) -> LabError:
    near = _nearest(wanted, layers)
    meant = f"; did you mean {near!r}?" if near else ""
    return LabError(
        f"target_modules: {model_type} has no layer {wanted!r}{meant} "
        f"(words: {', '.join(PRESETS)}; layers: {', '.join(name for _, name, _ in layers)})"
    )


def _ends_with(path: str, suffix: str) -> bool:
    # as peft matches: the full path, or its end after a dot
    return path == suffix or path.endswith(f".{suffix}")


def split_spec(spec: str) -> list[str]:
    """The parts of a spec, in order, without repetition. Raises LabError for an empty one."""
    parts = [part.strip() for part in spec.split(",")]
    parts = list(dict.fromkeys(part for part in parts if part))
    if not parts:
        raise LabError(
            f"target_modules is empty: name one of {', '.join(PRESETS)}, or layers such as q_proj,v_proj"
        )
    return parts


def explain(model_type: str, spec: str, module_names: Iterable[str] | None = None) -> Targets:
    """Resolves ``spec``, in which presets and names may be mixed, for an architecture. ``module_names``: full
    names of a loaded model's linear modules, for unknown architectures. Raises LabError.
    """
    parts = split_spec(spec)
    if known(model_type):
        layers = block_linears(model_type)
    elif module_names is not None:
        layers = _from_module_names(module_names)
    else:
        if [part.lower() for part in parts] in (["all"], [ALL_LINEAR]):
            note = f"{model_type} is not known here: peft picks every linear layer but the head"
            return Targets((ALL_LINEAR,), (), (note,))
        if any(part.lower() in PRESETS for part in parts):
            raise LabError(
                f"target_modules = {spec!r}: the layers of {model_type!r} are not known before it is loaded; "
                "use 'all', or name its layers"
            )
        return Targets(
            tuple(parts), (), (f"{model_type} is not known here: the names are checked when it is loaded",)
        )
    chosen: list[str] = []
    notes: list[str] = []
    for part in parts:
        word = part.lower()
        if word == ALL_LINEAR:
            word = "all"
        if word in PRESETS and part not in [name for _, name, _ in layers]:
            names = [
                name for _, name, role in layers if role in PRESETS[word] or (word == "all" and not role)
            ]
            fused = [name for _, name, role in layers if role == "qkv"]
            if word in ("qv", "qkv", "qkvo") and fused:
                less = " (the keys are adapted too)" if word == "qv" else ""
                notes.append(
                    f"{model_type} computes query, key and value in one layer: "
                    f"{word} is {', '.join(names)}{less}"
                )
        else:
            names = [part] if any(_ends_with(path, part) for path, _, _ in layers) else []
        if not names:
            raise _unknown(part, layers, model_type)
        chosen += [name for name in names if name not in chosen]
    return Targets(tuple(chosen), tuple(_feedforward(layers, chosen)), tuple(notes))


def _feedforward(layers: list[tuple[str, str, str]], chosen: list[str]) -> list[str]:
    """The chosen targets whose input IA3 scales: the down projections."""
    down = [(path, name) for path, name, role in layers if role == "down"]
    return [
        target for target in chosen if any(_ends_with(path, target) or name == target for path, name in down)
    ]


def resolve(model_type: str, spec: str, module_names: Iterable[str] | None = None) -> list[str]:
    """peft's ``target_modules`` for a spec. Raises LabError, which names the most similar layer."""
    return list(explain(model_type, spec, module_names).modules)


def feedforward(model_type: str, spec: str, module_names: Iterable[str] | None = None) -> list[str]:
    """IA3's ``feedforward_modules`` for a spec: a subset of :func:`resolve`."""
    return list(explain(model_type, spec, module_names).feedforward)


def matching(shape: Shape, spec: str) -> list[Linear]:
    """The layers of a model of this shape that a spec adapts."""
    modules = resolve(shape.model_type, spec)
    return [linear for linear in linears(shape) if any(_ends_with(linear.path, name) for name in modules)]
