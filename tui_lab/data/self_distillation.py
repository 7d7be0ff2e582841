"""Self-distillation: training answers in the words of the model itself (Yang et al. 2024, "Self-Distillation
Bridges Distribution Gap in Language Model Fine-Tuning", arXiv 2402.13669). The base reads each instruction
with its reference answer and writes an answer of its own, which is nearer to what it would say anyway, so
that training on it changes less. An answer that loses the reference is not used. The model that writes is in
:mod:`tui_lab.training.self_distillation`. No torch."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from tui_lab.data import chats, scoring
from tui_lab.data.examples import Example
from tui_lab.data.rows import ChatMessage

#: The prompt of the paper for general instructions.
TEMPLATE = (
    "Below are an instruction that describes a task along with a reference answer. Using the reference "
    "answer as a guide, write your own response.\n\n### Instruction:\n{instruction}\n\n"
    "### Reference Answer:\n{reference}\n\n### Response:\n"
)
#: Words of a longer reference of which an answer must have the share KEPT_WORDS; of a shorter one all.
SHORT_WORDS, KEPT_WORDS = 8, 0.5
_NUMBER = re.compile(r"(?<!\w)\d+(?:[.,:]\d+)*")
_WORD = re.compile(r"\w+")


def can_be_rewritten(example: Example) -> bool:
    """Whether the answer of a row is text that follows a question."""
    if example.messages is None:
        return example.completion is not None
    answer = example.messages[example.last_answer]
    turns = example.generation_messages
    return not answer.get("tool_calls") and bool(turns) and turns[-1]["role"] == "user"


def rewriting_prompt(example: Example) -> list[ChatMessage] | str:
    """What the base is asked for an answer of its own: the last question together with its reference."""
    if example.messages is None:
        return TEMPLATE.format(instruction=example.prompt or "", reference=example.expected)
    *before, question = example.generation_messages
    asked = question.copy()
    asked["content"] = TEMPLATE.format(instruction=question["content"], reference=example.expected)
    return [*before, asked]


def with_answer(example: Example, text: str) -> Example:
    """The row with another answer in place of its own."""
    if example.messages is None:
        # what separates the prompt from the completion stays
        own = example.completion or ""
        return replace(example, completion=own[: len(own) - len(own.lstrip())] + text)
    at = example.last_answer
    reasoning = chats.split_reasoning(example.messages[at])[0]
    answer = example.messages[at].copy()
    answer["content"] = text
    if reasoning:
        answer["reasoning_content"] = reasoning
    return replace(example, messages=(*example.messages[:at], answer, *example.messages[at + 1 :]))


def lost(answer: str, reference: str) -> str:
    """What an answer loses of its reference; "" where it can take the reference's place."""
    if not answer.strip():
        return "empty"
    if "### Reference Answer" in answer or "### Instruction" in answer:
        return "repeats the prompt"
    if wanted := scoring.worked_result(reference):
        return "" if scoring.worked_result(answer) == wanted else "another result"
    if (value := _json(reference)) is not None:
        return "" if _json(answer) == value else "other JSON"
    if not set(_NUMBER.findall(reference)) <= set(_NUMBER.findall(answer)):
        return "numbers missing"
    words = set(_WORD.findall(reference.casefold()))
    shared = len(words & set(_WORD.findall(answer.casefold())))
    if shared < len(words) * (1 if len(words) <= SHORT_WORDS else KEPT_WORDS):
        return "words missing"
    return ""


def _json(text: str) -> Any:
    """The value of a text that is a JSON object or list, else None."""
    if text.strip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
