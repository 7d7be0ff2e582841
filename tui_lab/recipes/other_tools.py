"""Recipes of other tools as recipes of the lab: axolotl's YAML, LLaMA-Factory's YAML, and the keywords of a
Python script for Unsloth or trl. Every key is accounted for; nothing is run.

The keys are in ``other_tools.toml``; sources: axolotl's configuration reference, LLaMA-Factory's
``hparams`` classes, transformers' ``TrainingArguments``, trl's ``SFTConfig`` and peft's ``LoraConfig``."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.recipes import mixture
from tui_lab.recipes.recipe import FIELDS, check_values

Tool = Literal["axolotl", "llamafactory", "trl"]
Outcome = Literal["taken", "same", "cannot"]
TOOLS: dict[Tool, str] = {"axolotl": "axolotl", "llamafactory": "LLaMA-Factory", "trl": "Unsloth or trl"}
#: Larger files are no recipe.
MOST_BYTES = 1 << 20
#: Python calls whose keywords are settings.
_CALLS = re.compile(
    r"(from_pretrained|get_peft_model|LoraConfig|BitsAndBytesConfig|SFTConfig|TrainingArguments|SFTTrainer"
    r"|UnslothTrainingArguments|load_dataset)$"
)
#: Keywords of those calls that are objects of the script.
_OBJECTS = {
    "tokenizer", "processing_class", "train_dataset", "eval_dataset", "args", "peft_config", "callbacks",
    "data_collator", "formatting_func", "device_map", "quantization_config", "split", "compute_metrics",
}  # fmt: skip
#: peft's module names of a whole transformer block, as in most scripts.
_EQUAL_SHARES = "equal shares, while it joins all rows; --data NAME:WEIGHT sets others"
_ALL_MODULES = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
Values: TypeAlias = Mapping[str, Any]


class ImportedKey(NamedTuple):
    """One key of the other recipe. ``to`` is the key here ("" unless taken), ``reason`` explains."""

    key: str
    value: object
    outcome: Outcome
    to: str
    reason: str


class ImportedRecipe(NamedTuple):
    """What became of another tool's recipe; ``values``: of a recipe here, each valid by itself; ``problems``:
    values that do not go together here, as sentences."""

    tool: Tool
    values: dict[str, object]
    keys: list[ImportedKey]
    problems: tuple[str, ...] = ()

    def to_toml(self, source: str) -> str:
        """As a preset file, with the origin of each value."""
        import tomli_w

        origin = {key.to: f"{key.key} = {_short(key.value)}" for key in self.keys if key.outcome == "taken"}
        lines = [f"# {TOOLS[self.tool]} recipe {sanitize(source)}, imported by tui-lab."]
        lines += [
            f"# Not taken: {sanitize(key.key)}: {key.reason}" for key in self.keys if key.outcome == "cannot"
        ]
        lines.append(tomli_w.dumps({"title": Path(source).stem[:40]}).strip())
        for key, value in self.values.items():
            if key in origin:
                lines.append(f"# {sanitize(origin[key])}")
            lines.append(tomli_w.dumps({key: value}).strip())
        return "\n".join(lines) + "\n"


@cache
def _tables() -> dict[str, dict[str, dict[str, str]]]:
    return input_files.read_toml(Path(__file__).with_name("other_tools.toml"))


def read(path: str, tool: Tool | None = None) -> ImportedRecipe:
    """Reads a recipe of another tool; ``tool`` is found by the file where it is None. Raises LabError for a
    file that cannot be read or is of no known tool."""
    place = expanded(path)
    try:
        text = input_files.read_text(place, MOST_BYTES)
    except OSError as error:
        raise LabError(f"{sanitize(str(path))}: {error.strerror or first_line(error)}") from None
    except UnicodeDecodeError:
        raise LabError(f"{sanitize(str(path))}: this is no text in UTF-8") from None
    name = sanitize(place.name)
    values = _keywords(text, name) if place.suffix == ".py" else _yaml(text, name)
    found = tool or ("trl" if place.suffix == ".py" else _tool_of(values, name))
    return convert(values, found, place.parent)


def convert(values: Values, tool: Tool, folder: Path = Path()) -> ImportedRecipe:
    """Converts the keys of another tool's recipe in ``folder``. Raises LabError where a value cannot be a
    recipe's."""
    keys = [_judge(key, value, tool) for key, value in values.items()]
    made: dict[str, object] = {}
    checked: dict[str, ImportedKey] = {}
    for key in sorted(keys, key=lambda key: key.to != "preference_loss"):  # other values depend on it
        if key.outcome == "taken":
            new = _converted(key, values, tool, folder)
            loss = {name: made[name] for name in ("preference_loss",) if name in made}
            if isinstance(new, _Refused):
                key = key._replace(outcome="cannot", to="", reason=str(new))
            elif new is None:
                key = key._replace(outcome="same", to="", reason="the same without a setting")
            elif problems := [each for each in check_values({**loss, key.to: new}) if each.key == key.to]:
                key = key._replace(outcome="cannot", to="", reason=problems[0].message)
            else:
                made[key.to] = new
                if key.to == "data" and mixture.is_mixture(str(new)) and "interleave_probs" not in values:
                    key = key._replace(reason=_EQUAL_SHARES)
        checked[key.key] = key
    if not made:
        raise LabError(f"no key of this {TOOLS[tool]} recipe can be taken over; is it one?")
    together = tuple(problem.message for problem in check_values(made))
    return ImportedRecipe(tool, made, [checked[key.key] for key in keys], together)


