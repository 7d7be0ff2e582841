"""A stand-alone training script out of a run: the recipe in plain transformers, trl and peft, with the rows
of the run beside it. That it encodes them as the run did is seen by running it: where it would not (templates
that rewrite turns, replayed rows, windows of long texts) the rows are written as tokens. What of the recipe a
plain trainer has no part for is listed at its head."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tui_lab import __version__
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.core.subprocesses import child_environment
from tui_lab.export.source import Source
from tui_lab.recipes.recipe import Recipe

NAME, TRAIN, VALIDATION, TOKENIZER = "train.py", "train.jsonl", "validation.jsonl", "tokenizer"
_TEMPLATE = Path(__file__).with_name("train_script.txt")
_PINNED = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes")
#: (whether a recipe uses it, what it is): what a plain trainer lacks and what changes what is learned.
_LEFT_OUT = (
    (lambda r: r.label_smoothing_factor > 0, "label smoothing (label_smoothing_factor)"),
    (lambda r: r.focal_gamma > 0, "the focal loss (focal_gamma)"),
    (lambda r: r.uncertainty_weighting, "learned weights of tasks (uncertainty_weighting)"),
    (lambda r: r.kl_weight > 0, "the distance to the base in the loss (kl_weight)"),
    (lambda r: r.l2_to_start > 0, "the pull back to the start (l2_to_start)"),
    (lambda r: r.ewc_lambda > 0, "elastic weight consolidation (ewc_lambda)"),
    (lambda r: r.frozen_layers > 0, "frozen first layers (frozen_layers)"),
    (lambda r: r.gradual_unfreezing, "gradual unfreezing (gradual_unfreezing)"),
    (lambda r: r.layer_lr_decay < 1, "rates by layer (layer_lr_decay)"),
    (lambda r: r.method == "adalora", "AdaLoRA's rank schedule and orthogonality term"),
    (
        lambda r: r.early_stopping_patience > 0,
        "early stopping at the best validation (early_stopping_patience)",
    ),
    (lambda r: r.stop_on_retention, "stopping when retention is lost (stop_on_retention)"),
)


def left_out(recipe: Recipe) -> list[str]:
    """What of a recipe changes what is learned and is not in the script."""
    return [words for used, words in _LEFT_OUT if used(recipe)]


# --- rows ---------------------------------------------------------------------------------------------


@dataclass
class Rows:
    """The rows of a run as it trained on them, and as examples where each row is one example."""

    train: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    train_examples: list[dict[str, Any]] | None
    validation_examples: list[dict[str, Any]] | None
    end_of_turn: str

    @property
    def digest(self) -> str:
        """As the script computes it."""
        sides = [
            {name: [row[name] for row in side] for name in ("input_ids", "labels")}
            for side in (self.train, self.validation)
        ]
        return hashlib.sha256(json.dumps(sides).encode()).hexdigest()


def rows_of(source: Source, tokenizer: Any) -> Rows:
    """The rows of a run, prepared again as it did. Raises LabError where its data is gone."""
    from tui_lab.data import formats, replay, templates
    from tui_lab.data.prepare import prepare
    from tui_lab.retention.suites import registry

    recipe = source.recipe
    length = int(source.settled("max_length", recipe.max_length))
    found = prepare(
        formats.read(recipe.data, recipe.data_format, recipe.max_rows),
        tokenizer,
        max_length=length,
        validation_fraction=recipe.validation_fraction,
        seed=recipe.seed,
        deduplicate=recipe.deduplicate,
        chat_template=source.template_file,
    )
    train, mixed = found.train, False
    if recipe.replay_fraction:
        held_back = registry.load("everyday").held_back if recipe.replay_data == replay.AUTO else ()
        general = replay.general_rows(
            recipe.replay_data,
            tokenizer,
            replay.rows_wanted(len(train), recipe.replay_fraction),
            max_length=length,
            seed=recipe.seed,
            trained=replay.trained_at_most(train),
            held_back=held_back,
        )
        train, mixed = replay.mixed(train, general.rows, recipe.seed), True
    sides = [
        [_example(example) for example in side] if len(side) == len(rows) and not mixed else None
        for side, rows in ((found.train_examples, train), (found.validation_examples, found.validation))
    ]
    mark = templates.renderer_of(tokenizer).end_of_turn
    return Rows(train, found.validation, sides[0], sides[1], mark)


def _example(example: Any) -> dict[str, Any]:
    if example.messages is not None:
        return {"messages": list(example.messages)}
    if example.completion is not None:
        return {"prompt": example.prompt or "", "completion": example.completion}
    return {"text": example.text or ""}


def write_rows(rows: Rows, target: Path, as_tokens: bool) -> None:
    """The two files of rows, readable or as tokens."""
    for name, examples, tokens in (
        (TRAIN, rows.train_examples, rows.train),
        (VALIDATION, rows.validation_examples, rows.validation),
    ):
        shown = None if as_tokens else examples
        if shown is None:
            shown = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in tokens]
        lines = [json.dumps(row, ensure_ascii=True) for row in shown]
        (target / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


# --- the script ---------------------------------------------------------------------------------------


def text_of(source: Source, tokenizer: Any, rows: Rows, as_tokens: bool) -> str:
    """The script."""
    from tui_lab.data.masks import TEMPLATE_SETTINGS
    from tui_lab.data.templates import _start_ids
    from tui_lab.training.adapters import changes_base_weights

    recipe, settled = source.recipe, source.settled
    dtype = str(settled("compute_dtype", "float32"))
    full = recipe.method == "full"
    where = 'str(HERE / "base")' if source.base_is_folder else json.dumps(source.base)
    quantization = after = more = ""
    if source.four_bit:
        more = ", BitsAndBytesConfig"
        quantization = f"""
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant={recipe.double_quantization},
            bnb_4bit_compute_dtype=torch.{dtype},
        ),"""
        after = (
            "    for module in model.modules():  # on processors: one arithmetic in training and evaluation\n"
            '        if hasattr(module, "support_avx512bf16_for_cpu"):\n'
            "            module.support_avx512bf16_for_cpu = False\n"
        )
    to_bf16 = "    import torch\n\n    trainer.model.to(torch.bfloat16)\n"
    moves = changes_base_weights(recipe)  # so that what is saved fits the base as it was
    start = '    trainer.model.save_pretrained(words.out / "start")\n'
    converted = ', path_initial_model_for_weight_conversion=str(words.out / "start")'
    values = {
        "dependencies": "\n".join(f'#   "{name}=={pin}",' for name, pin in _versions(source).items()),
        "purpose": _purpose(source),
        "about": _about(source, as_tokens),
        "model": where,
        "revision": json.dumps(recipe.revision or "main"),
        "seed": str(recipe.seed),
        "max_length": str(int(settled("max_length", recipe.max_length))),
        "start": repr(_start_ids(tokenizer)),
        "end_of_turn": json.dumps(rows.end_of_turn),
        "settings": _python(TEMPLATE_SETTINGS),
        "model_import": more,
        "weights_dtype": "float32" if full else dtype,
        "attention": json.dumps(str(settled("attn_implementation", "sdpa"))),
        "quantization": quantization,
        "after_load": after,
        "arguments": "\n".join(
            f"        {name}={_python(value)}," for name, value in _arguments(source).items()
        ),
        "max_steps": str(recipe.max_steps or -1),
        "adapter": _adapter(source),
        "before_train": start if moves else "",
        "save_how": converted if moves else "",
        "before_save": to_bf16 if full and dtype == "bfloat16" else "",
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _versions(source: Source) -> dict[str, str]:
    """Of the libraries that the run used, without what tells builds apart."""
    ran = source.state.started.get("versions") or {}
    names = [name for name in _PINNED if name != "bitsandbytes" or _needs_bitsandbytes(source)]
    return {name: str(ran.get(name) or version(name)).partition("+")[0] for name in names}


def _needs_bitsandbytes(source: Source) -> bool:
    return source.four_bit or "8bit" in source.recipe.optim or "paged" in source.recipe.optim


def _purpose(source: Source) -> str:
    data = _line(Path(source.recipe.data).name)
    return f"Trains {_line(source.base_name)} on {data} as the run {_line(source.run.id)} of tui-lab did."


def _about(source: Source, as_tokens: bool) -> str:
    missing = left_out(source.recipe)
    how = "They are tokens with their labels." if as_tokens else "encode() makes tokens of them."
    files = f"{TRAIN} and {VALIDATION} hold the rows as the run split them."
    lines = [f"Made by tui-lab {__version__}. {files}", how]
    if source.base_is_folder:
        lines.append("The base model is on no hub: it belongs into the folder base, or name it with --model.")
    if (processes := source.recipe.num_processes) > 1:
        launch = f"accelerate launch --num_processes {processes} {NAME} --out trained"
        lines.append(f"The run shared each step among {processes} processes: {launch}")
    if missing:
        lines += ["", "The run had these parts, which this script lacks, so that it learns otherwise:"]
        lines += [f"- {words}" for words in missing]
    lines += [
        "",
        "Left out, and without influence on what is learned: retention probes, samples, task scores,",
        "checkpoints, pausing and resuming, trackers.",
    ]
    return "\n".join(lines)


def _line(text: str) -> str:
    """A name from outside, for a docstring."""
    return sanitize(" ".join(text.split())).replace("\\", "/").replace('"', "'")


def _arguments(source: Source) -> dict[str, Any]:
    """SFTConfig's, as :func:`tui_lab.training.trainer.training_arguments` has them."""
    recipe, settled = source.recipe, source.settled
    dtype = settled("compute_dtype", "float32")
    return {
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "bf16": dtype == "bfloat16",
        "fp16": dtype == "float16",
        "max_length": int(settled("max_length", recipe.max_length)),
        "packing": recipe.packing,
        "packing_strategy": "bfd",
        "eval_packing": recipe.packing,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.lr_scheduler_type,
        "warmup_steps": recipe.warmup_steps,
        "num_train_epochs": recipe.num_train_epochs,
        "per_device_train_batch_size": recipe.per_device_train_batch_size,
        "per_device_eval_batch_size": recipe.per_device_train_batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation_steps,
        "optim": str(settled("optim", recipe.optim)),
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "activation_checkpointing": recipe.gradient_checkpointing,
        "logging_steps": recipe.logging_steps,
    }


