"""peft's configuration for a recipe.

Where peft's defaults would surprise, the value is set here with the reason. Sources: LoRA (Hu et al.
2021), rsLoRA (Kalajdzievski 2023), DoRA (Liu et al. 2024), PiSSA (Meng et al. 2024), AdaLoRA (Zhang et
al. 2023), LoHa (Hyeon-Woo et al. 2021), IA3 (Liu et al. 2022), prefix tuning (Li and Liang 2021),
p-tuning (Liu et al. 2021), prompt tuning (Lester et al. 2021), OSF (Nayak et al. 2025, arXiv 2504.07097).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoHaConfig,
    LoraConfig,
    OSFConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
)
from peft.tuners.lora import LoraLayer

from tui_lab.recipes.recipe import Recipe


def peft_config(
    recipe: Recipe, targets: list[str], feedforward: list[str], hidden_size: int, total_steps: int
) -> PeftConfig:
    """peft's configuration for an adapter recipe.

    ``targets``: module names; ``feedforward``: those of them that IA3 scales at their input; ``hidden_size``:
    width of the model, for p-tuning's encoder; ``total_steps``: planned optimiser steps, for AdaLoRA's
    schedule. Raises ValueError for a method without adapter.
    """
    task: Any = TaskType.CAUSAL_LM
    dropout = recipe.lora_dropout
    match recipe.method:
        case "lora":
            init: Any = True if recipe.init_lora_weights == "default" else recipe.init_lora_weights
            # a frozen part does not change the scale of the part that is trained
            growth = recipe.adapter_rank / recipe.lora_r
            return LoraConfig(
                task_type=task,
                r=recipe.adapter_rank,
                lora_alpha=recipe.lora_alpha * (math.sqrt(growth) if recipe.use_rslora else growth),  # type: ignore[arg-type]
                lora_dropout=dropout,
                target_modules=targets,
                use_rslora=recipe.use_rslora,
                use_dora=recipe.use_dora,
                init_lora_weights=init,
            )
        case "adalora":
            # a tenth of the run as warm-up, the last third at the final ranks: the proportions of the
            # paper's shorter tasks
            initial, final = max(1, total_steps // 10), max(1, total_steps // 3)
            return AdaLoraConfig(
                task_type=task,
                init_r=recipe.init_r,
                target_r=recipe.target_r,
                lora_alpha=recipe.lora_alpha,  # type: ignore[arg-type]
                lora_dropout=dropout,
                target_modules=targets,
                total_step=total_steps,
                tinit=initial,
                tfinal=final,
                deltaT=max(1, min(10, (total_steps - initial - final) // 10)),
            )
        case "loha":
            return LoHaConfig(
                task_type=task,
                r=recipe.lora_r,
                alpha=recipe.lora_alpha,  # type: ignore[arg-type]
                module_dropout=0.0,
                rank_dropout=dropout,
                target_modules=targets,
            )
        case "osf":
            return OSFConfig(task_type=task, effective_rank=recipe.effective_rank, target_modules=targets)
        case "ia3":
            return IA3Config(task_type=task, target_modules=targets, feedforward_modules=feedforward)
        case "prefix":
            return PrefixTuningConfig(task_type=task, num_virtual_tokens=recipe.num_virtual_tokens)
        case "p_tuning":
            return PromptEncoderConfig(
                task_type=task, num_virtual_tokens=recipe.num_virtual_tokens, encoder_hidden_size=hidden_size
            )
        case "prompt_tuning":
            return PromptTuningConfig(task_type=task, num_virtual_tokens=recipe.num_virtual_tokens)
    raise ValueError(f"method {recipe.method!r} trains no adapter")


def changes_base_weights(recipe: Recipe) -> bool:
    """Whether the adapter's initialisation moves a part of the base weights into the adapter (PiSSA, OLoRA),
    so that it fits the original base only after a conversion."""
    return recipe.method == "lora" and recipe.init_lora_weights in ("pissa", "pissa_niter_16", "olora")


def layers_under_autocast(model: torch.nn.Module) -> list[LoraLayer]:
    """LoRA layers that need no cast of their input under autocast. DoRA's norms are computed beside it."""
    return [module for module in model.modules() if isinstance(module, LoraLayer) and not module.lora_variant]


@contextmanager
def inputs_uncast(layers: Sequence[LoraLayer]) -> Iterator[None]:
    """Inside, ``layers`` do not copy their input to float32, the type of their weights: under autocast the
    product casts it back at once. For whole steps, as checkpointing computes layers again."""
    for layer in layers:
        layer.cast_input_dtype_enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.cast_input_dtype_enabled = True


def orthogonality(model: torch.nn.Module, adapter: str = "default") -> torch.Tensor:
    """AdaLoRA's regulariser, a scalar: the mean over the factors P and Q of ‖PᵀP − I‖_F (Zhang et al. 2023,
    eq. 4). peft adds it to a loss that the model computes; trl computes the loss outside of the model.
    """
    terms = []
    for name, weight in model.named_parameters():
        if adapter in name and ("lora_A" in name or "lora_B" in name):
            gram = weight @ weight.T if "lora_A" in name else weight.T @ weight
            terms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram)).to(gram)))
    return torch.stack(terms).mean() if terms else torch.zeros(())
