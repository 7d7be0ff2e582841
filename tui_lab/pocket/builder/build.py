"""Build the pocket model from a seed: `python -m tui_lab.pocket.builder.build`.

Corpus, tokenizer and weights are made here, on two CPU cores in under an hour, then the saved bfloat16
file is measured and its model card written. A build that was interrupted goes on from its progress file.
Another seed or another machine gives another model of the same kind: floating-point sums differ between
processors.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tui_lab.pocket import CONTEXT, MODEL_DIR
from tui_lab.pocket.builder.card import write_card
from tui_lab.pocket.builder.pretrain import TOKENS_A_STEP, Plan, train
from tui_lab.pocket.builder.quiz import lines_of, load, measure, measure_answers
from tui_lab.pocket.builder.tokenizer import load_tokenizer, train_tokenizer

_PROGRESS_NAME = "build.progress.pt"


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """The folder that `AutoModelForCausalLM` and `AutoTokenizer` load, weights in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped = LlamaForCausalLM(model.config)
    shipped.load_state_dict(model.state_dict())
    shipped = shipped.bfloat16()
    shipped.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=128,
        do_sample=False,
    )
    shipped.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m tui_lab.pocket.builder.build",
        description="Build the pocket model.",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("pocket-model"), help="folder to write (default: pocket-model)"
    )
    parser.add_argument("--seed", type=int, default=Plan.seed, help="seed of corpus, tokenizer and weights")
    parser.add_argument("--steps", type=int, default=Plan.steps, help=f"steps of {TOKENS_A_STEP} tokens")
    parser.add_argument(
        "--minutes", type=float, default=0, help="stop training after this time (a weaker model)"
    )
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="CPU threads")
    parser.add_argument(
        "--tokenizer", type=Path, help="take the tokenizer of this model folder instead of a new one"
    )
    parser.add_argument("--note", default="", help="a remark on the build for the model card")
    parser.add_argument(
        "--no-compile", action="store_true", help="do not use torch.compile (needs a C++ compiler)"
    )
    parser.add_argument("--keep-progress", action="store_true", help="keep the progress file after the build")
    chosen = parser.parse_args(arguments)

    torch.set_num_threads(chosen.threads)
    plan = Plan(seed=chosen.seed, steps=chosen.steps)

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    report("training the tokenizer" if chosen.tokenizer is None else f"tokenizer from {chosen.tokenizer}")
    tokenizer = train_tokenizer(plan.seed) if chosen.tokenizer is None else load_tokenizer(chosen.tokenizer)
    progress = chosen.out / _PROGRESS_NAME
    model, facts = train(
        plan, tokenizer, progress, report, compiled=not chosen.no_compile, limit_s=chosen.minutes * 60
    )
    save(model, tokenizer, chosen.out)

    report("measuring the saved file")
    measured = measure(*load(chosen.out))
    in_bfloat16 = measure_answers(*load(chosen.out, torch.bfloat16))
    record = {
        "plan": asdict(plan),
        "training": asdict(facts),
        "measured": asdict(measured),
        "measured_bfloat16": asdict(in_bfloat16),
        "threads": chosen.threads,
        "note": chosen.note,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": (chosen.out / "model.safetensors").stat().st_size,
        "context": CONTEXT,
    }
    (chosen.out / "measured.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    write_card(chosen.out, record)
    if not chosen.keep_progress:
        progress.unlink(missing_ok=True)
    report("\n".join(lines_of(measured)))
    report(f"saved in {chosen.out}; the shipped model lies in {MODEL_DIR}")


if __name__ == "__main__":
    main()
