"""The recipe: all settings of one fine-tuning, as one flat, validated record.

The fields are declared in :mod:`tui_lab.recipes.schema`. A recipe is made from a preset (a TOML file, see
:mod:`tui_lab.recipes.presets`) and overrides; every mistake is reported at once, each with its key, its
value, what is allowed and the nearest valid key. Hard limits refuse, advised ranges only warn
(:func:`tui_lab.recipes.rules.warnings_for`). Combinations that break, loudly or silently, are refused by
name with the alternative (:data:`tui_lab.recipes.rules.REFUSALS`)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.recipes import mixture
from tui_lab.recipes.fields import FieldInfo, describe
from tui_lab.recipes.rules import REFUSALS
from tui_lab.recipes.schema import FILLED_KEYS, RecipeSchema, Values


class Recipe(RecipeSchema):
    """One fine-tuning, fully described. Frozen: change it with :func:`make_recipe` or :meth:`changed`."""

    def changed(self, **overrides: object) -> Recipe:
        """The same recipe with some values replaced, checked again. Raises RecipeError."""
        return build({**self.model_dump(), **overrides})

    @property
    def sequences_per_row(self) -> int:
        """Sequences that the model computes together for a row: two for a pair of answers."""
        return 2 if self.preference_loss in ("dpo", "orpo", "simpo") else 1

    @property
    def reference_passes(self) -> int:
        """Forward passes without gradients beside each of the model: under the reference, and for kto of the
        mismatched answers under both."""
        return {"dpo": 1, "kto": 3}.get(self.preference_loss, 0)

    @property
    def needs_frozen_copy(self) -> bool:
        """Whether full tuning is compared with a copy of the weights that it began with."""
        compared = self.kl_weight > 0 or self.preference_loss in ("dpo", "kto")
        return compared and not self.is_adapter

    def to_toml(self) -> str:
        """The recipe as TOML, one key a line in schema order."""
        return tomli_w.dumps(self.model_dump())


#: Every recipe field by name, in schema order.
FIELDS: dict[str, FieldInfo] = {name: describe(name, field) for name, field in Recipe.model_fields.items()}


def with_pins(values: Values, overrides: Values) -> dict[str, object]:
    """``values`` with the keys that a person has set among ``pinned``, so that ``fill_card`` leaves them."""
    found = dict(values)
    if keys := [key for key in FILLED_KEYS if key in overrides]:
        named = [each.strip() for each in str(found.get("pinned", "")).split(",")]
        found["pinned"] = ", ".join(dict.fromkeys([*filter(None, named), *keys]))
    return found


# --------------------------------------------------------------------------------------------------
# mistakes


@dataclass(frozen=True)
class RecipeProblem:
    """One mistake: the key, the value, and a sentence for the user."""

    key: str
    value: object
    message: str


class RecipeError(LabError):
    """All mistakes of a recipe at once; ``problems`` has them one by one."""

    def __init__(self, problems: list[RecipeProblem], where: str = "") -> None:
        self.problems = problems
        prefix = f"{where}: " if where else ""
        if len(problems) == 1:
            text = prefix + problems[0].message
        else:
            text = f"{prefix}{len(problems)} mistakes\n" + "\n".join(f"  - {p.message}" for p in problems)
        super().__init__(text)


def _shown(value: object) -> str:
    text = (
        repr(value)
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    return text if len(text) <= 60 else text[:57] + "..."


#: Names of keys in other tools (Unsloth, axolotl, torchtune, LLaMA-Factory, litgpt, mlx-lm, older trl) and in
#: common use.
KEY_ALIASES = {
    "lr": "learning_rate",
    "epoch": "num_train_epochs",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "n_epochs": "num_train_epochs",
    "steps": "max_steps",
    "iters": "max_steps",
    "max_iters": "max_steps",
    "bs": "per_device_train_batch_size",
    "batch": "per_device_train_batch_size",
    "batch_size": "per_device_train_batch_size",
    "micro_batch_size": "per_device_train_batch_size",
    "train_batch_size": "per_device_train_batch_size",
    "accumulation": "gradient_accumulation_steps",
    "accumulate": "gradient_accumulation_steps",
    "grad_accum": "gradient_accumulation_steps",
    "grad_accumulation_steps": "gradient_accumulation_steps",
    "gradient_accumulation": "gradient_accumulation_steps",
    "r": "lora_r",
    "rank": "lora_r",
    "lora_rank": "lora_r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "targets": "target_modules",
    "lora_target": "target_modules",
    "lora_target_modules": "target_modules",
    "optimizer": "optim",
    "optimiser": "optim",
    "scheduler": "lr_scheduler_type",
    "lr_scheduler": "lr_scheduler_type",
    "warmup": "warmup_steps",
    "wd": "weight_decay",
    "grad_clip": "max_grad_norm",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "seq_len": "max_length",
    "seq_length": "max_length",
    "sequence_len": "max_length",
    "cutoff_len": "max_length",
    "context_length": "max_length",
    "block_size": "max_length",
    "load_in_4bit": "quantization",
    "4bit": "quantization",
    "load_in_8bit": "quantization",
    "8bit": "quantization",
    "dtype": "compute_dtype",
    "precision": "compute_dtype",
    "patience": "early_stopping_patience",
    "dataset": "data",
    "base_model": "model",
}


#: Names of bottleneck adapters (Houlsby et al. 2019; Pfeiffer et al. 2020): the package ``adapters`` 1.3.0
#: pins transformers 4.57.
_BOTTLENECK = ("bottleneck", "adapter", "adapters", "houlsby", "pfeiffer")


def unknown_key(key: str) -> RecipeProblem:
    """The problem of an unknown key, with the nearest valid one."""
    other = KEY_ALIASES.get(key.lower().replace("-", "_"))
    near = [other] if other else difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "; `tui-lab presets --keys` lists the valid keys"
    return RecipeProblem(key, None, f"{key} is not a recipe key{hint}")


def _problem(error: ErrorDetails) -> RecipeProblem:
    key = str(error["loc"][0]) if error["loc"] else "recipe"
    if error["type"] == "extra_forbidden":
        return unknown_key(key)
    info, value = FIELDS[key], error["input"]
    if key == "method" and isinstance(value, str) and value.lower() in _BOTTLENECK:
        return RecipeProblem(
            key,
            value,
            f"method = {_shown(value)}: peft has no bottleneck adapters, and the package adapters needs an "
            "older transformers; use method = 'lora', a bottleneck beside each layer",
        )
    message = f"{key} = {_shown(value)}: must be {info.allowed()}"
    if info.kind == "choice" and isinstance(value, str):
        near = difflib.get_close_matches(value.lower(), info.choices, n=1, cutoff=0.5)
        message += f"; did you mean {near[0]!r}?" if near else ""
    return RecipeProblem(key, value, message)


# --------------------------------------------------------------------------------------------------
# making recipes


def refusals(recipe: Recipe) -> list[RecipeProblem]:
    """Combinations in this recipe that cannot work, each naming the alternative."""
    found = [
        RecipeProblem(key, getattr(recipe, key), text) for applies, key, text in REFUSALS if applies(recipe)
    ]
    problem = mixture.problem_of(recipe.data)
    return [RecipeProblem("data", recipe.data, problem), *found] if problem else found


#: What is wrong with a text that holds bytes of another encoding.
NOT_UTF8 = "is not UTF-8 text: type it again, or rename the file"


def _is_utf8(value: object) -> bool:
    try:
        return not isinstance(value, str) or bool(value.encode()) or not value
    except UnicodeEncodeError:
        return False


def build(values: Values, where: str = "") -> Recipe:
    """A checked recipe from plain values. Raises RecipeError with every mistake at once."""
    unusable = {key: value for key, value in values.items() if not _is_utf8(value)}
    if unusable:
        found = [RecipeProblem(key, value, f"{key} {NOT_UTF8}") for key, value in unusable.items()]
        raise RecipeError(found, where)
    try:
        recipe = Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise RecipeError([_problem(e) for e in error.errors()], where) from None
    if problems := refusals(recipe):
        raise RecipeError(problems, where)
    return recipe


def check_values(values: Values) -> list[RecipeProblem]:
    """Every mistake in plain values, without raising: for forms that validate at each keystroke."""
    try:
        build(values)
    except RecipeError as error:
        return error.problems
    return []


def parse_value(key: str, raw: str) -> object:
    """The text typed for field ``key`` as a value of its kind; text that does not fit is returned unchanged,
    and validation names it."""
    info = FIELDS[key]
    kind, raw = info.kind, raw.strip()
    if info.word and raw.lower() == info.word:
        return int(info.word_value) if kind == "int" else float(info.word_value)
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


def read_toml(path: Path, what: str) -> dict[str, object]:
    """A TOML file as a dict; a LabError that names the file and the line where it cannot be read."""
    try:
        return input_files.read_toml(path)
    except FileNotFoundError:
        raise LabError(f"{what} {path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{what} {path}: cannot be read ({error})") from None
    except ValueError as error:
        raise LabError(f"{what} {path}: not valid TOML: {error}") from None


def read_recipe(path: Path) -> Recipe:
    """A recipe saved by :meth:`Recipe.to_toml`. Raises LabError."""
    return build(read_toml(path, "recipe"), where=str(path))
