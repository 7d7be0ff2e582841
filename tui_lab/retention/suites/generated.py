"""Benchmarks whose answers are generated: GSM8K and IFEval, with the prompts of lm-evaluation-harness 0.4.13.
Pure functions of a row, which raise BadItem; ``checks.py`` scores the answers."""

from __future__ import annotations

from collections.abc import Sequence

from tui_lab.data.rows import RawRow
from tui_lab.retention.suites import ifeval as rules
from tui_lab.retention.suites.checks import final_number
from tui_lab.retention.suites.custom import BadItem
from tui_lab.retention.suites.records import Item
from tui_lab.retention.suites.row_fields import text_of

#: The harness's own limit where a task has none.
_GSM8K_TOKENS = 256
_GSM8K_UNTIL = ["Question:", "</s>", "<|im_end|>"]
_IFEVAL_TOKENS = 1280


def gsm8k(row: RawRow, identity: str, examples: Sequence[RawRow] = ()) -> Item:
    """`gsm8k/gsm8k.yaml`: examples with their worked solutions, the question; right is an answer whose last
    number is that of the solution (the harness's filter `flexible-extract`)."""
    question, solution = text_of(row, "question"), text_of(row, "answer")
    if (number := final_number(solution)) is None:
        raise BadItem("the answer has no number")
    shown = "".join(
        f"Question: {text_of(one, 'question')}\nAnswer: {text_of(one, 'answer')}\n\n" for one in examples
    )
    return Item(
        id=identity,
        context=f"{shown}Question: {question}\nAnswer:",
        continuations=(),
        answers=(),
        question=question,
        meta={
            "checks": [{"check": "final_number", "text": number}],
            "max_new_tokens": _GSM8K_TOKENS,
            "until": _GSM8K_UNTIL,
        },
    )


def ifeval(row: RawRow, identity: str) -> Item:
    """`ifeval/ifeval.yaml`: the prompt alone, as a turn of the user where the model has a chat template. An
    answer is right if it follows every instruction (the harness's `prompt_level_strict_acc`)."""
    prompt, names, arguments = text_of(row, "prompt"), row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(names, list) or not isinstance(arguments, list) or len(names) != len(arguments):
        raise BadItem("instruction_id_list and kwargs are no lists of equal length")
    checks = []
    for name, given in zip(names, arguments, strict=True):
        # the hub's rows have every argument of every instruction, most of them None
        used = {key: value for key, value in given.items() if value} if isinstance(given, dict) else given
        if trouble := rules.problem_of(name, used):
            raise BadItem(trouble)
        wanted = rules.RULES[name][1]
        checks.append(
            {"check": "ifeval", "rule": name, "arguments": {key: used[key] for key in sorted(wanted)}}
        )
    if not checks:
        raise BadItem("there are no instructions")
    groups = {str(name).split(":")[0] for name in names}
    return Item(
        id=identity,
        context=prompt,
        continuations=(),
        answers=(),
        category=groups.pop() if len(groups) == 1 else "several kinds",
        question=prompt,
        messages=({"role": "user", "content": prompt},),
        meta={"checks": checks, "max_new_tokens": _IFEVAL_TOKENS, "until": []},
    )
