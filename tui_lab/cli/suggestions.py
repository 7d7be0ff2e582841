"""What was probably meant by an unknown command or option. Imported only after a mistake."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable

from tui_lab.recipes.recipe import FIELDS, KEY_ALIASES

#: Commands of other tools, and what they are called here.
COMMAND_ALIASES = {
    "finetune": "train", "fine-tune": "train", "tune": "train", "fit": "train", "sft": "train",
    "ls": "runs", "list": "runs", "ps": "runs", "status": "runs", "history": "runs",
    "attach": "watch", "follow": "watch", "tail": "logs", "log": "logs", "kill": "stop", "cancel": "stop",
    "chat": "generate", "infer": "generate", "inference": "generate",
    "run": "train", "eval": "retention", "evaluate": "retention", "benchmark": "retention",
    "estimate": "forecast", "plan": "forecast", "merge": "export", "convert": "export", "fuse": "export",
    "config": "settings", "configure": "settings", "where": "locate", "paths": "locate", "check": "doctor",
    "dataset": "data", "datasets": "data", "recipes": "presets",
}  # fmt: skip
#: Options of other tools that are options here too.
OPTION_ALIASES = {
    "--base-model": "--model", "--model-name": "--model", "--model-name-or-path": "--model", "-m": "--model",
    "--dataset": "--data", "--train-data": "--data", "--config": "--preset", "--recipe": "--preset",
    "--output-dir": "--runs-dir", "--output": "--out", "--nproc-per-node": "--num-processes",
    "--num-gpus": "--num-processes", "--adapter-path": "--adapter", "--lora": "--adapter",
    "--max-tokens": "--max-new-tokens", "--n-predict": "--max-new-tokens", "--tasks": "--suite",
    "--task": "--suite", "--background": "--detach", "--wandb": "--report-to", "--no-gpu": "--cpu",
    "--format": "-o json", "--quantize": "--four-bit", "--yes": "--force",
}  # fmt: skip
#: Keys whose former names took another kind of value.
_VALUES = {
    "load_in_4bit": "nf4", "4bit": "nf4", "load_in_8bit": "int8", "8bit": "int8", "bf16": "bfloat16",
    "fp16": "float16",
}  # fmt: skip
_FLAGS = {"bf16": "compute_dtype", "fp16": "compute_dtype"}
#: How alike a name and the one that was meant are at least.
CUTOFF = 0.7
#: Keys are longer, and differ from those of other tools in whole words.
KEY_CUTOFF = 0.6


def nearest(word: str, names: Iterable[str], cutoff: float = CUTOFF) -> str:
    """The name most like ``word``; "" without one."""
    return next(iter(difflib.get_close_matches(word, list(names), 1, cutoff)), "")


def command_instead(word: str, commands: Iterable[str]) -> str:
    """What to say after "there is no command trian"; "" where nothing is near."""
    known = list(commands)
    alias = COMMAND_ALIASES.get(word.lower(), "")
    meant = alias if alias in known else nearest(word.lower(), known)
    return f": did you mean {meant}?" if meant else ""


def option_instead(name: str, value: str, options: Iterable[str]) -> str:
    """What to write in place of the unknown option ``name``, which was given with ``value``: another option,
    or ``--set`` with the key of the recipe; "" where nothing is near."""
    known = list(options)
    alias = OPTION_ALIASES.get(name.lower(), "")
    if alias.partition(" ")[0] in known:
        return f": did you mean {alias}?"
    key = name.lstrip("-").lower().replace("-", "_")
    if "--set" in known:
        exact = _FLAGS.get(key) or KEY_ALIASES.get(key) or (key if key in FIELDS else "")
        if f"--{exact.replace('_', '-')}" in known:
            return f": did you mean --{exact.replace('_', '-')}?"
        if exact:
            return f": write `--set {exact}={_value_of(key, exact, value)}`"
    if meant := nearest(name.lower(), [option for option in known if option.startswith("--")]):
        return f": did you mean {meant}?"
    if "--set" in known and (meant := nearest(key, FIELDS, KEY_CUTOFF)):
        return f": did you mean `--set {meant}=…`?"
    return ""


def _value_of(key: str, field: str, value: str) -> str:
    """The value for ``--set``: the one that was given, else the default as an example."""
    if key in _VALUES:
        return _VALUES[key]
    if value:
        return shlex.quote(value)
    default = FIELDS[field].default
    return (
        "true"
        if isinstance(default, bool)
        else f"{default:g}"
        if isinstance(default, float)
        else f"{default}"
    )
