"""The suites item by item against lm-evaluation-harness 0.4.13 itself, on local files in the hub's columns.

Each suite's prompts come from the harness's own task files, its log-likelihoods, choices and aggregate from
the harness's own evaluator; ``python -m tests.benchmarks.harness`` prints a line for each suite and how many
times as fast the lab is. lm_eval must be importable; it is no dependency of the lab."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import string
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.paths import SHARED
from tests.retention.suites.hub_rows import HUB_ROWS
from tui_lab.models.loading import quiet_libraries
from tui_lab.pocket import MODEL_DIR
from tui_lab.retention.scoring.score import ItemScore, metrics, score
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Suite

TOLERANCE = 1e-4  # nats
ROWS = 100  # of each suite
#: Tokens of a generated answer: fewer than the suites allow, in both programs.
NEW_TOKENS = 48
#: The harness's name of a suite's metric, where it is another.
METRICS = {"answer_f1": "f1", "mc2": "acc", "gsm8k": "exact_match", "ifeval": "prompt_level_strict_acc"}
#: What varies the rows written for the tests: each row is repeated with other words in their places.
WORDS = {
    "Tom": ("Ben", "Ada", "Kim", "Leo", "Zoe", "Max"),
    "Ann": ("Mia", "Ida", "Eve", "Lou", "Pia", "Una"),
    "dogs": ("cats", "hens", "cows", "pigs", "mice", "fish"),
    "rain": ("snow", "wind", "hail", "fog", "heat", "sun"),
    "cup": ("jug", "pot", "pan", "mug", "jar", "can"),
    "bottle": ("jug", "pot", "pan", "mug", "jar", "can"),
    "moon": ("star", "sun", "comet", "cloud", "sky", "sea"),
    "film": ("book", "song", "play", "game", "tale", "show"),
    "Cat": ("Dog", "Hen", "Cow", "Pig", "Fox", "Owl"),
}
#: Columns of text whose value has a meaning of its own.
PLAIN = ("activity_label", "word", "answerKey", "id")
IFEVAL_ROWS: list[dict[str, Any]] = [
    {"prompt": "Tom has two dogs. Say so without a comma, in at most nine words.",
     "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
     "kwargs": [{"num_words": None}, {"num_words": 10, "relation": "less than"}]},
    {"prompt": "Write about rain; use the word water.", "instruction_id_list": ["keywords:existence"],
     "kwargs": [{"keywords": ["water"], "num_words": None}]},
    {"prompt": "Which cup is the best? Answer in lower case.",
     "instruction_id_list": ["change_case:english_lowercase"], "kwargs": [{"keywords": None}]},
]  # fmt: skip


def _squad_words(text: str) -> list[str]:
    kept = "".join(char for char in text.lower() if char not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def _squad_f1(right: str, given: str) -> float:
    """SQuAD's published evaluation: the harmonic mean of precision and recall of words."""
    gold, found = _squad_words(right), _squad_words(given)
    shared = sum((Counter(gold) & Counter(found)).values())
    if not gold or not found:
        return float(gold == found)
    precision, recall = shared / len(found), shared / len(gold)
    return 2 * precision * recall / (precision + recall) if shared else 0.0


def _give_squad_metrics() -> None:
    """transformers 5 has no ``data.metrics``, which the harness's ReCoRD imports for SQuAD's F1."""
    module = ModuleType("transformers.data.metrics.squad_metrics")
    module.compute_f1 = _squad_f1  # type: ignore[attr-defined]
    module.compute_exact = lambda right, given: float(_squad_words(right) == _squad_words(given))  # type: ignore[attr-defined]
    parent = ModuleType("transformers.data.metrics")
    parent.squad_metrics = module  # type: ignore[attr-defined]
    sys.modules.setdefault(parent.__name__, parent)
    sys.modules.setdefault(module.__name__, module)


@cache
def _task_files() -> dict[str, Path]:
    """The harness's task files by the name of the task."""
    import lm_eval

    folder = Path(lm_eval.__file__).parent / "tasks"
    found = {}
    for part in (
        "glue", "super_glue", "arc", "hellaswag", "truthfulqa", "winogrande", "piqa", "openbookqa",
        "commonsense_qa", "gsm8k", "ifeval", "toxigen",
    ):  # fmt: skip
        for path in sorted((folder / part).rglob("*.yaml")):
            for line in path.read_text("utf-8").splitlines():
                if line.startswith("task: "):
                    found[line.removeprefix("task: ").strip("\"' ")] = path
    return found


