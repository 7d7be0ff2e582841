"""The fields of a recipe: each with its type, limits, default, label, help and group, written once.

Keys are named as in transformers' ``TrainingArguments`` and peft's configs. What may not be combined is in :mod:`tui_lab.recipes.rules`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field


def _field(default: Any, label: str, group: str, help: str, **limits: Any) -> Any:
    """``word``: what 0 is called where it is no amount; of another value, (word, value)."""
    word = limits.pop("word", "")
    name, value = word if isinstance(word, tuple) else (word, 0)
    extra = {"label": label, "group": group, "word": name, "word_value": value}
    return Field(default, description=help, json_schema_extra=extra, **limits)


#: Values by recipe key, before they are validated or after they are resolved.
Values: TypeAlias = Mapping[str, Any]

#: What figures can be reported to: the Trainer's name for it, and the packages of which one is needed.
TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "trackio": ("trackio",)}


#: Keys that ``fill_card`` may choose.
FILLED_KEYS = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "optim",
)


class RecipeSchema(BaseModel):
    """The fields of :class:`tui_lab.recipes.recipe.Recipe`. Forms show them in this order, under their
    groups."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    # Two lines a field: its value and limits, its help.
    # fmt: off
    # --- model
    model: str = _field("pocket", "model", "model", min_length=1,
        help="What is tuned: pocket, a catalog name, a local folder or a hub id.")
    revision: str = _field("", "revision", "model",
        help="Branch, tag or commit on the hub; empty means the default branch. A commit makes the run repeatable.")
    allow_large: bool = _field(False, "allow over 3 B", "model",
        help="Lets models over 3 B parameters through; the presets are not made for them.")
    from_run: str = _field("", "go on from", "model",
        help="The folder of a run whose adapter or full weights are trained further; empty: from the base.")
    frozen_rank: int = _field(0, "frozen rank", "model", ge=0, le=1024, word="off",
        help="With go on from: off trains that run's LoRA adapter further; its rank keeps it as it is and trains a new adapter beside it.")
    preset: str = _field("", "preset", "model",
        help="The preset that this recipe started from; only a note.")

    # --- data
    data: str = _field("pirate", "data", "data", min_length=1,
        help="A bundled set (pirate, json, support), a file or folder, or a hub id; several with weights: a.jsonl:0.75 + b.jsonl:0.25.")
    mixture_by: Literal["rows", "tokens"] = _field("rows", "mixture by", "data",
        help="What the weights of several data sets are shares of: training rows, or trained tokens.")
    mixture_sampling: Literal["down", "up"] = _field("down", "mixture sampling", "data",
        help="How the shares are reached: down leaves rows of the larger sets out, up repeats rows of the smaller ones.")
    data_format: Literal[
        "auto", "alpaca", "messages", "sharegpt", "prompt_completion", "question_answer", "text",
        "preference", "feedback"
    ] = _field("auto", "data format", "data",
        help="The shape of the rows; auto looks at the columns and says why.")
    columns: str = _field("", "columns", "data",
        help="Which column is which, as question=prompt,answer=reply, and what values mean: Alice=user, 0=bad; "
        "empty goes by the names of the columns.")
    chat_template: str = _field("", "chat template", "data",
        help="A Jinja file that replaces the tokenizer's template; empty keeps it.")
    thinking: Literal["auto", "on", "off"] = _field("auto", "thinking", "data",
        help="Whether a thinking model is trained and asked with its thinking on; auto goes by each row's answer.")
    validation_fraction: float = _field(0.1, "validation share", "data", ge=0, le=0.5, word="off",
        help="Share of the rows held out when the data has no validation split of its own; 0.1 to 0.2 is usual.")
    max_rows: int = _field(0, "max rows", "data", ge=0, word="all",
        help="Use at most this many rows. Good for a first try on a large set.")
    deduplicate: bool = _field(True, "deduplicate", "data",
        help="Removes duplicates, and validation rows that are also in training; off keeps them and the validation loss flatters.")
    max_length: int = _field(1024, "max length", "data", ge=16, le=131072,
        help="Tokens a row at most. Activations grow with it; too short cuts answers off.")
    packing: bool = _field(False, "packing", "data",
        help="Fills each sequence with several rows: no padding, fewer steps; rows do not see each other.")

    packed_attention: Literal["auto", "varlen", "mask"] = _field("auto", "packed attention", "data",
        help="How packed rows stay apart: varlen computes each by its bounds, mask hides the others at a cost that grows with the square.")

    # --- quantisation
    quantization: Literal["none", "nf4", "int8", "fp8"] = _field("none", "quantization", "quantization",
        help="nf4 keeps the frozen weights in 4 bits (QLoRA), a quarter of the memory; int8 (LLM.int8) and fp8 in 8 bits, half of it, with less rounding.")
    double_quantization: bool = _field(True, "double quantization", "quantization",
        help="Quantises the scales of NF4 too: saves about 0.37 bit a parameter, costs nearly nothing.")
    unquantized_budget: float = _field(0.0, "unquantised budget", "quantization", ge=0, le=50, word="off",
        help="Percent of the linear layers' weights that nf4 may leave unquantised: the layers that it rounds worst.")
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = _field(
        "auto", "compute dtype", "quantization",
        help="What matrix products are computed in; auto takes bfloat16 where the GPU has it, float32 on a CPU.")

    # --- method
    method: Literal["lora", "full", "ia3", "prefix", "p_tuning", "prompt_tuning", "adalora", "loha", "osf"] = _field(
        "lora", "method", "method",
        help="What is trained: a low-rank adapter (lora, adalora, loha), the least important directions of each matrix (osf), scales (ia3), virtual tokens, or all weights (full).")
    lora_r: int = _field(16, "LoRA rank r", "method", ge=1, le=1024,
        help="Rank of the update: 4-8 for style, 16-32 for a domain, 32-64 for new concepts. Parameters grow with it.")
    lora_alpha: float = _field(32, "LoRA alpha", "method", gt=0, le=4096,
        help="Scale of the update: it is multiplied by alpha/r. Twice r is the usual start.")
    lora_dropout: float = _field(0.05, "LoRA dropout", "method", ge=0, lt=1, word="off",
        help="Dropout in front of the adapter: 0.05-0.1 helps against overfitting on small data.")
    target_modules: str = _field("all", "target modules", "method", min_length=1,
        help="Which layers get an adapter: qv, qkv, qkvo, mlp, all, or module names with commas. More learn more and cost more.")
    use_rslora: bool = _field(False, "rank-stabilised", "method",
        help="Scales by alpha/sqrt(r) instead of alpha/r: keeps ranks over 64 learning.")
    use_dora: bool = _field(False, "DoRA", "method",
        help="Learns direction and magnitude apart: often better at low rank, slower a step.")
    init_lora_weights: Literal["default", "gaussian", "pissa", "pissa_niter_16", "olora"] = _field(
        "default", "adapter init", "method",
        help="pissa and olora start from the weights' own directions: faster at first, but they change the base weights.")
    target_r: int = _field(8, "AdaLoRA target r", "method", ge=1, le=512,
        help="Average rank that AdaLoRA prunes down to.")
    init_r: int = _field(12, "AdaLoRA initial r", "method", ge=1, le=1024,
        help="Rank that AdaLoRA starts from; about 1.5 times the target.")
    effective_rank: float = _field(0.5, "OSF frozen share", "method", ge=0.05, le=0.99,
        help="Share of each matrix's singular directions that osf freezes, the most important first; the rest is trained. More keeps more and learns less.")
    num_virtual_tokens: int = _field(20, "virtual tokens", "method", ge=1, le=1024,
        help="Length of the learned prompt for prefix, p- and prompt tuning.")

    # --- training
    learning_rate: float = _field(2e-4, "learning rate", "training", gt=0, le=1,
        help="Step size. Adapters 5e-5 to 5e-4, all weights 1e-6 to 1e-5, tiny models far more. Too high diverges or forgets.")
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = _field(
        "cosine", "LR schedule", "training",
        help="How the learning rate falls; cosine ends gently.")
    warmup_steps: int = _field(5, "warm-up steps", "training", ge=0, word="off",
        help="Steps over which the rate rises from zero; protects the first steps.")
    num_train_epochs: float = _field(1.0, "epochs", "training", gt=0, le=1000,
        help="Passes over the data; 1-3. More memorises.")
    max_steps: int = _field(0, "max steps", "training", ge=0, word="auto",
        help="Stop after this many optimiser steps; auto lets the epochs decide.")
    per_device_train_batch_size: int = _field(1, "batch size", "training", ge=1, le=4096,
        help="Rows at once on the device: activations grow with it.")
    gradient_accumulation_steps: int = _field(4, "grad. accumulation", "training", ge=1, le=4096,
        help="Batches summed before a step: a larger effective batch at the memory of a small one.")
    optim: Literal[
        "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit",
        "adafactor", "sgd"
    ] = _field("adamw_torch", "optimiser", "training",
        help="8-bit keeps the states in a quarter of the memory; paged moves them aside when the GPU is full.")
    weight_decay: float = _field(0.01, "weight decay", "training", ge=0, le=1, word="off",
        help="Pulls trained weights towards zero; 0 to 0.1.")
    max_grad_norm: float = _field(1.0, "max gradient norm", "training", ge=0, word="off",
        help="Gradients longer than this are shortened: guards against spikes.")
    gradient_checkpointing: bool = _field(False, "grad. checkpointing", "training",
        help="Recomputes activations in the backward pass: much less memory, about a third slower.")
    fill_card: bool = _field(True, "fill the card", "training",
        help="On a GPU: chooses batch size, accumulation, checkpointing and optimiser kernel for the same rows a step, and measures them.")
    pinned: str = _field("", "pinned", "training",
        help="Keys that fill_card leaves as they are, with commas; those set by --set and in Setup are added.")
    liger_kernel: Literal["auto", "on", "off"] = _field("auto", "Liger kernels", "training",
        help="Fused norms, rotations and feed-forward of liger-kernel on a GPU; auto uses them where the package is installed.")
    seed: int = _field(42, "seed", "training", ge=0, lt=2**32,
        help="Seeds data order, initialisation and dropout.")
    num_processes: int = _field(1, "processes", "training", ge=1, le=1024,
        help="Processes that share a step, one a GPU: the effective batch grows with them.")
    accelerate_config: str = _field("", "accelerate config", "training",
        help="A config file of accelerate for what goes beyond one machine (FSDP, DeepSpeed); empty: none.")

    device: Literal["auto", "cpu"] = _field("auto", "device", "training",
        help="auto takes the GPU and refuses one that torch cannot use; cpu computes on the CPU although there is a GPU.")
    deterministic: bool = _field(False, "deterministic", "training",
        help="Only GPU kernels that add in a fixed order: a repeated or resumed run gives the same bits, and is slower.")

    # --- measuring
    logging_steps: int = _field(1, "log every", "measuring", ge=1,
        help="Steps between two points of the loss curve.")
    eval_steps: int = _field(0, "evaluate every", "measuring", ge=0, word="auto",
        help="Steps between two validations; auto chooses about eight a run.")
    validation_rows: int = _field(0, "validation rows", "measuring", ge=0, word="auto",
        help="Held-out rows of each validation at most; auto takes 256, or more while all validations take under a tenth of the training.")
    early_stopping_patience: int = _field(0, "early stop. patience", "measuring", ge=0, word="off",
        help="Stops when the validation loss has not improved for this many validations, and keeps the best; 5 is usual.")
    save_steps: int = _field(0, "save every", "measuring", ge=0, word="auto",
        help="Steps between two checkpoints; auto saves with every validation.")
    save_total_limit: int = _field(2, "checkpoints kept", "measuring", ge=1, le=100,
        help="Older checkpoints are deleted; the best is always kept.")
    score_rows: int = _field(64, "scored rows", "measuring", ge=0, word="off",
        help="Held-out rows answered at the start and at the end, to measure acquisition.")
    sample_prompt: str = _field("", "sample prompt", "measuring",
        help="A prompt answered now and then; empty takes the first held-out row.")
    sample_steps: int = _field(0, "sample every", "measuring", ge=0, word="auto",
        help="Steps between two samples; auto samples with every validation.")
    sample_max_new_tokens: int = _field(48, "sample length", "measuring", ge=1, le=2048,
        help="Tokens a sample or a scored answer at most.")

    report_to: str = _field("none", "trackers", "measuring", min_length=1,
        help="Also sends figures to tensorboard, wandb or trackio (several with commas); none keeps all here.")

    # --- loss
    preference_loss: Literal["none", "dpo", "orpo", "kto", "simpo"] = _field(
        "none", "preference loss", "loss",
        help="What chosen and rejected answers train: dpo and kto compare with the model before training, orpo and simpo need no reference. kto takes answers with a verdict. none: chosen answers are trained.")
    preference_beta: float = _field(0.1, "preference beta", "loss", gt=0, le=100,
        help="How far the model may move for the preferences: 0.1 for dpo, kto and orpo, 2 for simpo.")
    simpo_gamma: float = _field(1.0, "SimPO gamma", "loss", ge=0, le=100,
        help="Margin in reward that simpo wants between chosen and rejected.")
    chosen_weight: float = _field(0.0, "chosen weight", "loss", ge=0, le=100, word="off",
        help="Weight of plain tuning on the chosen answers beside dpo or simpo: 1 keeps them from becoming unlikely. orpo includes it.")
    undesirable_weight: float = _field(1.0, "undesirable weight", "loss", gt=0, le=100,
        help="Weight of undesirable answers against desirable ones, for kto with unequal numbers of both.")
    label_smoothing_factor: float = _field(0.0, "label smoothing", "loss", ge=0, lt=1, word="off",
        help="Share of the target that is spread over all tokens; 0.1 is usual. Less sure of itself, rarely better on facts.")
    focal_gamma: float = _field(0.0, "focal gamma", "loss", ge=0, le=10, word="off",
        help="Focal loss: tokens already known count (1 - p)^gamma; 2 is usual. Puts the work into hard tokens.")
    uncertainty_weighting: bool = _field(False, "uncertainty weights", "loss",
        help="Learns a weight for each task of data with a task column (Kendall 2018), so that none drowns another.")

    class_weights: Literal["none", "balanced"] = _field("none", "class weights", "loss",
        help="For data whose answers are labels: balanced weighs each row by the inverse of its label's frequency, so that rare labels count as much.")

    # --- against forgetting
    replay_fraction: float = _field(0.0, "replay share", "against forgetting", ge=0, le=0.5, word="off",
        help="Share of general rows mixed into training; 0.05 to 0.25 keeps most of what the model knew.")
    replay_data: str = _field("auto", "replay data", "against forgetting", min_length=1,
        help="Where general rows come from: a file, a folder or a hub id; auto is the bundled model's own corpus.")
    self_distillation: bool = _field(False, "self-distillation", "against forgetting",
        help="Before training the base rewrites each answer in its own words; an answer that loses the reference is not used. Trains on what the model would say anyway.")
    kl_weight: float = _field(0.0, "KL-to-base weight", "against forgetting", ge=0, le=100, word="off",
        help="Weight of the distance from the base's predictions in the loss; 0.05 to 1. Costs a forward of the base a step.")
    l2_to_start: float = _field(0.0, "L2-to-start weight", "against forgetting", ge=0, le=1e6, word="off",
        help="Pulls the weights back to where they started: half of this times the squared change.")
    ewc_lambda: float = _field(0.0, "EWC lambda", "against forgetting", ge=0, le=1e6, word="off",
        help="As L2-to-start, but only where general text is sensitive (Fisher information). Costs memory.")
    frozen_layers: int = _field(0, "frozen layers", "against forgetting", ge=0, le=1000, word="off",
        help="The first layers that stay as they are, with the embeddings: less forgetting, less learning.")
    gradual_unfreezing: bool = _field(False, "gradual unfreezing", "against forgetting",
        help="Trains the top layers first, then those below at a lower rate, until all take part.")
    layer_lr_decay: float = _field(
        1.0, "layer-wise LR decay", "against forgetting", gt=0, le=1, word=("off", 1.0),
        help="Each layer below the top learns at this times the rate of the one above; 0.8 to 0.95 is usual.")

    # --- retention probe
    probe_share: float = _field(0.03, "probe share", "retention probe", ge=0, le=0.5, word="off",
        help="Share of the training time that watching for forgetting may take.")
    probe_suite: str = _field("everyday", "probe suite", "retention probe", min_length=1,
        help="What is asked during the run: a suite's name or a file of questions.")
    stop_on_retention: bool = _field(False, "stop on forgetting", "retention probe",
        help="Stops when retention is under the threshold at two probes in a row and chance does not explain it.")
    retention_threshold: float = _field(0.9, "retention threshold", "retention probe", gt=0, le=1,
        help="Retention under this counts as forgetting.")
    # fmt: on

    @property
    def effective_batch_size(self) -> int:
        """Rows in an optimiser step, over all processes."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.num_processes

    @property
    def pins(self) -> tuple[str, ...]:
        """The names in ``pinned``."""
        return tuple(name for each in self.pinned.split(",") if (name := each.strip()))

    @property
    def trackers(self) -> tuple[str, ...]:
        """The names in ``report_to``; empty for none."""
        names = [name.strip() for name in self.report_to.split(",")]
        return tuple(dict.fromkeys(name for name in names if name and name != "none"))

    @property
    def adapter_rank(self) -> int:
        """The rank of a LoRA adapter with the earlier one that stays as it is."""
        return self.lora_r + self.frozen_rank

    @property
    def is_adapter(self) -> bool:
        """Whether the run leaves an adapter (else a full model)."""
        return self.method != "full"