def _adapter(source: Source) -> str:
    """The body of the function that gives peft's configuration: what differs from peft's defaults."""
    if source.whole:
        return "    return None  # all weights are trained"
    from tui_lab.training.adapters import peft_config

    config = source.config
    made = peft_config(
        source.recipe,
        sorted(config.get("target_modules") or []),
        sorted(config.get("feedforward_modules") or []),
        int(config.get("encoder_hidden_size") or 0),
        int(source.state.total_steps or source.recipe.max_steps or 1),
    )
    kind: Any = type(made)
    # AdaLoRA's cannot be made without its number of steps
    plain = (kind(total_step=1) if source.recipe.method == "adalora" else kind()).to_dict()
    shown = {
        name: sorted(value) if isinstance(value, set) else getattr(value, "value", value)
        for name, value in made.to_dict().items()
        if value != plain.get(name) or name == "total_step"
    }
    shown.pop("peft_type", None)
    lines = [f"    from peft import {kind.__name__}", "", f"    return {kind.__name__}("]
    lines += [f"        {name}={_python(value)}," for name, value in shown.items()]
    return "\n".join([*lines, "    )"])


def _python(value: Any) -> str:
    """A value as Python source."""
    text = repr(value)
    return text if '"' in text or "\\" in text else text.replace("'", '"')


def run_rows(target: Path) -> dict[str, Any] | None:
    """What the script makes of its rows, carried out as a program of its own; None where it fails."""
    done = subprocess.run(
        [sys.executable, "-P", str(target / NAME), "--rows"],
        capture_output=True,
        text=True,
        env=child_environment(),
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        sys.stderr.write(done.stderr)
        return None
    found = json.loads(lines[-1])
    assert isinstance(found, dict)
    return found


def write(source: Source, tokenizer: Any, target: Path) -> tuple[bool, dict[str, Any]]:
    """Script and rows, checked: (rows are tokens, what the script made of them). Raises LabError."""
    rows = rows_of(source, tokenizer)
    readable = rows.train_examples is not None and rows.validation_examples is not None
    for as_tokens in [False, True] if readable and rows.end_of_turn else [True]:
        write_rows(rows, target, as_tokens)
        (target / NAME).write_text(text_of(source, tokenizer, rows, as_tokens), encoding="utf-8")
        found = run_rows(target)
        if found is not None and found["sha256"] == rows.digest:
            return as_tokens, found
    raise LabError(
        f"run {source.run.id} is not exported: the script does not make the rows that the run trained on"
    )