def harness_task(
    name: str, path: Path, examples: Path | None = None, shots: int = 0, new_tokens: int = 0
) -> Any:
    """The harness's task of this name on a local file; ``examples`` has the rows of its few-shot examples,
    of which it takes the first. ``new_tokens`` bounds generated answers (0: as the task does)."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    if name == "record":
        _give_squad_metrics()
    config = dict(load_yaml(_task_files()[name], resolve_func=True))
    for key in ("include", "tag", "training_split", "fewshot_split", "test_split", "task_alias"):
        config.pop(key, None)
    files = {"validation": str(path)}
    if examples is not None:
        files["train"] = str(examples)
        config |= {"fewshot_split": "train", "fewshot_config": {"sampler": "first_n"}}
    config |= {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    config |= {"validation_split": "validation", "num_fewshot": shots}
    if new_tokens:
        config["generation_kwargs"] = {**config["generation_kwargs"], "max_gen_toks": new_tokens}
    return ConfigurableTask(config=config)


def requests_of(name: str, path: Path, examples: Path | None = None, shots: int = 0) -> list[tuple[Any, ...]]:
    """The arguments of every request that the harness makes of a local file, in its order."""
    task = harness_task(name, path, examples, shots)
    task.build_all_requests(rank=0, world_size=1)
    return [tuple(request.args) for request in task.instances]


# --- rows ---------------------------------------------------------------------------------------------


def _varied(value: Any, turn: int) -> Any:
    if isinstance(value, str):
        for word, others in WORDS.items():
            if turn:
                other = others[turn % len(others)]
                value = re.sub(rf"\b{word}\b", f"{other} {turn}" if turn > len(others) else other, value)
        return value
    if isinstance(value, list):
        return [_varied(one, turn) for one in value]
    return {key: _varied(one, turn) for key, one in value.items()} if isinstance(value, dict) else value


def rows_of(name: str) -> list[dict[str, Any]]:
    """Rows of a suite in the columns of the hub: real ones where there are, else those of the tests with
    other words, and with every label in turn."""
    real = {
        "hellaswag": SHARED / "data/hellaswag/hellaswag_1k.jsonl",
        "gsm8k": SHARED / "data/gsm8k/test.jsonl",
    }
    if name in real and real[name].is_file():
        return [json.loads(line) for line in real[name].read_text("utf-8").splitlines()[:ROWS]]
    pattern = IFEVAL_ROWS if name == "ifeval" else HUB_ROWS[name]
    labels = len(registry.standard_sources()[name].choices) or (3 if name.startswith("mnli") else 2)
    found = []
    for at in range(ROWS):
        row = _varied(pattern[at % len(pattern)], at // len(pattern))
        column = next(name for name, value in row.items() if isinstance(value, str) and name not in PLAIN)
        row[column] += f" Case {at}." if at else ""  # no row twice: the harness computes equal ones once
        if isinstance(row.get("label"), int):
            row["label"] = at % labels
        if name == "ifeval":
            row["key"] = at
        found.append({key: value for key, value in row.items() if key not in ("id", "ind", "idx")})
    return found


# --- both programs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """One suite with both programs: what differs, and the seconds of processor time of each."""

    items: int
    same_prompts: bool
    largest: float  # difference of a log-likelihood, nats
    other_choices: int
    ours: float
    theirs: float
    our_s: float
    their_s: float

    @property
    def is_equal(self) -> bool:
        equal = abs(self.ours - self.theirs) < 1e-6
        return equal and self.same_prompts and self.largest <= TOLERANCE and not self.other_choices


def _prompts(suite: Suite) -> list[list[tuple[str, str]]]:
    return [
        list(zip(item.contexts or [item.context] * len(item.continuations), item.continuations, strict=True))
        for item in suite.items
    ]


def _harness(model: Any, tokenizer: Any, name: str, task: Any) -> tuple[list[dict[str, Any]], float, float]:
    """The harness's samples in the order of the rows, its aggregate, and its seconds."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, device="cpu")
    began = time.process_time()
    with contextlib.redirect_stderr(io.StringIO()):  # its progress
        found = evaluate(
            lm=lm,
            task_dict={name: task},
            bootstrap_iters=0,
            apply_chat_template=name == "ifeval",
            log_samples=True,
        )
    seconds = time.process_time() - began
    metric = registry.standard_sources()[name].metric
    metric = METRICS.get(name, METRICS.get(metric, metric))
    wanted = "flexible-extract" if name == "gsm8k" else "none"
    samples = [one for one in found["samples"][name] if one["filter"] == wanted]
    samples.sort(key=lambda one: one["doc_id"])
    return samples, float(found["results"][name][f"{metric},{wanted}"]), seconds


