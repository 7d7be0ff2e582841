"""Combinations that a recipe must not have, and advice on unusual values.

:data:`REFUSALS` are combinations that fail, with an error or silently; each sentence names the alternative,
and each case was tested (tests/training/test_matrix.py). :func:`warnings_for` is advice: a value outside its
usual range still runs. Ranges are those of the QLoRA, LoRA and rsLoRA papers and of peft's guides."""

from __future__ import annotations

from collections.abc import Callable

from tui_lab.recipes import mixture
from tui_lab.recipes.schema import FILLED_KEYS, TRACKERS, RecipeSchema

#: Learning-rate advice is for models of real size; a model below this many parameters needs far
#: higher rates (measured on the pocket model: a low rank learns next to nothing under 1e-3).
TINY_MODEL_PARAMETERS = 30_000_000

VIRTUAL_TOKEN_METHODS = ("prefix", "p_tuning", "prompt_tuning")
LORA_LIKE_METHODS = ("lora", "adalora", "loha")


def _has_no_general_rows(recipe: RecipeSchema) -> bool:
    return recipe.replay_data == "auto" and recipe.model != "pocket"


def _changes_base(recipe: RecipeSchema) -> bool:
    return recipe.method == "lora" and recipe.init_lora_weights in ("pissa", "pissa_niter_16", "olora")


def _has_known_change(recipe: RecipeSchema) -> bool:
    """Whether the change ΔW of a weight can be computed: s·BA, or the weight minus its start."""
    return recipe.method == "full" or (recipe.method == "lora" and not recipe.use_dora)


