"""The suites item by item against lm-evaluation-harness 0.4.13 itself, on local files in the hub's columns.

Each suite's prompts come from the harness's own task files, its log-likelihoods, choices and aggregate from
the harness's own evaluator; ``python -m tests.benchmarks.harness`` prints a line for each suite and how many
times as fast the lab is. lm_eval must be importable; it is no dependency of the lab."""

from __future__ import annotations

import re
import string
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any


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


def harness_task(name: str, path: Path, examples: Path | None = None, shots: int = 0) -> Any:
    """The harness's task of this name on a local file; ``examples`` has the rows of its few-shot examples,
    of which it takes the first."""
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
    return ConfigurableTask(config=config)


def requests_of(name: str, path: Path, examples: Path | None = None, shots: int = 0) -> list[tuple[Any, ...]]:
    """The arguments of every request that the harness makes of a local file, in its order."""
    task = harness_task(name, path, examples, shots)
    task.build_all_requests(rank=0, world_size=1)
    return [tuple(request.args) for request in task.instances]
