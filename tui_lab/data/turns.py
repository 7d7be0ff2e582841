"""Turns of chats in the shapes that data sets write them: OpenAI's and ShareGPT's objects, lists by column,
pairs of texts, objects with a role as key, transcripts, function calls and tool results. All become chat
messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tui_lab.core.format import and_more
from tui_lab.core.sanitize import sanitize
from tui_lab.data.cells import clean, clean_json, is_missing, structure_of, text_of, texts_of
from tui_lab.data.rows import BadRow, ChatMessage, Tool

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "customer": "user", "client": "user",
    "question": "user", "q": "user", "query": "user", "prompt": "user", "instruction": "user",
    "input": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant",
    "agent": "assistant",
    "chatbot": "assistant", "chatgpt": "assistant", "claude": "assistant", "gemini": "assistant",
    "llm": "assistant", "ai": "assistant", "answer": "assistant", "a": "assistant", "response": "assistant",
    "reply": "assistant", "completion": "assistant", "output": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "tool_response": "tool", "tool_result": "tool",
    "ipython": "tool", "environment": "tool", "function_response": "tool", "function_result": "tool",
    "function_call": "call", "tool_call": "call", "tool_calls": "call",
}  # fmt: skip
#: What a mapping may call a speaker ("Alice=user").
SPEAKER_ROLES = ("user", "assistant", "system", "tool")
_PERSON = re.compile(r"\s*[^\W\d_][\w.'-]*(?: [\w.'-]+){0,2}\s*")
_NAMED_SPEAKERS = 6  # speakers that a message names
_SAID = frozenset(name for name, role in ROLES.items() if role != "call")
LOSS_FLAGS = (
    "weight", "loss", "train", "trainable", "training", "train_on_turn", "is_trained", "trained",
    "compute_loss",
    "loss_mask", "train_mask", "loss_weight", "is_train", "do_train", "learn",
)  # fmt: skip
LEFT_OUT_FLAGS = ("masked", "ignore", "ignored", "no_loss", "no_train", "skip")  # the other way round
REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning", "thought", "thoughts")
ROLE_KEYS = ("role", "from", "speaker", "author", "sender", "type")
CONTENT_KEYS = ("content", "value", "text", "message", "utterance", "parts", "body", "msg", "data")
_READ = frozenset((
    *ROLE_KEYS, *CONTENT_KEYS, *LOSS_FLAGS, *LEFT_OUT_FLAGS, *REASONING_FIELDS,
    "tool_calls", "function_call", "tool_call_id", "name",
))  # fmt: skip
_PART_KINDS = {
    "thinking": "thought", "reasoning": "thought", "tool_use": "call", "tool_call": "call",
    "tool_result": "result",
}  # fmt: skip
#: Keys of an object that holds a question and its answer, as chats and histories write pairs.
PAIR_KEYS = (
    ("user", "assistant"), ("human", "assistant"), ("human", "gpt"), ("human", "bot"), ("question", "answer"),
    ("prompt", "response"), ("query", "response"), ("instruction", "output"), ("input", "output"),
)  # fmt: skip
_ORDER = ("system", "user", "tool", "assistant")  # of the roles that one object has as keys
#: The beginning of a turn in a transcript: "User:", "### Human:", "[|AI|]" or "<|im_start|>user".
_SPEAKER = re.compile(
    r"^[ \t]*(?:<\|im_start\|>(?P<chatml>\w+)\n|(?:#+ *|\*\*|\[\|)?(?P<name>[A-Za-z][A-Za-z_ ]{0,20}?)"
    r"(?::\*\*|\*\*:|\|\]:?|:))[ \t]*",
    re.MULTILINE,
)
_END = re.compile(r"\s*(?:<\|im_end\|>|<\|endoftext\|>|</s>)?\s*$")


def turns_of(value: object, column: str) -> list[ChatMessage]:
    """The messages of a list of turns, in any of the shapes. Raises BadRow."""
    turns = _listed(structure_of(value), column)
    if not turns:
        raise BadRow(f"{column} is an empty list", empty=True)
    if all(isinstance(turn, str) for turn in turns):
        return _alternating(turns)
    if all(_has_role_keys(turn) for turn in turns):
        return [message for turn in turns for message in _by_role(turn, column)]
    if all(_is_pair(turn) for turn in turns):
        if all(_pair_role(turn) for turn in turns):  # ["user", "Hi"]
            return [{"role": _pair_role(turn), "content": text_of(turn[1], column)} for turn in turns]
        if names := repeated_names([turn[0] for turn in turns if isinstance(turn, list)]):
            raise unknown_speakers(names)
        return [message for turn in turns for message in _pair(turn, column)]
    keys = turn_keys(turns)
    if strangers := _strangers(turns, keys[0]):
        raise unknown_speakers(strangers)
    messages: list[ChatMessage] = []
    for number, turn in enumerate(turns, 1):
        for part in _expanded(turn, keys):
            messages += _turn(part, number, keys)
    return messages


def _strangers(turns: list[Any], role_key: str) -> list[str]:
    """The speakers of turns that are no role; [] where a turn is no object or names nobody."""
    if all(isinstance(turn, dict) and len(turn) == 1 and role_key not in turn for turn in turns):
        found = [str(next(iter(turn))) for turn in turns]  # {"Alice": "Hi?"}
    else:
        given = [turn.get(role_key) if isinstance(turn, dict) else None for turn in turns]
        names = [name.get("role") if isinstance(name, dict) else name for name in given]
        found = [name for name in names if isinstance(name, str) and name.strip()]
        if len(found) < len(names):
            return []
    return [name for name in found if name.strip().lower() not in ROLES]


def repeated_names(texts: list[Any]) -> list[str]:
    """The first texts of pairs where they are names of speakers and not questions: few, short, repeated."""
    names = list(dict.fromkeys(text for text in texts if isinstance(text, str)))
    is_few = len(texts) > 2 and 1 < len(names) <= len(texts) / 2
    return names if is_few and all(map(_PERSON.fullmatch, names)) else []


def shown_speakers(names: Iterable[str]) -> str:
    """The first names for a message, the others counted."""
    found = list(names)
    return sanitize(", ".join(found[:_NAMED_SPEAKERS]) + and_more(len(found) - _NAMED_SPEAKERS))


def unknown_speakers(names: Iterable[str]) -> BadRow:
    """Why turns by these speakers cannot be read, and how to say who is who."""
    found = list(dict.fromkeys(name.strip()[:40] for name in names))
    example = ",".join(f"{name}={part}" for name, part in zip(found, SPEAKER_ROLES, strict=False))
    return BadRow(
        f"unknown speaker{'s' if len(found) > 1 else ''} {shown_speakers(found)}: --columns {example} says "
        f"who is who ({', '.join(SPEAKER_ROLES)})"
    )


def unknown_fields(cell: object) -> set[str]:
    """The fields of turns in a cell that say something and are not read; weights between 0 and 1 are not."""
    turns = structure_of(cell)
    fields = [
        (str(key), value)
        for turn in (turns if isinstance(turns, list) else ())
        if isinstance(turn, dict) and any(key in turn for key in ROLE_KEYS)
        for key, value in turn.items()
    ]
    unread = {
        k for k, value in fields if k not in _READ and not is_missing(value) and value not in ("", [], {})
    }
    parts = {k for k, value in fields if k in LOSS_FLAGS and isinstance(value, float) and 0 < value < 1}
    return unread | {f"{key} (below 1 counts as 1)" for key in parts}


def history_of(value: object, column: str) -> list[ChatMessage]:
    """Earlier turns: as :func:`turns_of`, or none where the cell is empty. Raises BadRow."""
    value = structure_of(value)
    if is_missing(value) or value in ("", [], {}) or (isinstance(value, list) and not any(value)):
        return []
    if isinstance(value, str):
        raise BadRow(f"{column} is text, not a list of turns")
    if isinstance(value, list) and len(value) % 2 and all(isinstance(text, str) for text in value):
        raise BadRow(f"{column} has {len(value)} texts, which are no pairs of question and answer")
    return turns_of(value, column)


def tools_of(value: object, column: str) -> tuple[Tool, ...]:
    """The definitions of tools, as chat templates take them. Raises BadRow."""
    value = structure_of(value)
    if is_missing(value) or value in ("", [], {}):
        return ()
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise BadRow(f"{column} is {type(value).__name__}, not a list of tools")
    tools: list[Tool] = []
    for number, entry in enumerate(value, 1):
        tool = structure_of(entry)
        if not isinstance(tool, Mapping):
            raise BadRow(f"tool {number} of {column} is {type(tool).__name__}, not an object")
        cleaned: dict[str, Any] = clean_json(dict(tool))
        tools.append(cleaned if "function" in cleaned else {"type": "function", "function": cleaned})
    return tuple(tools)


def turn_keys(turns: list[Any]) -> tuple[str, str]:
    """The keys of role and text in these turns."""
    have = {str(key) for turn in turns if isinstance(turn, dict) for key in turn}
    return (
        next((key for key in ROLE_KEYS if key in have), "role"),
        next((key for key in CONTENT_KEYS if key in have), "content"),
    )


def transcript(text: str) -> list[ChatMessage]:
    """The turns of a text that names the speaker of each at the beginning of a line; [] for any other."""
    found = [
        (ROLES.get(re.sub(r"[ _]+", "_", (match["chatml"] or match["name"]).strip().lower())), match)
        for match in _SPEAKER.finditer(text)
    ]
    marks = [(role, match) for role, match in found if role and role != "call"]
    if not marks or text[: marks[0][1].start()].strip() or "assistant" not in (role for role, _ in marks):
        return []
    ends = [match.start() for _, match in marks[1:]] + [len(text)]
    return [
        {"role": role, "content": clean(_END.sub("", text[match.end() : end]))}
        for (role, match), end in zip(marks, ends, strict=True)
    ]


def _has_role_keys(turn: object) -> bool:
    """Whether the keys of an object are roles, as in {"user": "Hi"}."""
    return isinstance(turn, dict) and bool(turn) and all(str(key).lower() in _SAID for key in turn)


def _by_role(turn: Mapping[str, Any], column: str) -> list[ChatMessage]:
    said = sorted(
        ((ROLES[str(key).lower()], value) for key, value in turn.items() if not is_missing(value)),
        key=lambda pair: _ORDER.index(pair[0]),
    )
    return [{"role": role, "content": text_of(value, f"{role} of {column}")} for role, value in said]


def _listed(value: object, column: str) -> list[Any]:
    """A list of turns; ``datasets`` returns a sequence of objects as an object of lists."""
    if isinstance(value, str) and (turns := transcript(value)):
        return list(turns)
    if (
        _has_role_keys(value)
        and isinstance(value, dict)
        and not any(isinstance(v, list) for v in value.values())
    ):
        return [value]
    if isinstance(value, dict) and value and all(isinstance(cells, list) for cells in value.values()):
        lengths = {len(cells) for cells in value.values()}
        if len(lengths) > 1:
            raise BadRow(f"the lists of {column} differ in length ({', '.join(map(str, sorted(lengths)))})")
        return [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]
    if isinstance(value, dict) and any(key in value for key in ROLE_KEYS):
        return [value]
    if not isinstance(value, list):
        raise BadRow(f"{column} is {type(value).__name__}, not a list of turns", empty=is_missing(value))
    return [structure_of(turn) if isinstance(turn, str) else turn for turn in value]


def _alternating(texts: list[str]) -> list[ChatMessage]:
    return [
        {"role": "assistant" if number % 2 else "user", "content": text_of(text, f"turn {number + 1}")}
        for number, text in enumerate(texts)
    ]


def _pair_keys(turn: object) -> tuple[str, str] | None:
    if not isinstance(turn, dict) or any(key in turn for key in ROLE_KEYS):
        return None
    return next((keys for keys in PAIR_KEYS if keys[0] in turn and keys[1] in turn), None)


def _is_pair(turn: object) -> bool:
    return (isinstance(turn, list | tuple) and len(turn) == 2) or _pair_keys(turn) is not None


def _pair_role(turn: Any) -> str:
    """The role that a pair begins with, "" where it is a question with its answer."""
    name = turn[0] if isinstance(turn, list | tuple) else None
    name = name.strip().lower() if isinstance(name, str) else ""
    return ROLES[name] if name in _SAID and len(name) > 1 else ""


def _pair(turn: Any, column: str) -> list[ChatMessage]:
    keys = _pair_keys(turn)
    question, answer = (turn[keys[0]], turn[keys[1]]) if keys else turn
    if is_missing(question) and isinstance(answer, str):  # the assistant greets first
        return [{"role": "assistant", "content": text_of(answer, f"an answer of {column}")}]
    return [
        {"role": "user", "content": text_of(question, f"a question of {column}")},
        {"role": "assistant", "content": text_of(answer, f"an answer of {column}")},
    ]


def _expanded(turn: object, keys: tuple[str, str]) -> list[object]:
    """A turn whose content is a list with thoughts, calls and results of tools,
    as Anthropic's interface writes
    it, as turns with these in fields of their own; any other turn as it is."""
    parts = turn.get(keys[1]) if isinstance(turn, dict) else None
    if not isinstance(turn, dict) or not isinstance(parts, list) or not are_parts(parts):
        return [turn]
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        by_kind.setdefault(_PART_KINDS.get(str(part["type"]), "text"), []).append(part)
    if set(by_kind) <= {"text"}:
        return [turn]
    results: list[object] = [
        {keys[0]: "tool", keys[1]: part.get("content", ""), "tool_call_id": part.get("tool_use_id")}
        for part in by_kind.get("result", ())
    ]
    rest = {**turn, keys[1]: by_kind.get("text", "")}
    if thoughts := by_kind.get("thought"):
        rest["reasoning_content"] = "\n\n".join(
            str(part.get("thinking") or part.get("text") or part.get("reasoning") or "") for part in thoughts
        )
    if calls := by_kind.get("call"):
        rest["tool_calls"] = [
            {
                "id": part.get("id"),
                "name": part.get("name"),
                "arguments": part.get("input", part.get("arguments")),
            }
            for part in calls
        ]
    return [*results, rest] if len(by_kind) > 1 or not results else results


def _turn(turn: object, number: int, keys: tuple[str, str]) -> list[ChatMessage]:
    role_key, content_key = keys
    if not isinstance(turn, dict):
        raise BadRow(
            f"turn {number} is {type(turn).__name__}, not an object with {role_key} and {content_key}"
        )
    if role_key not in turn:
        raise BadRow(
            f"turn {number} has no {role_key} (it has {', '.join(map(str, list(turn)[:6])) or 'nothing'})"
        )
    name = turn[role_key]
    if isinstance(name, dict):  # ChatGPT's exports
        name = name.get("role")
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        if not isinstance(name, str) or not name.strip():
            raise BadRow(f"turn {number} has no {role_key} that is a name")
        raise unknown_speakers([name])
    given = (turn.get("tool_calls"), turn.get("function_call"))
    calls = next((each for each in given if not is_missing(each) and structure_of(each)), None)
    if role == "call":
        calls, role, content = turn.get(content_key), "assistant", None
        if not has_calls(calls):  # a call in words of its own
            calls, content = None, calls
    else:
        content = turn.get(content_key)
    if content_key not in turn and not calls:
        raise BadRow(f"turn {number} has no {content_key}")
    what = f"{content_key} of turn {number}"
    message: ChatMessage = {
        "role": role,
        "content": "" if is_missing(content) and calls else _content(content, role, what),
    }
    if calls:
        message["tool_calls"] = calls_of(calls, f"turn {number}")
    if role == "tool":
        if isinstance(turn.get("name"), str):
            message["name"] = text_of(turn["name"], f"name of turn {number}")
        if isinstance(turn.get("tool_call_id"), str):
            message["tool_call_id"] = text_of(turn["tool_call_id"], f"tool_call_id of turn {number}")
    if role == "assistant":
        if _is_left_out(turn):
            message["weight"] = 0
        if reasoning := _reasoning(turn, number):
            message["reasoning_content"] = reasoning
    return [message]


def _is_left_out(turn: Mapping[str, Any]) -> bool:
    """Whether a turn is marked as not to be trained: ``weight`` 0 (OpenAI), ``loss`` or ``train`` false
    (AgentInstruct, Axolotl), ``masked`` true, and their like."""
    return any(_flag(turn, flag) is False for flag in LOSS_FLAGS) or any(
        _flag(turn, flag) is True for flag in LEFT_OUT_FLAGS
    )


def _flag(turn: Mapping[str, Any], name: str) -> bool | None:
    """A flag of a turn, None where it has none."""
    value = turn.get(name)
    if isinstance(value, str):
        return value.strip().lower() not in ("false", "no", "0", "0.0")
    return bool(value) if isinstance(value, bool | int | float) and not is_missing(value) else None


def _reasoning(turn: Mapping[str, Any], number: int) -> str:
    """What the assistant thought before its answer, by one of the names in use."""
    for name in REASONING_FIELDS:
        value = turn.get(name)
        if not is_missing(value) and value not in ("", [], {}):
            return "\n\n".join(texts_of(value, f"{name} of turn {number}")).strip()
    return ""


def _content(value: object, role: str, what: str) -> str:
    if role == "tool" and (isinstance(value, dict | list) and not are_parts(value)):
        return json.dumps(clean_json(value), ensure_ascii=False)
    return "".join(texts_of(value, what))


def are_parts(value: object) -> bool:
    """Whether a value is OpenAI's list of parts of a text."""
    return isinstance(value, list) and all(isinstance(part, dict) and "type" in part for part in value)


def has_calls(value: object) -> bool:
    """Whether a value is a call of a tool, or a list of them."""
    value = structure_of(value)
    calls = value if isinstance(value, list) else [value]
    return bool(calls) and all(
        isinstance(call, dict) and ("name" in call or isinstance(call.get("function"), dict))
        for call in calls
    )


def calls_of(value: object, place: str) -> list[Tool]:
    """Calls of tools, as chat templates take them. Raises BadRow."""
    value = structure_of(value)
    found: list[Tool] = []
    for entry in value if isinstance(value, list) else [value]:
        call = structure_of(entry)
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRow(f"{place} calls a tool without naming it")
        arguments = function.get("arguments", function.get("parameters"))
        arguments = structure_of(arguments)  # OpenAI writes them as text, templates take an object
        made: dict[str, Any] = {
            "type": "function",
            "function": clean_json(
                {"name": function["name"], "arguments": {} if is_missing(arguments) else arguments}
            ),
        }
        if isinstance(call, dict) and isinstance(call.get("id"), str):
            made["id"] = clean_json(call["id"])
        found.append(made)
    return found