def _choices(
    name: str, suite: Suite, ours: list[ItemScore], samples: list[dict[str, Any]]
) -> tuple[float, int]:
    """The largest difference of log-likelihoods, and on how many items the choice or the answer differs."""
    largest, other = 0.0, 0
    for item, one, sample in zip(suite.items, ours, samples, strict=True):
        if suite.kind == "generate":
            text = sample["resps"][0][0]
            for stop in item.meta["until"]:
                text = text.split(stop)[0]
            other += text.strip() != one.extra["text"]
            continue
        values = [response[0][0] for response in sample["resps"]]
        for a, b in zip(values, one.loglikelihoods, strict=True):
            # from 1,024 nats on, float32 itself is coarser: two of its steps are no difference
            coarse = 2 * float(numpy.spacing(numpy.float32(abs(b)))) > TOLERANCE
            largest = max(largest, 0.0 if coarse and abs(a - b) <= 1e-6 * abs(b) else abs(a - b))
        normed = [value / len(choice) for value, choice in zip(values, item.choices, strict=True)]
        best = (values.index(max(values)), normed.index(max(normed)))
        other += best != (one.predicted, one.predicted_norm)
    return largest, other


def compare(name: str, model: Any, tokenizer: Any, folder: Path, shots: int = 0) -> Comparison:
    """A suite with both programs on the same rows."""
    path, examples = folder / f"{name}_test.jsonl", None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(name)), "utf-8")
    if shots:
        examples = folder / f"{name}_train.jsonl"
        examples.write_text("".join(json.dumps(row) + "\n" for row in rows_of(name)[:shots]), "utf-8")
    suite = registry.load(f"{name}@{shots}:{path}" if shots else f"{name}:{path}")
    generates = suite.kind == "generate"
    if generates:
        items = [replace(one, meta={**one.meta, "max_new_tokens": NEW_TOKENS}) for one in suite.items]
        suite = replace(suite, items=tuple(items))
    began = time.process_time()
    ours = score(model, tokenizer, suite)
    our_s = time.process_time() - began
    task = harness_task(name, path, examples, shots, NEW_TOKENS if generates else 0)
    samples, theirs, their_s = _harness(model, tokenizer, name, task)
    if generates:
        chat = name == "ifeval" and bool(tokenizer.chat_template)
        same = chat or [one["arguments"][0][0] for one in samples] == [item.context for item in suite.items]
    else:
        same = [[tuple(pair) for pair in one["arguments"]] for one in samples] == _prompts(suite)
    largest, other = _choices(name, suite, ours, samples)
    value = metrics(suite, ours)[suite.metric].value
    # the harness takes MultiRC's label 1, "right", for its second answer, "no"
    value = 1 - value if name == "multirc" else value
    return Comparison(len(suite.items), same, largest, other, value, theirs, our_s, their_s)


def main(wanted: list[str]) -> int:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    wrong, seconds = 0, [0.0, 0.0]
    print(
        f"{'suite':<18} {'items':>5}  prompts  largest (nats)  other choices  lab     harness  times as fast"
    )
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
        model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        for warm in ("everyday", "format"):  # what the first forward loads is nobody's time
            score(model, tokenizer, registry.load(warm, 8))
        for name in wanted or [*HUB_ROWS, "gsm8k", "ifeval"]:
            found = compare(name, model, tokenizer, Path(folder), 2 if name == "gsm8k" else 0)
            wrong += not found.is_equal
            seconds = [seconds[0] + found.our_s, seconds[1] + found.their_s]
            print(
                f"{name:<18} {found.items:>5}  {'equal' if found.same_prompts else 'OTHER':<7}  "
                f"{found.largest:>14.2e}  {found.other_choices:>13}  {found.ours:<6.4f}  "
                f"{found.theirs:<7.4f}  "
                f"{found.their_s / found.our_s:>12.1f}×{'' if found.is_equal else '   DIFFERS'}",
                flush=True,
            )
    print(f"all: {seconds[1] / seconds[0]:.1f} times as fast, processor time; {wrong} suites differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