#: (applies, keys, sentence). Each cell was tried: see tests/training/test_matrix.py.
REFUSALS: tuple[tuple[Callable[[RecipeSchema], bool], str, str], ...] = (
    (
        lambda r: any(name not in FILLED_KEYS for name in r.pins),
        "pinned",
        f"pinned names a key that fill_card does not choose; use {', '.join(FILLED_KEYS)}",
    ),
    (
        lambda r: r.frozen_rank > 0 and not r.from_run,
        "frozen_rank",
        "frozen_rank above 0 needs from_run, the run whose adapter stays as it is: use --from RUN --new-adapter",
    ),
    (
        lambda r: r.frozen_rank > 0 and (r.method != "lora" or r.use_dora or _changes_base(r)),
        "frozen_rank",
        "frozen_rank above 0 needs method = 'lora' without DoRA and with init_lora_weights = 'default'; set frozen_rank = 0 to train the same adapter further",
    ),
    (
        lambda r: r.frozen_rank > 0 and r.lora_dropout > 0,
        "lora_dropout",
        "lora_dropout above 0 with frozen_rank would also leave out inputs of the earlier adapter; use lora_dropout = 0",
    ),
    (
        lambda r: r.frozen_rank > 0 and bool(r.accelerate_config),
        "frozen_rank",
        "frozen_rank above 0 with accelerate_config: the frozen part of a sharded adapter would change; use num_processes, or frozen_rank = 0",
    ),
    (
        lambda r: r.quantization != "none" and r.method == "full",
        "quantization",
        "quantization with method = 'full': rounded weights cannot be trained; use method = 'lora', or quantization = 'none'",
    ),
    (
        lambda r: r.quantization != "none" and r.method == "lora" and r.init_lora_weights.startswith("pissa"),
        "init_lora_weights",
        "init_lora_weights = 'pissa' with quantization: peft cannot decompose rounded weights; use quantization = 'none', or init_lora_weights = 'default'",
    ),
    (
        lambda r: r.quantization != "none" and r.method == "lora" and r.init_lora_weights == "olora",
        "init_lora_weights",
        "init_lora_weights = 'olora' with quantization rounds the changed base weights anew, so the saved adapter would not fit the base; use quantization = 'none', or init_lora_weights = 'default'",
    ),
    (
        lambda r: r.quantization == "nf4" and r.method == "loha",
        "method",
        "method = 'loha' with quantization = 'nf4' fails on the shapes of packed 4-bit weights; use method = 'lora', or quantization = 'none'",
    ),
    (
        lambda r: r.quantization != "none" and r.method == "osf",
        "method",
        "method = 'osf' with quantization: peft cannot decompose rounded weights; use method = 'lora', or quantization = 'none'",
    ),
    (
        lambda r: r.unquantized_budget > 0 and r.quantization != "nf4",
        "unquantized_budget",
        "unquantized_budget above 0 is for quantization = 'nf4': set that, or use unquantized_budget = 0",
    ),
    (
        lambda r: r.quantization in ("int8", "fp8") and r.method == "lora" and r.use_dora,
        "use_dora",
        "use_dora = true with weights in 8 bits: peft cannot read them for their norms; use quantization = 'nf4', or use_dora = false",
    ),
    (
        lambda r: r.preference_loss != "none" and r.packing,
        "packing",
        "packing = true with a preference loss would separate the two sides of a pair; use packing = false",
    ),
    (
        lambda r: r.preference_loss != "none" and r.method in VIRTUAL_TOKEN_METHODS,
        "method",
        "a preference loss with virtual tokens is not computed; use method = 'lora', 'ia3' or 'full'",
    ),
    (
        lambda r: r.preference_loss in ("dpo", "kto") and _changes_base(r),
        "init_lora_weights",
        "init_lora_weights = 'pissa' or 'olora' changes the base, which dpo and kto compare with; use 'default', or preference_loss = 'simpo'",
    ),
    (
        lambda r: r.chosen_weight > 0 and r.preference_loss not in ("dpo", "simpo"),
        "chosen_weight",
        "chosen_weight above 0 needs preference_loss = 'dpo' or 'simpo': other losses train chosen answers by themselves; set chosen_weight = 0",
    ),
    (
        lambda r: r.preference_loss == "kto" and r.per_device_train_batch_size < 2,
        "per_device_train_batch_size",
        "preference_loss = 'kto' compares answers within a batch: use per_device_train_batch_size of 2 or more",
    ),
    (
        lambda r: (
            r.preference_loss != "none"
            and bool(
                r.replay_fraction or r.uncertainty_weighting or r.focal_gamma or r.label_smoothing_factor
            )
        ),
        "preference_loss",
        "a preference loss takes the place of the token loss: set replay_fraction, uncertainty_weighting, focal_gamma and label_smoothing_factor to 0; kl_weight protects as well",
    ),
    (
        lambda r: r.packing and r.method in VIRTUAL_TOKEN_METHODS,
        "packing",
        "packing = true with virtual tokens lets packed rows attend to one another silently; use packing = false, or method = 'lora'",
    ),
    (
        lambda r: r.gradient_checkpointing and r.method == "prefix",
        "gradient_checkpointing",
        "gradient_checkpointing = true with method = 'prefix': the recomputed pass cannot carry the prefix; use gradient_checkpointing = false, or method = 'prompt_tuning'",
    ),
    (lambda r: r.use_dora and r.method != "lora", "use_dora", "use_dora = true needs method = 'lora'"),
    (lambda r: r.use_rslora and r.method != "lora", "use_rslora", "use_rslora = true needs method = 'lora'"),
    (
        lambda r: r.method == "adalora" and r.target_r >= r.init_r,
        "target_r",
        "target_r must be below init_r: AdaLoRA starts from init_r and prunes down to target_r (1.5 times the target is a usual start)",
    ),
    (
        lambda r: (
            r.early_stopping_patience > 0
            and r.save_steps > 0
            and (r.eval_steps == 0 or r.save_steps % r.eval_steps != 0)
        ),
        "save_steps",
        "with early stopping, save_steps must be a multiple of eval_steps, and eval_steps set, so that the best state is on disk; or set save_steps = 0",
    ),
    (
        lambda r: r.early_stopping_patience > 0 and r.validation_fraction == 0,
        "early_stopping_patience",
        "early_stopping_patience above 0 needs validation rows: set validation_fraction above 0, or early_stopping_patience = 0",
    ),
    (
        lambda r: r.stop_on_retention and r.probe_share == 0,
        "stop_on_retention",
        "stop_on_retention = true needs probe_share above 0: without probes there is nothing to stop on",
    ),
    (
        lambda r: r.replay_fraction > 0 and _has_no_general_rows(r),
        "replay_fraction",
        "replay_fraction above 0 needs replay_data, a file, folder or hub id of general rows: 'auto' knows the corpus of the bundled model only",
    ),
    (
        lambda r: r.ewc_lambda > 0 and _has_no_general_rows(r),
        "ewc_lambda",
        "ewc_lambda above 0 needs replay_data, a file, folder or hub id of general rows to measure on: 'auto' knows the corpus of the bundled model only",
    ),
    (
        lambda r: r.class_weights != "none" and r.packing,
        "class_weights",
        "class_weights with packing = true: a packed row holds several labels; use packing = false",
    ),
    (
        lambda r: (
            r.class_weights != "none"
            and bool(
                r.replay_fraction
                or r.self_distillation
                or r.uncertainty_weighting
                or r.preference_loss != "none"
            )
        ),
        "class_weights",
        "class_weights needs rows whose answers are labels and nothing else: set replay_fraction = 0, self_distillation = false, uncertainty_weighting = false and preference_loss = 'none', or class_weights = 'none'",
    ),
    (
        lambda r: r.self_distillation and r.replay_fraction > 0,
        "self_distillation",
        "self_distillation = true with replay_fraction above 0: general rows cannot be mixed with rewritten ones; set replay_fraction = 0 and use kl_weight",
    ),
    (
        lambda r: r.self_distillation and r.preference_loss != "none",
        "self_distillation",
        "self_distillation = true with a preference loss: answers that are compared must stay as they are; set self_distillation = false",
    ),
    (
        lambda r: r.self_distillation and mixture.is_mixture(r.data),
        "self_distillation",
        "self_distillation = true takes one data set, and this is a mixture; set self_distillation = false, or use one set",
    ),
    (
        lambda r: r.self_distillation and r.num_processes > 1,
        "num_processes",
        "num_processes above 1 with self_distillation = true: one process rewrites the answers; use num_processes = 1",
    ),
    (
        lambda r: r.label_smoothing_factor > 0 and r.focal_gamma > 0,
        "focal_gamma",
        "focal_gamma and label_smoothing_factor pull in opposite directions; use one of them and set the other to 0",
    ),
    (
        lambda r: r.uncertainty_weighting and r.packing,
        "uncertainty_weighting",
        "uncertainty_weighting = true with packing = true: a packed row holds several tasks; use packing = false",
    ),
    (
        lambda r: r.kl_weight > 0 and _changes_base(r),
        "kl_weight",
        "kl_weight above 0 with init_lora_weights = 'pissa' or 'olora': the base is changed, so there is none to stay near; use init_lora_weights = 'default'",
    ),
    (
        lambda r: r.l2_to_start > 0 and not _has_known_change(r),
        "l2_to_start",
        "l2_to_start above 0 needs method = 'lora' without DoRA, or method = 'full': the change of the weights is not known otherwise; use kl_weight",
    ),
    (
        lambda r: r.ewc_lambda > 0 and not _has_known_change(r),
        "ewc_lambda",
        "ewc_lambda above 0 needs method = 'lora' without DoRA, or method = 'full': the change of the weights is not known otherwise; use kl_weight",
    ),
    (
        lambda r: r.frozen_layers > 0 and r.method in VIRTUAL_TOKEN_METHODS,
        "frozen_layers",
        "frozen_layers above 0 with virtual tokens: no layer is trained there anyway; set frozen_layers = 0",
    ),
    (
        lambda r: r.layer_lr_decay < 1 and r.method in VIRTUAL_TOKEN_METHODS,
        "layer_lr_decay",
        "layer_lr_decay below 1 with virtual tokens: no layer is trained there; set layer_lr_decay = 1",
    ),
    (
        lambda r: r.gradual_unfreezing and r.method in VIRTUAL_TOKEN_METHODS,
        "gradual_unfreezing",
        "gradual_unfreezing = true with virtual tokens: no layer is trained there; set gradual_unfreezing = false",
    ),
    (
        lambda r: r.gradual_unfreezing and r.method == "adalora",
        "gradual_unfreezing",
        "gradual_unfreezing = true with method = 'adalora': its ranks are allotted by gradients that frozen layers do not have; use method = 'lora'",
    ),
    (
        lambda r: r.frozen_layers > 0 and r.method == "adalora",
        "frozen_layers",
        "frozen_layers above 0 with method = 'adalora': its ranks are allotted by gradients that frozen layers do not have; use method = 'lora'",
    ),
    (
        lambda r: not set(r.trackers) <= set(TRACKERS),
        "report_to",
        f"report_to must be none, or of {', '.join(TRACKERS)} (several with commas)",
    ),
    (
        lambda r: r.num_processes > 1 and r.gradual_unfreezing,
        "num_processes",
        "num_processes above 1 with gradual_unfreezing = true: layers that thaw later would not be averaged over the processes; use frozen_layers or layer_lr_decay",
    ),
    (
        lambda r: r.num_processes > 1 and r.uncertainty_weighting,
        "num_processes",
        "num_processes above 1 with uncertainty_weighting = true: the learned weights of tasks would differ between the processes; use num_processes = 1",
    ),
)


