"""A small interpreter of Go's text/template, independent of the code that writes such templates: text,
``range``, ``if``/``else if``/``else``, variables, fields, constants, ``eq``, ``ne``, ``and``, ``or``,
``not``, ``len``, ``slice``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# as Go's lexer: an action begins at the first "{{" and ends at the first "}}" outside of a string constant
_PART = re.compile(r'\{\{(-\s)?((?:"(?:\\.|[^"\\])*"|[^"])*?)(\s-)?\}\}', re.DOTALL)
_WORD = re.compile(r'\s*("(?:\\.|[^"\\])*"|[()]|:=|[^\s()]+)')


class UnreadableTemplateError(ValueError):
    """A part of a template that this interpreter does not know."""


@dataclass
class _Node:
    """Text, an expression to write or keep, or a branch: ``range`` and ``if`` with what they hold."""

    kind: str  # text, write, set, range, if
    text: str = ""
    names: tuple[str, ...] = ()
    expression: Any = None
    inside: list[_Node] = field(default_factory=list)
    otherwise: list[_Node] = field(default_factory=list)


def render(template: str, messages: Sequence[Mapping[str, str]]) -> str:
    """The template with ``.Messages``, each with ``.Role`` and ``.Content``. Raises
    UnreadableTemplateError."""
    found = [{"Role": message["role"], "Content": message["content"]} for message in messages]
    root = {"Messages": found}
    parts = _parts(template)
    tree, ending = _parse(parts)
    if ending is not None:
        raise UnreadableTemplateError(f"{ending} without a beginning")
    return _write(tree, root, {"$": root})


def _parts(template: str) -> list[tuple[bool, str]]:
    """(whether it is an action, its text) in order; trim marks carried out."""
    found: list[tuple[bool, str]] = []
    at, trim = 0, False
    for match in _PART.finditer(template):
        text = template[at : match.start()]
        text = text.lstrip() if trim else text
        found.append((False, text.rstrip() if match[1] else text))
        found.append((True, match[2].strip()))
        at, trim = match.end(), bool(match[3])
    tail = template[at:]
    found.append((False, tail.lstrip() if trim else tail))
    return found


def _parse(parts: list[tuple[bool, str]]) -> tuple[list[_Node], str | None]:
    """The nodes up to an ``end`` or ``else`` (which is returned), or the end of the template."""
    nodes: list[_Node] = []
    while parts:
        action, text = parts.pop(0)
        if not action:
            if text:
                nodes.append(_Node("text", text))
            continue
        word = text.split(None, 1)[0] if text else ""
        if word in ("end", "else"):
            return nodes, text
        if word == "range":
            nodes.append(_range(text.removeprefix("range").strip(), parts))
        elif word == "if":
            nodes.append(_if(text.removeprefix("if").strip(), parts))
        elif ":=" in text:
            name, _, value = text.partition(":=")
            nodes.append(_Node("set", names=(name.strip(),), expression=_expression(value)))
        else:
            nodes.append(_Node("write", expression=_expression(text)))
    return nodes, None


def _range(head: str, parts: list[tuple[bool, str]]) -> _Node:
    names, _, over = head.rpartition(":=")
    inside, ending = _parse(parts)
    if ending != "end":
        raise UnreadableTemplateError("range without end")
    return _Node(
        "range",
        names=tuple(name.strip() for name in names.split(",") if name.strip()),
        expression=_expression(over),
        inside=inside,
    )


def _if(condition: str, parts: list[tuple[bool, str]]) -> _Node:
    inside, ending = _parse(parts)
    node = _Node("if", expression=_expression(condition), inside=inside)
    if ending is not None and ending.startswith("else if"):
        node.otherwise = [_if(ending.removeprefix("else if").strip(), parts)]
    elif ending == "else":
        node.otherwise, ending = _parse(parts)
        if ending != "end":
            raise UnreadableTemplateError("else without end")
    elif ending != "end":
        raise UnreadableTemplateError("if without end")
    return node


def _expression(text: str) -> Any:
    """A list (function or value first) of words and of such lists."""
    words = _WORD.findall(text)
    stack: list[list[Any]] = [[]]
    for word in words:
        if word == "(":
            stack.append([])
        elif word == ")":
            if len(stack) == 1:
                raise UnreadableTemplateError(f"a bracket too many in {text!r}")
            inner = stack.pop()
            stack[-1].append(inner)
        else:
            stack[-1].append(word)
    if len(stack) != 1 or not stack[0]:
        raise UnreadableTemplateError(f"cannot read {text!r}")
    return stack[0]


def _write(nodes: Sequence[_Node], dot: Any, names: dict[str, Any]) -> str:
    out = []
    for node in nodes:
        if node.kind == "text":
            out.append(node.text)
        elif node.kind == "write":
            out.append(str(_value(node.expression, dot, names)))
        elif node.kind == "set":
            names[node.names[0]] = _value(node.expression, dot, names)
        elif node.kind == "if":
            chosen = node.inside if _value(node.expression, dot, names) else node.otherwise
            out.append(_write(chosen, dot, dict(names)))
        else:
            for index, item in enumerate(_value(node.expression, dot, names)):
                inner = dict(names)
                values = (index, item)[-len(node.names) :] if node.names else ()
                inner.update(zip(node.names, values, strict=True))
                out.append(_write(node.inside, item, inner))
    return "".join(out)


def _value(expression: Any, dot: Any, names: dict[str, Any]) -> Any:
    if isinstance(expression, str):
        return _word(expression, dot, names)
    first, *rest = expression
    values = [_value(each, dot, names) for each in rest]
    match first:
        case "eq":
            return values[0] == values[1]
        case "ne":
            return values[0] != values[1]
        case "and":
            return all(values)
        case "or":
            return any(values)
        case "not":
            return not values[0]
        case "len":
            return len(values[0])
        case "slice":
            return values[0][values[1] :]
    if rest:
        raise UnreadableTemplateError(f"the function {first!r} is not known here")
    return _value(first, dot, names)


def _word(word: str, dot: Any, names: dict[str, Any]) -> Any:
    if word.startswith('"'):
        return json.loads(word)
    if word.isdigit():
        return int(word)
    start, _, path = word.partition(".")
    if start and start not in names:
        raise UnreadableTemplateError(f"{word!r} is not known here")
    value = names[start] if start else dot
    for part in path.split(".") if path else ():
        if not isinstance(value, Mapping) or part not in value:
            raise UnreadableTemplateError(f"{word!r} is not known here")
        value = value[part]
    return value
