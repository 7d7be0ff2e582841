"""The recipe: everything that one fine-tuning needs to be told, as one flat, validated record.

Keys are named as in transformers' ``TrainingArguments`` and peft's configs, so that what people know
carries over. A recipe is made from a preset (a TOML file, see :mod:`tui_lab.presets`) and overrides;
every mistake is reported at once, each with its key, its value, what is allowed and the nearest valid
key. Hard limits refuse, advised ranges only warn (:func:`tui_lab.recipe_rules.warnings_for`). Combinations that break,
loudly or silently, are refused by name with the alternative (:data:`tui_lab.recipe_rules.REFUSALS`).
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tui_lab.errors import LabError
from tui_lab.recipe_fields import FieldInfo, describe
from tui_lab.recipe_rules import REFUSALS


def _field(default: Any, label: str, help: str, group: str, **limits: Any) -> Any:
    return Field(default, description=help, json_schema_extra={"label": label, "group": group}, **limits)


class Recipe(BaseModel):
    """One fine-tuning, fully described. Frozen: change it with :func:`make_recipe` or :meth:`changed`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    # --- model
    model: str = _field(
        "pocket",
        "model",
        "What is tuned: pocket, a catalog name, a local folder or a hub id.",
        "model",
        min_length=1,
    )
    revision: str = _field(
        "",
        "revision",
        "Branch, tag or commit on the hub; empty means the default branch. A commit makes the run repeatable.",
        "model",
    )
    allow_large: bool = _field(
        False,
        "allow over 3 B",
        "Lets models over 3 B parameters through; the presets are not made for them.",
        "model",
    )
    preset: str = _field("", "preset", "The preset that this recipe started from; only a note.", "model")

    # --- data
    data: str = _field(
        "pirate",
        "data",
        "A bundled set (pirate, json, support), a file or folder, or a hub name.",
        "data",
        min_length=1,
    )
    data_format: Literal[
        "auto", "alpaca", "messages", "sharegpt", "prompt_completion", "question_answer", "text"
    ] = _field("auto", "format", "The shape of the rows; auto looks at the columns and says why.", "data")
    chat_template: str = _field(
        "", "chat template", "A Jinja file that replaces the tokenizer's template; empty keeps it.", "data"
    )
    validation_fraction: float = _field(
        0.1,
        "validation",
        "Share of the rows held out when the data has no validation split of its own; 0.1 to 0.2 is usual.",
        "data",
        gt=0,
        le=0.5,
    )
    max_rows: int = _field(
        0,
        "max rows",
        "Use at most this many rows; 0 means all. Good for a first try on a large set.",
        "data",
        ge=0,
    )
    deduplicate: bool = _field(
        True,
        "remove duplicates",
        "Removes duplicates, and validation rows that are also in training; off keeps them and the validation loss flatters.",
        "data",
    )
    max_length: int = _field(
        1024,
        "max length",
        "Tokens a row at most. Activations grow with it; too short cuts answers off.",
        "data",
        ge=16,
        le=131072,
    )
    packing: bool = _field(
        False,
        "packing",
        "Fills each sequence with several rows: no padding, fewer steps; rows do not see each other.",
        "data",
    )

    # --- quantisation
    quantization: Literal["none", "nf4"] = _field(
        "none",
        "quantization",
        "nf4 keeps the frozen weights in 4 bits (QLoRA): a quarter of the memory for a little accuracy and speed.",
        "quantization",
    )
    double_quantization: bool = _field(
        True,
        "double quant",
        "Quantises the scales of NF4 too: saves about 0.37 bit a parameter, costs nearly nothing.",
        "quantization",
    )
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = _field(
        "auto",
        "compute dtype",
        "What matrix products are computed in; auto takes bfloat16 where the GPU has it, float32 on a CPU.",
        "quantization",
    )

    # --- method
    method: Literal["lora", "full", "ia3", "prefix", "p_tuning", "prompt_tuning", "adalora", "loha"] = _field(
        "lora",
        "method",
        "What is trained: a low-rank adapter (lora, adalora, loha), scales (ia3), virtual tokens, or all weights (full).",
        "method",
    )
    lora_r: int = _field(
        16,
        "rank r",
        "Rank of the update: 4-8 for style, 16-32 for a domain, 32-64 for new concepts. Parameters grow with it.",
        "method",
        ge=1,
        le=1024,
    )
    lora_alpha: float = _field(
        32,
        "alpha",
        "Scale of the update: it is multiplied by alpha/r. Twice r is the usual start.",
        "method",
        gt=0,
        le=4096,
    )
    lora_dropout: float = _field(
        0.05,
        "dropout",
        "Dropout in front of the adapter: 0.05-0.1 helps against overfitting on small data.",
        "method",
        ge=0,
        lt=1,
    )
    target_modules: str = _field(
        "all",
        "targets",
        "Which layers get an adapter: qv, qkv, qkvo, mlp, all, or module names with commas. More learn more and cost more.",
        "method",
        min_length=1,
    )
    use_rslora: bool = _field(
        False,
        "rank-stabilised",
        "Scales by alpha/sqrt(r) instead of alpha/r: keeps ranks over 64 learning.",
        "method",
    )
    use_dora: bool = _field(
        False,
        "DoRA",
        "Learns direction and magnitude apart: often better at low rank, slower a step.",
        "method",
    )
    init_lora_weights: Literal["default", "gaussian", "pissa", "pissa_niter_16", "olora"] = _field(
        "default",
        "adapter init",
        "pissa and olora start from the weights' own directions: faster at first, but they change the base weights.",
        "method",
    )
    target_r: int = _field(
        8, "AdaLoRA target r", "Average rank that AdaLoRA prunes down to.", "method", ge=1, le=512
    )
    init_r: int = _field(
        12,
        "AdaLoRA initial r",
        "Rank that AdaLoRA starts from; about 1.5 times the target.",
        "method",
        ge=1,
        le=1024,
    )
    num_virtual_tokens: int = _field(
        20,
        "virtual tokens",
        "Length of the learned prompt for prefix, p- and prompt tuning.",
        "method",
        ge=1,
        le=1024,
    )

    # --- training
    learning_rate: float = _field(
        2e-4,
        "learning rate",
        "Step size. Adapters 5e-5 to 5e-4, all weights 1e-6 to 1e-5, tiny models far more. Too high diverges or forgets.",
        "training",
        gt=0,
        le=1,
    )
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = _field(
        "cosine", "schedule", "How the learning rate falls; cosine ends gently.", "training"
    )
    warmup_steps: int = _field(
        5,
        "warm-up steps",
        "Steps over which the rate rises from zero; protects the first steps.",
        "training",
        ge=0,
    )
    num_train_epochs: float = _field(
        1.0, "epochs", "Passes over the data; 1-3. More memorises.", "training", gt=0, le=1000
    )
    max_steps: int = _field(
        0, "max steps", "Stop after this many optimiser steps; 0 lets the epochs decide.", "training", ge=0
    )
    per_device_train_batch_size: int = _field(
        1, "batch size", "Rows at once on the device: activations grow with it.", "training", ge=1, le=4096
    )
    gradient_accumulation_steps: int = _field(
        4,
        "accumulation",
        "Batches summed before a step: a larger effective batch at the memory of a small one.",
        "training",
        ge=1,
        le=4096,
    )
    optim: Literal[
        "adamw_torch",
        "adamw_torch_fused",
        "adamw_8bit",
        "paged_adamw_8bit",
        "paged_adamw_32bit",
        "adafactor",
        "sgd",
    ] = _field(
        "adamw_torch",
        "optimiser",
        "8-bit keeps the states in a quarter of the memory; paged moves them aside when the GPU is full.",
        "training",
    )
    weight_decay: float = _field(
        0.01, "weight decay", "Pulls trained weights towards zero; 0 to 0.1.", "training", ge=0, le=1
    )
    max_grad_norm: float = _field(
        1.0,
        "clip norm",
        "Gradients longer than this are shortened: guards against spikes. 0 switches it off.",
        "training",
        ge=0,
    )
    gradient_checkpointing: bool = _field(
        False,
        "checkpointing",
        "Recomputes activations in the backward pass: much less memory, about a third slower.",
        "training",
    )
    seed: int = _field(
        42, "seed", "Seeds data order, initialisation and dropout.", "training", ge=0, lt=2**32
    )

    # --- measuring
    logging_steps: int = _field(
        1, "log every", "Steps between two points of the loss curve.", "measuring", ge=1
    )
    eval_steps: int = _field(
        0, "evaluate every", "Steps between two validations; 0 chooses about eight a run.", "measuring", ge=0
    )
    early_stopping_patience: int = _field(
        0,
        "patience",
        "Stops when the validation loss has not improved for this many validations, and keeps the best; 0 is off, 5 is usual.",
        "measuring",
        ge=0,
    )
    save_steps: int = _field(
        0,
        "checkpoint every",
        "Steps between two checkpoints; 0 saves with every validation.",
        "measuring",
        ge=0,
    )
    save_total_limit: int = _field(
        2,
        "checkpoints kept",
        "Older checkpoints are deleted; the best is always kept.",
        "measuring",
        ge=1,
        le=100,
    )
    score_rows: int = _field(
        64,
        "scored rows",
        "Held-out rows answered at the start and at the end for the task's own score; 0 leaves it out.",
        "measuring",
        ge=0,
    )
    sample_prompt: str = _field(
        "",
        "sample prompt",
        "A prompt answered now and then; empty takes the first held-out row.",
        "measuring",
    )
    sample_steps: int = _field(
        0, "sample every", "Steps between two samples; 0 samples with every validation.", "measuring", ge=0
    )
    sample_max_new_tokens: int = _field(
        48, "sample length", "Tokens a sample or a scored answer at most.", "measuring", ge=1, le=2048
    )

    @property
    def effective_batch_size(self) -> int:
        """Rows an optimiser step sees on one device."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    @property
    def is_adapter(self) -> bool:
        """Whether the run leaves an adapter (else a full model)."""
        return self.method != "full"

    def changed(self, **overrides: Any) -> Recipe:
        """The same recipe with some values replaced, checked again. Raises RecipeError."""
        return build({**self.model_dump(), **overrides})

    def to_toml(self) -> str:
        """The recipe as TOML, one key a line in schema order."""
        return tomli_w.dumps(self.model_dump())


#: Every recipe field by name, in schema order.
FIELDS: dict[str, FieldInfo] = {name: describe(name, field) for name, field in Recipe.model_fields.items()}


# --------------------------------------------------------------------------------------------------
# mistakes


@dataclass(frozen=True)
class Problem:
    """One mistake: the key, the value found, and the sentence for people."""

    key: str
    value: Any
    message: str


class RecipeError(LabError):
    """All mistakes of a recipe at once; ``problems`` has them one by one."""

    def __init__(self, problems: list[Problem], where: str = "") -> None:
        self.problems = problems
        prefix = f"{where}: " if where else ""
        if len(problems) == 1:
            text = prefix + problems[0].message
        else:
            text = f"{prefix}{len(problems)} mistakes\n" + "\n".join(f"  - {p.message}" for p in problems)
        super().__init__(text)


def _shown(value: Any) -> str:
    text = (
        repr(value)
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    return text if len(text) <= 60 else text[:57] + "..."


#: What people call a key elsewhere (Unsloth, axolotl, torchtune, older trl) or in speech.
OTHER_NAMES = {
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "steps": "max_steps",
    "batch_size": "per_device_train_batch_size",
    "micro_batch_size": "per_device_train_batch_size",
    "accumulation": "gradient_accumulation_steps",
    "r": "lora_r",
    "rank": "lora_r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "targets": "target_modules",
    "optimizer": "optim",
    "scheduler": "lr_scheduler_type",
    "max_seq_length": "max_length",
    "sequence_len": "max_length",
    "load_in_4bit": "quantization",
    "patience": "early_stopping_patience",
    "dataset": "data",
    "base_model": "model",
}


def unknown_key(key: str) -> Problem:
    """The problem of a key that no recipe has, with the nearest valid one."""
    other = OTHER_NAMES.get(key.lower().replace("-", "_"))
    near = [other] if other else difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "; `tui-lab presets --keys` lists the valid keys"
    return Problem(key, None, f"{key} is not a recipe key{hint}")


def _problem(error: ErrorDetails) -> Problem:
    key = str(error["loc"][0]) if error["loc"] else "recipe"
    if error["type"] == "extra_forbidden":
        return unknown_key(key)
    info, value = FIELDS[key], error["input"]
    message = f"{key} = {_shown(value)}: must be {info.allowed()}"
    if info.kind == "choice" and isinstance(value, str):
        near = difflib.get_close_matches(value.lower(), info.choices, n=1, cutoff=0.5)
        message += f"; did you mean {near[0]!r}?" if near else ""
    return Problem(key, value, message)


# --------------------------------------------------------------------------------------------------
# making recipes


def refusals(recipe: Recipe) -> list[Problem]:
    """Combinations in this recipe that cannot work, each naming the alternative."""
    return [Problem(key, getattr(recipe, key), text) for applies, key, text in REFUSALS if applies(recipe)]


def build(values: Mapping[str, Any], where: str = "") -> Recipe:
    """A checked recipe from plain values. Raises RecipeError with every mistake at once."""
    try:
        recipe = Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise RecipeError([_problem(e) for e in error.errors()], where) from None
    if problems := refusals(recipe):
        raise RecipeError(problems, where)
    return recipe


def check_values(values: Mapping[str, Any]) -> list[Problem]:
    """Every mistake in plain values, without raising: for forms that check at each keystroke."""
    try:
        build(values)
    except RecipeError as error:
        return error.problems
    return []


def parse_setting(text: str) -> tuple[str, Any]:
    """``key=value`` from the command line, the value read as TOML would and coerced to the field's kind."""
    key, equals, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not equals or not key:
        raise LabError(f"--set {text}: write it as key=value, such as --set learning_rate=1e-4")
    if key not in FIELDS:
        raise RecipeError([unknown_key(key)], "--set")
    return key, parse_value(key, raw)


def parse_value(key: str, raw: str) -> Any:
    """Text typed for field ``key`` as a value of its kind; text that does not fit is returned as it is,
    so that the check names it."""
    kind = FIELDS[key].kind
    raw = raw.strip()
    if kind in ("text", "choice"):
        return raw[1:-1] if len(raw) >= 2 and raw[0] == raw[-1] and raw[0] in "'\"" else raw
    if kind == "bool":
        return {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}.get(
            raw.lower(), raw
        )
    try:
        if kind == "int":
            number = float(raw)
            return (
                int(raw)
                if raw.lstrip("+-").replace("_", "").isdigit()
                else int(number)
                if number.is_integer()
                else raw
            )
        return float(raw)
    except (ValueError, OverflowError):
        return raw


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """A TOML file as a dict; a LabError that names the file and the line where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f"{what} {path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{what} {path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise LabError(f"{what} {path}: not valid TOML: {error}") from None


def read_recipe(path: Path) -> Recipe:
    """A recipe saved by :meth:`Recipe.to_toml`. Raises LabError."""
    return build(read_toml(path, "recipe"), where=str(path))