# --------------------------------------------------------------------------------------------------
# reading


def _yaml(text: str, name: str) -> Values:
    import yaml

    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise LabError(f"{name}{line}: this is no valid YAML") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise LabError(f"{name}: a recipe has keys and values at its top level")
    return found


def _keywords(text: str, name: str) -> Values:
    """The keywords of the calls that set up a training in a Python script, without running it."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise LabError(f"{name}: this is no valid Python") from None
    names = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: dict[str, Any] = {}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _CALLS.search(ast.unparse(call.func)[-60:]):
            found.update(_arguments(call, names))
    if not found:
        raise LabError(f"{name}: no call of from_pretrained, SFTConfig, LoraConfig or the like was found")
    return found


def _arguments(call: ast.Call, names: Mapping[str, ast.expr]) -> Iterator[tuple[str, Any]]:
    if ast.unparse(call.func).endswith("load_dataset") and call.args:
        yield "dataset", _literal(call.args[0], names)
        return
    for keyword in call.keywords:
        if keyword.arg and keyword.arg not in _OBJECTS:
            value = _literal(keyword.value, names)
            if keyword.arg != "model" or not isinstance(value, _Expression):
                yield keyword.arg, value


def _literal(node: ast.expr, names: Mapping[str, ast.expr]) -> Any:
    if isinstance(node, ast.Name) and node.id in names:
        node = names[node.id]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _Expression(ast.unparse(node)[:80])


class _Expression(str):
    """A value that only running the script would show."""


def _tool_of(values: Values, name: str) -> Tool:
    if "base_model" in values and ("datasets" in values or "sequence_len" in values):
        return "axolotl"
    if "finetuning_type" in values or "stage" in values or "cutoff_len" in values:
        return "llamafactory"
    if "base_model" in values:
        return "axolotl"
    if values.keys() & _tables()["shared"]["taken"].keys():
        return "trl"
    raise LabError(f"{name}: neither axolotl's nor LLaMA-Factory's nor trl's keys were found in it")


# --------------------------------------------------------------------------------------------------
# judging


def _judge(key: str, value: object, tool: Tool) -> ImportedKey:
    if isinstance(value, _Expression):
        return ImportedKey(key, value, "cannot", "", "its value is computed by the script; set it by hand")
    for table in (tool, "shared"):
        tables = _tables().get(table, {})
        if to := tables.get("taken", {}).get(key):
            return ImportedKey(key, value, "taken", to, "")
        for outcome in ("same", "cannot"):
            if reason := tables.get(outcome, {}).get(key):
                return _off(ImportedKey(key, value, outcome, "", reason))
    if tool == "trl" and key == "dataset":
        return ImportedKey(key, value, "taken", "data", "")
    if key in FIELDS:
        return ImportedKey(key, value, "taken", key, "")
    if value in (None, False, "", [], {}):
        return ImportedKey(key, value, "same", "", "it is empty or off")
    return ImportedKey(key, value, "cannot", "", f"no setting of {TOOLS[tool]} that is known here")


def _off(key: ImportedKey) -> ImportedKey:
    """What cannot be taken over and is off is the same."""
    if key.outcome == "cannot" and key.value in (None, False, "", 0, [], {}):
        return key._replace(outcome="same", reason="it is empty or off")
    if key.key in ("train_on_inputs", "train_on_prompt") and key.value is True:
        return key._replace(outcome="cannot", reason="prompts are not trained; raw text rows are, as a whole")
    return key


class _Refused(str):
    """Why a value cannot be taken over."""


def _converted(key: ImportedKey, values: Values, tool: Tool, folder: Path) -> object:
    """The value here; None for the default, :class:`_Refused` where there is none."""
    value = key.value
    if value is None or value == "":
        return None
    if key.key == "warmup_ratio":
        return _warmup_ratio(value, values.get("max_steps"))
    if key.key == "stage" and value == "dpo" and values.get("pref_loss"):
        return None  # which one says pref_loss
    if tool == "llamafactory" and key.key == "dataset":
        return _factory_data(value, values, folder)
    for name in (f"{tool}: {key.key}", key.key, f"> {key.to}"):
        if name in _CONVERSIONS:
            return _CONVERSIONS[name](value)
    kind = FIELDS[key.to].kind
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in ("float", "int") and isinstance(value, str):
        try:  # YAML 1.1 reads 2e-4 as a text
            number = float(value)
        except ValueError:
            return value
        return number if kind == "float" else int(number) if number.is_integer() else value
    return value


def _quantization(value: object) -> object:
    if value in (False, 0):
        return None
    kind = "nf4" if value is True or value == 4 else "int8" if value == 8 else None
    return kind or _Refused(f"{_short(value)} bits are not offered; nf4 is 4 bits, int8 is 8")


def _in_8_bits(value: object) -> object:
    return "int8" if value is True else None


def _method(value: object) -> object:
    name = str(value).lower()
    if name in ("lora", "qlora"):
        return "lora"
    return "full" if name == "full" else _Refused(f"{_short(value)} is no method here; lora and full are")


def _targets(value: object) -> object:
    if value is True or value in ("all", "all-linear"):
        return "all"
    if value is False:
        return None
    names = [each.strip() for each in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        return _Refused("it names no modules")
    return "all" if set(names) == _ALL_MODULES else ",".join(names)


def _dtype(name: str) -> Callable[[object], object]:
    return lambda value: name if value is True else None


def _scheduler(value: object) -> object:
    return (
        value
        if value in FIELDS["lr_scheduler_type"].choices
        else _Refused(f"the schedule {_short(value)} is not offered; cosine, linear and constant are")
    )


def _optimizer(value: object) -> object:
    other = {
        "adamw_bnb_8bit": "adamw_8bit",
        "adamw_hf": "adamw_torch",
        "adamw_apex_fused": "adamw_torch_fused",
    }
    name = other.get(str(value), value)
    return (
        name if name in FIELDS["optim"].choices else _Refused(f"the optimiser {_short(value)} is not offered")
    )


def _warmup_ratio(value: object, steps: object) -> object:
    if isinstance(value, int | float) and isinstance(steps, int) and steps > 0:
        return round(value * steps)
    return (
        None
        if value == 0
        else _Refused(
            "warm-up is counted in steps here and the number of steps is not known: set warmup_steps"
        )
    )


def _max_steps(value: object) -> object:
    return None if value == -1 else value


def _checkpointing(value: object) -> object:
    return True if value in ("unsloth", "offload") else value


def _reports(value: object) -> object:
    names = [value] if isinstance(value, str) else value
    return ",".join(map(str, names)) if isinstance(names, list) else _Refused("it names no tracker")


def _liger(value: object) -> object:
    return "on" if value is True else None


def _axolotl_data(value: object) -> object:
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        return _Refused("it names no data set; give one with --data")
    names = [each.get("data_files") or each.get("path") for each in value]
    return _mixed(names, [1.0] * len(names))


def _factory_data(value: object, values: Values, folder: Path) -> object:
    """A file, or names of ``dataset_info.json``, mixed by ``interleave_probs``."""
    if not isinstance(value, str):
        return _Refused("it names no data set; give one with --data")
    if expanded(value).exists():
        return value
    names = [name.strip() for name in value.split(",")]
    places = [base / str(values.get("dataset_dir") or "data") for base in (folder, Path())]
    place = next((path for path in places if (path / "dataset_info.json").is_file()), None)
    if place is None:
        return _Refused(
            "names of LLaMA-Factory's dataset_info.json, which is not here: give files with --data"
        )
    try:
        known = input_files.read_json(place / "dataset_info.json")
    except (OSError, ValueError, LabError):
        return _Refused(
            f"{sanitize(str(place / 'dataset_info.json'))} cannot be read: give files with --data"
        )
    found = [_factory_set(known.get(name), place) if isinstance(known, dict) else None for name in names]
    shares = values.get("interleave_probs") or [1.0] * len(names)
    return _mixed(found, shares if isinstance(shares, list) else str(shares).split(","))


def _factory_set(entry: object, place: Path) -> str | None:
    if not isinstance(entry, dict):
        return None
    name = entry.get("hf_hub_url") or entry.get("file_name")
    return str(place / str(name)) if name and name == entry.get("file_name") else name


def _mixed(names: Sequence[object], shares: Sequence[Any]) -> object:
    """Data sets with their weights as the text of a mixture."""
    if not all(isinstance(name, str) and name for name in names):
        return _Refused("it names no file; give one with --data")
    if len(names) != len(shares):
        return _Refused("it has not one share for each data set")
    try:
        weights = [float(each) for each in shares]
        data = mixture.joined(map(mixture.Part, map(str, names), weights))
        mixture.parts_of(data)  # raises what is wrong with it
    except (TypeError, ValueError, LabError):
        return _Refused("a mixture needs each set once and shares above 0; give each as --data NAME:WEIGHT")
    return data


def _stage(value: object) -> object:
    if value in ("sft", None):
        return None
    return value if value in ("dpo", "kto") else _Refused(f"stage {_short(value)} is not offered")


def _intervals(value: object) -> object:
    if isinstance(value, float) and 0 < value < 1:
        return _Refused("a share of the steps; set the number of steps")
    return value


def _fraction(value: object) -> object:
    if isinstance(value, int | float) and value > 1:
        return _Refused("a number of rows; validation_fraction is a share of them")
    return float(value) if isinstance(value, int | float) else value


_CONVERSIONS: dict[str, Callable[[object], object]] = {
    "load_in_4bit": _quantization,
    "load_in_8bit": _in_8_bits,
    "quantization_bit": _quantization,
    "adapter": _method,
    "finetuning_type": _method,
    "> target_modules": _targets,
    "bf16": _dtype("bfloat16"),
    "fp16": _dtype("float16"),
    "> lr_scheduler_type": _scheduler,
    "> optim": _optimizer,
    "> max_steps": _max_steps,
    "> gradient_checkpointing": _checkpointing,
    "> report_to": _reports,
    "> liger_kernel": _liger,
    "axolotl: datasets": _axolotl_data,
    "llamafactory: stage": _stage,
    "llamafactory: pref_loss": lambda value: "dpo" if value == "sigmoid" else value,
    "llamafactory: mix_strategy": lambda value: "up" if str(value).startswith("interleave_over") else None,
    "eval_steps": _intervals,
    "save_steps": _intervals,
    "pissa_init": lambda value: "pissa" if value is True else None,
    "> init_lora_weights": lambda value: None if value is True else value,
    "enable_thinking": lambda value: "on" if value is True else "off",
    "> validation_fraction": _fraction,
}


def _short(value: object) -> str:
    text = sanitize(str(value))
    return text if len(text) <= 60 else text[:59] + "…"
