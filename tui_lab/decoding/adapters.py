"""Adapters in one batch with their base: the base's rows come first, then the rows of each adapter; a hook on
every adapted module changes the rows of its adapter alone. peft loads the adapter folder and defines what
the adapter computes; its layers are removed again after loading, because peft's own mixed batches re-register
hooks at each forward and cost more than two passes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear
from torch.utils.hooks import RemovableHandle

from tui_lab.core import input_files, safetensors_file
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.core.tensor_names import tensors
from tui_lab.decoding.adapter_files import EMBEDDINGS, WEIGHTS, embedding_rows
from tui_lab.decoding.adapter_patterns import resolve_patterns
from tui_lab.decoding.finite_weights import not_finite
from tui_lab.decoding.forward import CausalModel, VirtualTokens, embedding_weight
from tui_lab.decoding.kv_cache import kv_shape

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

_FLOATS = ("F64", "F32", "F16", "BF16")
_ADAPTER = "default"
#: LoRA initialisations that change the base weights: such an adapter needs the changed base, while the
#: other rows of the batch use the original one.
_MOVES_BASE = ("pissa", "olora", "corda", "loftq", "eva")


class NeedsSeparateModel(LabError):
    """The adapter cannot share a batch with its base; it needs its own copy of the model (a second pass)."""


@dataclass(frozen=True)
class ModulePatch:
    """What an adapter changes in one linear module. Fields that are None change nothing.

    IA3 (Liu et al. 2022): y = W(x · in_scale) · out_scale; LoRA (Hu et al. 2021): y += B(A x) · scaling;
    LoHa and OSF: y += x · deltaᵀ; DoRA (Liu et al. 2024): y += (m − 1)·(y − bias) + m · B(A x) · scaling,
    where m is the magnitude over the norm. The formulas are those of peft's layers."""

    a: torch.Tensor | None = None  # (r, in)
    b: torch.Tensor | None = None  # (out, r)
    b_bias: torch.Tensor | None = None  # (out,)
    scaling: float = 1.0
    delta: torch.Tensor | None = None  # (out, in)
    ratio: torch.Tensor | None = None  # (out,) DoRA's m
    bias: torch.Tensor | None = None  # (out,) of the module, which DoRA does not scale
    in_scale: torch.Tensor | None = None  # (in,)
    out_scale: torch.Tensor | None = None  # (out,)

    def apply(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The adapted output (rows, …, out) for the module's input x (rows, …, in) and output y."""
        if self.out_scale is not None:
            y = y * self.out_scale
        if self.delta is not None:
            y = y + linear(x.to(self.delta.dtype), self.delta)
        if self.a is not None and self.b is not None:
            added = linear(linear(x.to(self.a.dtype), self.a), self.b, self.b_bias) * self.scaling
            if self.ratio is None:
                y = y + added
            else:
                unbiased = y if self.bias is None else y - self.bias
                y = y + (self.ratio - 1) * unbiased + self.ratio * added
        return y


@dataclass(frozen=True)
class Adapter:
    """A loaded adapter: patches by module name, or virtual tokens."""

    name: str
    method: str  # peft's type: LORA, IA3, …
    patches: dict[str, ModulePatch] = field(default_factory=dict)
    virtual: VirtualTokens | None = None


def read_config(folder: Path) -> dict[str, object]:
    """``adapter_config.json`` of an adapter folder. Raises LabError if it is not usable."""
    shown = sanitize(str(folder))
    try:
        config = input_files.read_json(folder / "adapter_config.json")
    except OSError:
        raise LabError(f"{shown} is not an adapter: it has no adapter_config.json") from None
    except (ValueError, RecursionError):
        raise LabError(f"adapter {shown}: its adapter_config.json is not valid JSON; save it again") from None
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise LabError(
            f"adapter {shown}: its adapter_config.json names no peft_type; save it again with peft"
        )
    if not (folder / WEIGHTS).is_file():
        raise LabError(
            f"adapter {shown} has no {WEIGHTS}: only safetensors are read, since a pickle can run code"
        )
    if problem := safetensors_file.problem(folder / WEIGHTS):
        raise LabError(f"adapter {shown}: its {problem}")
    tensors = safetensors_file.read_header(folder / WEIGHTS)
    if not tensors:
        raise LabError(f"adapter {shown}: its {WEIGHTS} holds no tensor; save it again")
    if kinds := {tensor.dtype for tensor in tensors.values()} - set(_FLOATS):
        raise LabError(
            f"adapter {shown}: its {WEIGHTS} holds tensors of type {sanitize(', '.join(sorted(kinds)))}, "
            "which are no weights of an adapter; save it in float32, bfloat16 or float16"
        )
    for key in ("lora_alpha", "alpha", "r"):
        value = config.get(key)
        if isinstance(value, float) and not math.isfinite(value):
            raise LabError(f"adapter {shown}: {key} in its adapter_config.json is {value}; save it again")
    return config


def _own_model_reason(config: dict[str, object], names: Iterable[str]) -> str | None:
    """Why an adapter cannot share a batch with its base; None if it can."""
    if any(EMBEDDINGS.search(name) and "lora" not in name for name in names):
        return "it has embeddings of its own"
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.startswith(_MOVES_BASE):
        return f"its initialisation ({init}) changes the base weights"
    for key in ("modules_to_save", "trainable_token_indices", "target_parameters", "alora_invocation_tokens"):
        if config.get(key):
            return f"it uses {key}"
    if config.get("bias") not in (None, "none"):
        return "it trains biases"
    return None


def load_adapter(model: CausalModel, folder: Path, name: str) -> Adapter:
    """Loads an adapter for ``model``, which stays unchanged.

    Raises NeedsSeparateModel if it cannot share the model's batch, LabError if it does not fit the model."""
    from peft.utils import PeftType

    config = read_config(folder)
    header = safetensors_file.read_header(folder / WEIGHTS)
    _vocabulary(model, header, name)
    if reason := _own_model_reason(config, header):
        raise NeedsSeparateModel(f"adapter {sanitize(name)} needs its own copy of the model: {reason}")
    peft_config = _peft_config(model, folder, name)
    try:
        wrapped = _wrap(model, folder, name, config, peft_config)
        if peft_config.is_prompt_learning:
            return Adapter(name, str(config["peft_type"]), virtual=_virtual(wrapped, name, model))
        if peft_config.peft_type not in (
            PeftType.LORA,
            PeftType.ADALORA,
            PeftType.IA3,
            PeftType.LOHA,
            PeftType.OSF,
        ):
            raise NeedsSeparateModel(
                f"adapter {sanitize(name)} needs its own copy of the model: its type is {config['peft_type']}"
            )
        patches = _patches(model, name)
    finally:
        _restore(model)
    return Adapter(name, str(config["peft_type"]), patches)


def load_in_place(model: CausalModel, folder: Path, name: str) -> CausalModel:
    """Adds the adapter's layers to ``model`` permanently, for a second pass, and returns it.

    Raises LabError if the adapter does not fit the model."""
    adapted = load_peft_model(model, folder, name).get_base_model()
    assert isinstance(adapted, CausalModel)
    return adapted


def load_peft_model(model: CausalModel, folder: Path, name: str) -> PeftModel:
    """The adapter as a PeftModel, which also handles virtual tokens. The weights of ``model`` are shared; its
    embeddings are resized to those of an adapter with added tokens.

    Raises LabError if the adapter does not fit the model."""
    config = read_config(folder)
    rows = _vocabulary(model, safetensors_file.read_header(folder / WEIGHTS), name)
    if rows != embedding_weight(model).shape[0]:
        resizable: Any = model
        resizable.resize_token_embeddings(rows, mean_resizing=False)  # the adapter has all of these rows
    return _wrap(model, folder, name, config, _peft_config(model, folder, name))


def _vocabulary(model: CausalModel, header: Mapping[str, safetensors_file.TensorEntry], name: str) -> int:
    """The rows that the embeddings have with an adapter: those of the model, or those of an adapter for more
    or fewer tokens, which brings all of them. Raises LabError for one that brings a part."""
    rows = embedding_weight(model).shape[0]
    inputs, outputs = embedding_rows(header)
    if not (inputs | outputs) - {rows}:
        return rows
    size = max((inputs | outputs) - {rows})
    head = model.get_output_embeddings()
    is_tied = head is None or head.weight is embedding_weight(model)
    if inputs == {size} and (outputs == {size} or (is_tied and not outputs)):
        return size
    what = f"{size - rows:,} added tokens" if size > rows else f"{rows - size:,} tokens less"
    raise LabError(
        f"adapter {sanitize(name)} was trained with {what}, but it has only a part of their weights; resize "
        f"the base (resize_token_embeddings({size})), save it with this tokenizer, and load that folder"
    )


def _peft_config(model: CausalModel, folder: Path, name: str) -> PeftConfig:
    """The configuration of an adapter, its expressions resolved to modules. Raises LabError."""
    from peft import PeftConfig

    try:
        config: PeftConfig = PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LabError(f"adapter {sanitize(name)} cannot be read: {_brief(error)}") from None
    resolve_patterns(config, [module for module, _ in model.named_modules() if module], name)
    return config


#: Layers whose weights peft cannot read: LLM.int8 (its norms fail), and FP8.
_IN_8_BITS = ("Linear8bitLt", "Float8Linear")


def _wrap(
    model: CausalModel, folder: Path, name: str, config: dict[str, object], peft_config: PeftConfig
) -> PeftModel:
    """The model with the adapter, every tensor of which is accounted for. Raises LabError."""
    from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel
    from safetensors import SafetensorError

    if config.get("peft_type") == "OSF" and not all(each.is_floating_point() for each in model.parameters()):
        raise LabError(
            f"adapter {sanitize(name)} (OSF) is computed from the weights of its base, and here they are "
            "rounded to 4 or 8 bits; load the base without quantisation"
        )
    if config.get("use_dora") and any(type(module).__name__ in _IN_8_BITS for module in model.modules()):
        raise LabError(
            f"adapter {sanitize(name)} (DoRA) needs the norms of the base weights, which are in 8 bits here; "
            "load the base without quantisation, or with nf4"
        )
    kind = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(str(peft_config.task_type), PeftModel)
    peft_config.inference_mode = True
    try:
        wrapped = kind(model, peft_config, _ADAPTER)
        renamed = getattr(model, "_checkpoint_conversion_mapping", {})
        found = wrapped.load_adapter(
            str(folder), _ADAPTER, key_mapping=None if peft_config.is_prompt_learning else renamed
        )
    except (
        RuntimeError, ValueError, KeyError, AttributeError, AssertionError, TypeError, SafetensorError,
    ) as error:  # fmt: skip
        raise _misfit(model, name, config, _brief(error)) from None
    if not peft_config.is_prompt_learning:
        if missing := [key for key in found.missing_keys if not _SHARED.search(key)]:
            raise _misfit(model, name, config, f"{tensors(missing)} missing from its {WEIGHTS}")
        if found.unexpected_keys:
            raise _misfit(model, name, config, f"{tensors(found.unexpected_keys)} for no module of it")
    if bad := not_finite(wrapped, lambda key: _ADAPTER in key or bool(EMBEDDINGS.search(key))):
        raise LabError(
            f"adapter {sanitize(name)} cannot be used: {tensors(bad, 'has', 'have')} NaN or infinite values"
        )
    return wrapped.train(False)


#: Tensors that peft shares between modules and keeps in one place.
_SHARED = re.compile(r"vblora_vector_bank|prompt_encoder|\.tinylora_v\.|\.unilora_theta_d\.")


def _misfit(model: CausalModel, name: str, config: dict[str, object], cause: str) -> LabError:
    """The sentence for an adapter that does not fit; another base is advised only if its base has another
    name than the model."""
    trained_on = str(config.get("base_model_name_or_path") or "")
    loaded = str(getattr(model.config, "_name_or_path", "") or "")
    same = bool(trained_on) and Path(trained_on).name.lower() == Path(loaded).name.lower()
    advice = "" if same or not trained_on else f"; it was trained on {sanitize(trained_on[:200])}, load that"
    return LabError(
        f"adapter {sanitize(name)} does not fit this {model.config.model_type} model: {cause}{advice}"
    )


def _brief(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return sanitize((lines[1] if len(lines) > 1 and lines[0].endswith(":") else " ".join(lines[:1]))[:200])


def _restore(model: CausalModel) -> None:
    """Removes peft's layers from a model, also if wrapping it failed half-way."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def _virtual(wrapped: PeftModel, name: str, model: CausalModel) -> VirtualTokens:
    """The virtual tokens of a prompt, p- or prefix tuning adapter."""
    config = model.config.get_text_config(decoder=True)
    with torch.no_grad():
        prompt = wrapped.get_prompt(1)
    mismatch = LabError(
        f"adapter {sanitize(name)} does not fit this {config.model_type} model: its sizes differ"
    )
    if isinstance(prompt, torch.Tensor):
        if prompt.shape[-1] != embedding_weight(model).shape[-1]:
            raise mismatch
        return VirtualTokens(embeddings=prompt[0].detach())
    past = tuple((layer.keys.detach(), layer.values.detach()) for layer in prompt.layers)
    heads, width = kv_shape(config)
    lengths = {keys.shape[2] for keys, _ in past}
    fits = len(past) == config.num_hidden_layers and len(lengths) == 1
    if not fits or any(keys.shape[1] != heads or keys.shape[3] != width for keys, _ in past):
        raise mismatch
    return VirtualTokens(past=past)


def _patches(model: CausalModel, name: str) -> dict[str, ModulePatch]:
    """The patch of each adapted module, by its name, read from peft's layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    patches = {}
    for module_name, layer in model.named_modules():
        if isinstance(layer, BaseTunerLayer) and _ADAPTER in layer.active_adapters:
            patch = _patch(layer)
            if patch is None:
                raise NeedsSeparateModel(
                    f"adapter {sanitize(name)} needs its own copy of the model: "
                    f"it changes {sanitize(module_name)} ({type(layer).__name__})"
                )
            patches[module_name] = patch
    if not patches:
        raise LabError(f"adapter {sanitize(name)} changes no module of this {model.config.model_type} model")
    return patches


def _patch(layer: Any) -> ModulePatch | None:
    from peft.tuners.adalora.layer import AdaLoraLayer
    from peft.tuners.ia3.layer import IA3Layer
    from peft.tuners.loha.layer import LoHaLayer
    from peft.tuners.lora.layer import LoraLayer
    from peft.tuners.osf.layer import OSFLayer
    from transformers.pytorch_utils import Conv1D

    base = layer.get_base_layer()
    if not isinstance(base, torch.nn.Linear | Conv1D):  # 4-bit modules are Linear too
        return None
    with torch.no_grad():
        if isinstance(layer, AdaLoraLayer):
            svd: Any = layer  # peft annotates none of these
            rank = float(svd.ranknum[_ADAPTER]) + 1e-5  # as in peft
            a = (svd.lora_A[_ADAPTER] * svd.lora_E[_ADAPTER]).detach()
            return ModulePatch(a=a, b=svd.lora_B[_ADAPTER].detach(), scaling=svd.scaling[_ADAPTER] / rank)
        if isinstance(layer, LoraLayer):
            return _lora_patch(layer, base)
        if isinstance(layer, IA3Layer):
            scale = layer.ia3_l[_ADAPTER].detach().flatten()
            return ModulePatch(in_scale=scale) if layer.is_feedforward else ModulePatch(out_scale=scale)
        if isinstance(layer, LoHaLayer | OSFLayer) and isinstance(base, torch.nn.Linear):
            return ModulePatch(delta=layer.get_delta_weight(_ADAPTER).detach())
    return None


def _lora_patch(layer: Any, base: Any) -> ModulePatch | None:
    from peft.tuners.lora.variants import DoraLinearVariant
    from peft.utils.integrations import dequantize_module_weight

    if _ADAPTER not in layer.lora_A:
        return None
    variant = layer.lora_variant.get(_ADAPTER)
    down, up, scaling = layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER], layer.scaling[_ADAPTER]
    b_bias = None if up.bias is None else up.bias.detach()
    patch = {"a": down.weight.detach(), "b": up.weight.detach(), "b_bias": b_bias, "scaling": scaling}
    if variant is None:
        return ModulePatch(**patch)
    if not isinstance(variant, DoraLinearVariant) or type(variant) is not DoraLinearVariant:
        return None
    dora = layer.lora_magnitude_vector[_ADAPTER]
    weight = dequantize_module_weight(base).to(down.weight.dtype)
    norm = dora.get_weight_norm(weight=weight, lora_weight=dora.get_lora_weight(down, up), scaling=scaling)
    bias = None if base.bias is None else base.bias.detach()
    return ModulePatch(**patch, ratio=(dora.weight / norm).detach(), bias=bias)


class AdapterSplit:
    """Hooks that apply adapters to parts of a batch, inside of :meth:`rows` and until :meth:`close`."""

    def __init__(self, model: CausalModel, adapters: Sequence[Adapter]) -> None:
        self.names = tuple(adapter.name for adapter in adapters)
        self._rows: dict[int, slice] = {}
        self._handles: list[RemovableHandle] = []
        by_module: dict[str, list[tuple[int, ModulePatch]]] = {}
        for at, adapter in enumerate(adapters):
            for module_name, patch in adapter.patches.items():
                by_module.setdefault(module_name, []).append((at, patch))
        for module_name, patches in by_module.items():
            self._hook(model.get_submodule(module_name), patches)

    def _hook(self, module: torch.nn.Module, patches: list[tuple[int, ModulePatch]]) -> None:
        def before(
            _module: torch.nn.Module, args: tuple[torch.Tensor, ...]
        ) -> tuple[torch.Tensor, ...] | None:
            x = None
            for at, patch in patches:
                if patch.in_scale is not None and (rows := self._rows.get(at)):
                    # other modules read the same input, so it is copied
                    x = args[0].clone() if x is None else x
                    x[rows] = (x[rows] * patch.in_scale).to(x.dtype)
            return None if x is None else (x, *args[1:])

        def after(_module: torch.nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            for at, patch in patches:
                if rows := self._rows.get(at):
                    output[rows] = patch.apply(args[0][rows], output[rows])

        if any(patch.in_scale is not None for _, patch in patches):
            self._handles.append(module.register_forward_pre_hook(before))
        if any(patch.in_scale is None for _, patch in patches):
            self._handles.append(module.register_forward_hook(after))

    @contextmanager
    def rows(self, counts: Sequence[int]) -> Iterator[None]:
        """A context whose forwards have counts[0] rows of the base, then counts[1] of the first adapter, …"""
        first = counts[0]
        for at, count in enumerate(counts[1:]):
            if count:
                self._rows[at] = slice(first, first + count)
            first += count
        try:
            yield
        finally:
            self._rows = {}

    def close(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
