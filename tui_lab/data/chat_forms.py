"""The forms in which a chat is offered to a chat template, the closest to the data first: as it is, with
turns folded, and with tools, calls and results in the forms that templates take.

A template that does not know tools gets them as text, in the form of Hermes, which Qwen's template writes,
too: the definitions in the system turn between <tools> and </tools>, each call as <tool_call> with its JSON,
each result as a user turn with <tool_response>."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tui_lab.data import chats
from tui_lab.data.rows import ChatMessage, Tool

Tools = Sequence[Tool]
_WORDS = re.compile(r"\w+")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)")
TOOLS_INTRODUCTION = (
    "You can call these tools:\n<tools>\n{tools}\n</tools>\nTo call one, answer with\n<tool_call>\n"
    '{{"name": "its name", "arguments": {{its arguments}}}}\n</tool_call>'
)


@dataclass(frozen=True)
class ChatForm:
    """A chat as it is given to a template. ``folded``: turns were joined; ``as_text``: tools are text."""

    messages: list[ChatMessage]
    tools: Tools
    folded: bool = False
    as_text: bool = False


def forms(messages: Sequence[ChatMessage], tools: Tools) -> Iterator[ChatForm]:
    """The forms of a chat. Arguments of calls are given as objects, then as text; definitions of tools as
    they are, then with the fields that some templates expect, at last all of it as text."""
    definitions = [tools]
    if (filled := [_filled(tool) for tool in tools]) != list(tools):
        definitions.append(filled)
    for given in definitions:
        for chat in _argument_forms(messages):
            yield from _folded(chat, given, as_text=False)
    if tools or any(message["role"] == "tool" or message.get("tool_calls") for message in messages):
        yield from _folded(_as_text(messages, tools), (), as_text=True)


def _folded(chat: list[ChatMessage], tools: Tools, as_text: bool) -> Iterator[ChatForm]:
    """The chat as it is, then folded more and more, at last with an empty user turn before a greeting."""
    yield ChatForm(chat, tools, False, as_text)
    part = chats.fold_system(chat, keep_first=True)
    if part != chat:
        yield ChatForm(part, tools, True, as_text)
    everything = chats.fold_system(chat)
    if everything != part:
        yield ChatForm(everything, tools, True, as_text)
    if everything and everything[0]["role"] == "assistant":  # the assistant greets first
        yield ChatForm([{"role": "user", "content": ""}, *everything], tools, True, as_text)


def _filled(tool: Tool) -> Tool:
    """The definition with a description and parameters, which the data may leave out."""
    function = tool.get("function")
    if not isinstance(function, dict):
        return tool
    parameters = {"type": "object", "properties": {}} | (function.get("parameters") or {})
    return {**tool, "function": {"description": "", **function, "parameters": parameters}}


def _as_text(messages: Sequence[ChatMessage], tools: Tools) -> list[ChatMessage]:
    found: list[ChatMessage] = []
    for message in messages:
        new = message.copy()
        new.pop("tool_call_id", None)
        new.pop("name", None)
        calls = new.pop("tool_calls", [])
        if message["role"] == "tool":
            new = {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
        elif calls:
            parts = [f"<tool_call>\n{_json(call.get('function', call))}\n</tool_call>" for call in calls]
            new["content"] = "\n".join([*([new["content"]] if new["content"].strip() else []), *parts])
        found.append(new)
    if not tools:
        return found
    listed = "\n".join(_json(tool.get("function", tool)) for tool in tools)
    introduction = TOOLS_INTRODUCTION.format(tools=listed)
    if found and found[0]["role"] == "system":
        found[0]["content"] = f"{found[0]['content']}\n\n{introduction}"
    else:
        found.insert(0, {"role": "system", "content": introduction})
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _argument_forms(messages: Sequence[ChatMessage]) -> list[list[ChatMessage]]:
    """The messages with the arguments of tool calls as objects, and as JSON text where there are any."""
    if not any(message.get("tool_calls") for message in messages):
        return [list(messages)]
    return [[_with_arguments(message, as_text) for message in messages] for as_text in (False, True)]


def _with_arguments(message: ChatMessage, as_text: bool) -> ChatMessage:
    calls = message.get("tool_calls")
    if not calls:
        return message
    found: list[Tool] = []
    for call in calls:
        function = call["function"] if isinstance(call.get("function"), dict) else call
        arguments = function.get("arguments")
        if as_text and isinstance(arguments, dict):
            arguments = json.dumps(arguments, ensure_ascii=False)
        elif not as_text and isinstance(arguments, str):
            with contextlib.suppress(ValueError, RecursionError):
                parsed = json.loads(arguments)
                arguments = parsed if isinstance(parsed, dict) else arguments
        changed = {**function, "arguments": arguments}
        found.append({**call, "function": changed} if function is not call else changed)
    return {**message, "tool_calls": found}


def dropped_tools(messages: Sequence[ChatMessage], tools: Sequence[Tool], text: str) -> str:
    """What of the tools is not in the rendered text: "" for nothing."""
    functions = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    results = [message["content"] for message in messages if message["role"] == "tool"]
    if not (tools or functions or results):
        return ""
    defined = [name for tool in tools if (name := tool.get("function", {}).get("name"))]
    if any(name not in text for name in defined):
        return "tools"
    # values may be escaped or parsed: their words tell whether they are there
    shown = set(_WORDS.findall(text)) | set(_WORDS.findall(_unescaped(text)))
    names = Counter([*set(defined), *(function["name"] for function in functions)])
    if any(text.count(name) < count for name, count in names.items()):
        return "tool calls"
    if any(_words_of(function.get("arguments")) - shown for function in functions):
        return "tool calls"
    return "tool results" if any(_words_of(result) - shown for result in results) else ""


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else " ", text)


def _words_of(value: object) -> set[str]:
    """The words of the texts and whole numbers in a value."""
    if isinstance(value, str):
        return set(_WORDS.findall(_unescaped(value)))
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return set().union(*(_words_of(item) for item in value))
    return {str(value)} if isinstance(value, int) and not isinstance(value, bool) else set()