def warnings_for(recipe: RecipeSchema, parameters: int | None = None) -> list[str]:
    """Advice where a value lies outside its usual range. ``parameters``: the model's size if known."""
    advice: list[str] = []
    tiny = recipe.model == "pocket" or (parameters is not None and parameters < TINY_MODEL_PARAMETERS)
    rate = recipe.learning_rate
    if recipe.method in LORA_LIKE_METHODS and not tiny and not 5e-5 <= rate <= 5e-4:
        side = "slow to learn" if rate < 5e-5 else "likely to diverge or to forget"
        advice.append(
            f"learning_rate = {rate:g} is outside 5e-05 to 0.0005, the usual range for adapters: {side}"
        )
    if recipe.method == "full" and not tiny and not 1e-6 <= rate <= 1e-5:
        side = "slow to learn" if rate < 1e-6 else "it forgets much"
        advice.append(
            f"learning_rate = {rate:g} is outside 1e-06 to 1e-05, the usual range for all weights: {side}"
        )
    if recipe.weight_decay > 0.1:
        advice.append(
            f"weight_decay = {recipe.weight_decay:g} is above 0.1, more than is usual: it can undo what is learned"
        )
    if (
        recipe.num_train_epochs > 3
        and not tiny
        and recipe.max_steps == 0
        and recipe.early_stopping_patience == 0
    ):
        advice.append(
            f"num_train_epochs = {recipe.num_train_epochs:g} is above 3: set early_stopping_patience to stop before it overfits"
        )
    if recipe.method == "lora" and recipe.lora_r > 64 and not recipe.use_rslora:
        advice.append(
            f"lora_r = {recipe.lora_r} without use_rslora: alpha/r shrinks the update at ranks over 64"
        )
    if recipe.method == "lora" and not 0.25 <= recipe.lora_alpha / recipe.lora_r <= 8:
        advice.append(
            f"lora_alpha / lora_r = {recipe.lora_alpha / recipe.lora_r:g} is outside 0.25 to 8; twice the rank is the usual start"
        )
    if recipe.method == "lora" and recipe.init_lora_weights in ("pissa", "pissa_niter_16", "olora"):
        advice.append(
            f"init_lora_weights = '{recipe.init_lora_weights}' changes the base weights: the adapter cannot share a batch with its base"
        )
    if recipe.compute_dtype == "float16":
        advice.append(
            "compute_dtype = 'float16' overflows easily in training; bfloat16 is safer where the GPU has it"
        )
    if recipe.effective_batch_size > 256:
        advice.append(
            f"effective batch of {recipe.effective_batch_size} rows: small data sets then give only a few steps"
        )
    if recipe.max_steps and recipe.num_train_epochs != RecipeSchema.model_fields["num_train_epochs"].default:
        advice.append(
            f"max_steps = {recipe.max_steps} decides the length of the run, num_train_epochs = {recipe.num_train_epochs:g} has no effect; set max_steps = 0 to go by epochs"
        )
    if recipe.validation_fraction > 0.3:
        advice.append(
            f"validation_fraction = {recipe.validation_fraction:g} takes much from training; 0.1 to 0.2 is usual"
        )
    return advice
