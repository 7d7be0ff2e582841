"""Turns of a chat before they are rendered: reasoning found and written in the form that a template reads,
system turns folded into user turns, and the check that a rendering has dropped no turn."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tui_lab.data.cells import clean
from tui_lab.data.rows import ChatMessage

_THINK = re.compile(r"\s*<think>(.*?)</think>\s*(.*)", re.DOTALL)
#: What a model writes whose prompt has opened the block: the end of it alone, on a line of its own.
_CLOSED_ONLY = re.compile(r"((?:(?!</?think>).)*?)(?<=\n)</think>\s*\n\s*(.*)", re.DOTALL)
OPENED, CLOSED = "<think>", "</think>"


def split_reasoning(message: ChatMessage) -> tuple[str, str]:
    """What the assistant thought, "" if nothing, and the answer after it."""
    reasoning, content = message.get("reasoning_content") or "", message["content"]
    if reasoning or CLOSED not in content:
        return reasoning.strip(), content
    if found := _THINK.fullmatch(content) or _CLOSED_ONLY.fullmatch(content):
        reasoning, content = found.group(1), found.group(2)
    return reasoning.strip(), content


def after_reasoning(text: str) -> str:
    """A generated answer without the reasoning in front of it, whose block the prompt may have opened."""
    mark, answer = text.partition(CLOSED)[1:]
    return answer.lstrip() if mark else text


def is_unclosed(message: ChatMessage) -> bool:
    """Whether an answer was cut off while the assistant thought."""
    content = message["content"]
    return content.lstrip().startswith(OPENED) and CLOSED not in content


def as_field(message: ChatMessage) -> ChatMessage:
    """The message with its reasoning in ``reasoning_content``, where most templates of thinking models read
    it."""
    reasoning, content = split_reasoning(message)
    return {**message, "content": content, "reasoning_content": reasoning} if reasoning else message


def as_text(message: ChatMessage) -> ChatMessage:
    """The message with its reasoning in the content, for templates that do not know it."""
    if not message.get("reasoning_content"):
        return message
    reasoning, content = split_reasoning(message)
    plain = message.copy()
    plain["content"] = f"{OPENED}\n{reasoning}\n{CLOSED}\n\n{content}"
    plain.pop("reasoning_content", None)
    return plain


def without_reasoning(message: ChatMessage) -> ChatMessage:
    """The message with its answer alone."""
    reasoning, content = split_reasoning(message)
    if not reasoning:
        return message
    plain = message.copy()
    plain["content"] = content
    plain.pop("reasoning_content", None)
    return plain


def is_trained(message: ChatMessage) -> bool:
    """Whether a turn gives a loss: the assistant's, unless its weight is 0."""
    return message["role"] == "assistant" and message.get("weight") != 0


def last_answer(messages: Sequence[ChatMessage]) -> int:
    """The index of the last trained assistant turn, else of the last one. Raises ValueError without any."""
    trained = [i for i, message in enumerate(messages) if is_trained(message)]
    return max(trained or [i for i, message in enumerate(messages) if message["role"] == "assistant"])


def thinks(messages: Sequence[ChatMessage]) -> bool:
    """Whether the last trained answer comes with reasoning."""
    try:
        return bool(split_reasoning(messages[last_answer(messages)])[0])
    except ValueError:
        return False


def fold_system(messages: Sequence[ChatMessage], keep_first: bool = False) -> list[ChatMessage]:
    """System turns joined with user turns, and turns of the same role joined: for templates that know neither
    system turns nor two turns of one role in a row.

    A system turn in front of a user turn joins that one; one between a user turn and an answer joins the user
    turn before. With ``keep_first`` the system turns that open the chat stay, as one.
    """
    folded: list[ChatMessage] = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            if folded and folded[-1]["role"] in ("user", "system"):
                folded[-1] = _joined(folded[-1], message["content"])
            elif keep_first and not folded and not waiting:
                folded.append(message.copy())
            else:
                waiting.append(message["content"])
            continue
        new = message.copy()
        if waiting and new["role"] == "user":
            new["content"] = "\n\n".join([*waiting, new["content"]])
            waiting = []
        elif waiting:  # the assistant goes on: the system's text becomes a user turn
            folded.append({"role": "user", "content": "\n\n".join(waiting)})
            waiting = []
        if folded and _can_join(folded[-1], new):
            folded[-1] = _joined(folded[-1], new["content"])
        else:
            folded.append(new)
    if waiting:
        folded.append({"role": "user", "content": "\n\n".join(waiting)})
    return folded


def cleaned(messages: Sequence[ChatMessage], ends: Sequence[str] = ()) -> list[ChatMessage]:
    """The messages with lone surrogates replaced, without the ``ends`` of turns, which the template adds."""
    found = []
    for message in messages:
        new = message.copy()
        new["content"] = _without_end(clean(message["content"]), ends)
        if reasoning := message.get("reasoning_content"):
            new["reasoning_content"] = clean(reasoning)
        found.append(new)
    return found


def _without_end(content: str, ends: Sequence[str]) -> str:
    """A text that was rendered before has the end of its turn already."""
    stripped = content.rstrip()
    while end := next((end for end in ends if stripped.endswith(end)), ""):
        stripped = stripped.removesuffix(end).rstrip()
        content = stripped or content
    return content


def _can_join(one: ChatMessage, other: ChatMessage) -> bool:
    return (
        one["role"] == other["role"]
        and one["role"] != "tool"
        and one.get("weight") == other.get("weight")
        and not any(m.get("tool_calls") or m.get("reasoning_content") for m in (one, other))
    )


def _joined(message: ChatMessage, text: str) -> ChatMessage:
    return {**message, "content": message["content"] + "\n\n" + text}


def dropped_turn(messages: Sequence[ChatMessage], text: str) -> str:
    """Which turn is missing from the rendered ``text``, as "system turn 2"; "" if none is. Reasoning and what
    tools are given is checked elsewhere."""
    at = 0
    for number, message in enumerate(messages, 1):
        role, content = message["role"], message["content"].strip()
        if role == "assistant":
            content = split_reasoning(message)[1].strip()
        if not content or role not in ("system", "user", "assistant"):
            continue
        found = text.find(content, 0 if role == "system" else at)  # some templates put system turns in front
        if found < 0:
            return f"{role} turn {number}"
        if role != "system":
            at = found + len(content)
    return ""
