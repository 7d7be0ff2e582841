"""Renders chat templates with a bound on time and memory.

A chat template is a program from outside: one that loops ten thousand million times would keep a run from
being stopped. The environment has what transformers gives to chat templates (a sandbox, ``tojson``,
``raise_exception``, ``strftime_now``, ``{% generation %}``), so the text is the same. In addition it counts
loops, calls and produced characters, and the date is the one that the caller sets."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tui_lab.data.cells import clean

MAX_SOURCE_CHARS = 1 << 20
#: CPU seconds of one rendering: real templates take milliseconds.
MAX_SECONDS = 3.0
#: Characters and list elements that one rendering may produce, intermediate texts included.
MAX_CHARS = 1 << 26
MAX_STEPS = 3_000_000
_STEPS_A_CHECK = 64
_LARGE = 50_000  # characters or elements
_ENTRY_BYTES = 64  # of a dictionary
_MAX_WIDTH = 10_000  # of padding and indentation
_MAX_INTEGER_BITS = 4096
#: Filters that real templates do not use and whose work cannot be bounded from outside.
_REMOVED_FILTERS = ("urlize", "wordwrap", "random", "xmlattr")
_PADDING = {"ljust", "rjust", "center", "zfill", "expandtabs"}
_WIDE_NUMBER = re.compile(r"\d{5,}|\*")
#: What rendering raises: templates are programs, and ``raise_exception`` in them is common.
TEMPLATE_ERRORS = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    MemoryError,
)  # fmt: skip


class TooMuch(jinja2.TemplateRuntimeError):
    """The template takes more time or memory than any real one."""


@dataclass
class _Budget:
    """What the present rendering has used."""

    began: float = field(default_factory=time.thread_time)
    steps: int = 0
    chars: int = 0

    def step(self, chars: int = 0) -> None:
        self.steps += 1
        self.produce(chars)
        if self.steps > MAX_STEPS:
            raise TooMuch(f"it loops more than {MAX_STEPS:,} times")
        if self.steps % _STEPS_A_CHECK == 0:
            self.check_time()

    def check_time(self) -> None:
        if time.thread_time() - self.began > MAX_SECONDS:
            raise TooMuch(f"rendering one chat takes more than {MAX_SECONDS:g} s")

    def work_on(self, value: object) -> None:
        """Counts a filter or a method; on a large value one alone takes long."""
        self.step()
        if isinstance(value, str | list | tuple) and len(value) > _LARGE:
            self.check_time()

    def produce(self, chars: int) -> None:
        self.chars += chars
        if self.chars > MAX_CHARS:
            raise TooMuch(f"rendering one chat produces more than {MAX_CHARS:,} characters")


_present = threading.local()


def _budget() -> _Budget:
    found = getattr(_present, "budget", None)
    return found if isinstance(found, _Budget) else _Budget()  # constants are folded when it is compiled


# --- the environment --------------------------------------------------------------------------------


def _counted(value: Iterable[Any], chars: int = 0) -> Iterator[Any]:
    """The items of a loop, each counted with the ``chars`` of fixed text in the loop's body."""
    budget = _budget()
    for item in value:
        budget.step(chars)
        yield item


def _part(value: object) -> object:
    """A part of a text that is put together: its characters are counted, those of nested lists too."""
    budget, waiting = _budget(), [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            budget.produce(len(item))
        elif isinstance(item, list | tuple | Mapping):
            budget.step(len(item))
            waiting += [*item.keys(), *item.values()] if isinstance(item, Mapping) else item
    return value


def _length(value: object) -> int:
    """The characters of a text, or about the bytes of a list."""
    if isinstance(value, str):
        return len(value)
    return 8 * len(value) if isinstance(value, list | tuple | Mapping) else 0


def _check_width(value: object) -> None:
    if isinstance(value, int) and abs(value) > _MAX_WIDTH:
        raise TooMuch(f"it pads or indents by more than {_MAX_WIDTH:,} characters")


def _check_format(text: str, values: Iterable[object]) -> None:
    if _WIDE_NUMBER.search(text) or (":{" in text and any(isinstance(v, int) for v in values)):
        raise TooMuch(f"it pads or indents by more than {_MAX_WIDTH:,} characters")
    _budget().produce(len(text))


def _check_replacement(text: object, arguments: Sequence[object]) -> None:
    if isinstance(text, str) and len(arguments) >= 2 and isinstance(arguments[0], str):
        old, new = arguments[0], arguments[1]
        _budget().produce(len(text) + text.count(old) * _length(new))


def _check_arguments(name: str, text: object, arguments: Sequence[object]) -> None:
    """Refuses a filter or a method of a text whose result would be far larger than what it is given."""
    if name in _PADDING or name in ("indent", "batch", "slice", "tojson", "filesizeformat"):
        for value in arguments:
            _check_width(value)
            _budget().produce(_length(value))
    if name == "indent" and isinstance(text, str):
        widest = max((v if isinstance(v, int) else _length(v) for v in arguments), default=4)
        _budget().produce(len(text) + text.count("\n") * widest)
    elif name == "replace":
        _check_replacement(text, arguments)
    elif name in ("format", "format_map") and isinstance(text, str):
        _check_format(text, arguments)
        _part(arguments)
    elif name in (
        "string",
        "escape",
        "e",
        "forceescape",
        "safe",
        "pprint",
        "upper",
        "lower",
        "title",
        "trim",
    ):
        _part(text)
    elif name == "translate":
        raise TooMuch("it calls translate, which chat templates have no use for")


def _guarded(name: str, function: Any) -> Any:
    """The filter with its arguments checked. ``join`` counts its result."""

    def run(*arguments: Any, **named: Any) -> Any:
        passed = getattr(function, "jinja_pass_arg", None) is not None
        values = arguments[1:] if passed else arguments
        _budget().work_on(values[0] if values else None)
        if values:
            _check_arguments(name, values[0], [*values[1:], *named.values()])
        if name in ("join", "list", "sum"):
            return _produced(function, name, arguments, named, passed)
        return function(*arguments, **named)

    if (passed := getattr(function, "jinja_pass_arg", None)) is not None:
        run.jinja_pass_arg = passed  # type: ignore[attr-defined]
    return run


def _produced(function: Any, name: str, arguments: Any, named: Any, passed: bool) -> Any:
    """The result of a filter that puts a sequence together, its parts counted while it does."""
    at = 1 if passed else 0
    value = arguments[at]
    if isinstance(value, str):
        return function(*arguments, **named)
    separator = _length(arguments[at + 1]) if name == "join" and len(arguments) > at + 1 else 0

    def parts() -> Iterator[Any]:
        for part in value:
            _budget().step(separator + (_length(part) or 8))
            yield _part(part) if name == "join" else part

    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        arguments = (*arguments[:at], parts(), *arguments[at + 1 :])
    return function(*arguments, **named)


class _Generation(jinja2.ext.Extension):
    """``{% generation %}``: the characters of the assistant, noted while a text is rendered."""

    tags = {"generation"}  # noqa: RUF012 (jinja's own declaration)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_generated"), [], [], body).set_lineno(line)

    def _generated(self, caller: Macro) -> str:
        text = str(caller())
        noted = getattr(_present, "noted", None)
        if noted is not None:
            start = sum(map(len, noted.blocks))
            noted.spans.append((start, start + len(text)))
        return text


@dataclass
class _Noted:
    blocks: list[str] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with loops, calls and growing texts counted."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    macro_chars = 0  # fixed text of the longest macro

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)  # type: ignore[misc,no-untyped-call,unused-ignore]
        macros = [_fixed_chars(macro) for macro in template.find_all(nodes.Macro)]
        self.macro_chars = max(macros, default=0)
        for loop in list(template.find_all(nodes.For)):
            chars = nodes.Const(sum(_fixed_chars(child) for child in loop.body))
            loop.iter = nodes.Filter(loop.iter, "_counted", [chars], [], None, None).set_lineno(loop.lineno)
        groups: list[Any] = list(template.find_all((nodes.Concat, nodes.Output)))
        for group in groups:
            group.nodes = [_counted_part(part) for part in group.nodes]
        # lists in lists: each of 40 that holds the one before it twice has a million million elements
        lists: list[Any] = list(template.find_all((nodes.List, nodes.Tuple)))
        for each in lists:
            if getattr(each, "ctx", "load") == "load":
                each.items = [_counted_part(item) for item in each.items]
        for pair in list(template.find_all(nodes.Pair)):
            pair.value = _counted_part(pair.value)
        return template  # type: ignore[no-any-return,unused-ignore]

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        budget = _budget()
        if operator == "+" and type(left) is str and type(right) is str:  # nearly all that templates do
            budget.step(len(left) + len(right))
            return left + right
        budget.step()
        if operator == "%" and isinstance(left, str):
            _check_format(left, ())
            _part(right)
        elif operator == "+":
            budget.produce(_length(left) + _length(right))
        elif operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(times, int) and not isinstance(many, int | float):
                    budget.produce(_length(many) * max(0, times))
        if operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() + right.bit_length()
            if operator == "**":
                bits = left.bit_length() * abs(right)
            if bits > _MAX_INTEGER_BITS:
                raise TooMuch("it computes a number of more than 1,000 digits")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
        _budget().step(self.macro_chars if isinstance(function, Macro) else 0)
        if isinstance(function, LoopContext) and arguments:  # the next level of a recursive loop
            arguments = (_counted(arguments[0]), *arguments[1:])
        method = getattr(function, "__wrapped__", function)  # the sandbox wraps str.format
        owner, name = getattr(method, "__self__", None), str(getattr(method, "__name__", ""))
        if isinstance(function, _Dict) or (isinstance(owner, _Dict) and name == "fromkeys"):
            _check_entries(arguments, named)
        if isinstance(owner, str):
            _budget().work_on(owner)
            values = [*arguments, *named.values()]
            _check_arguments(name, owner, values)
            if name == "join" and arguments:
                parts = [_part(part) for part in _counted(arguments[0], len(owner))]
                arguments = (parts,)
        return super().call(context, function, *arguments, **named)


def _counted_part(node: Any) -> Any:
    if isinstance(node, nodes.TemplateData | nodes.Const):
        return node
    return nodes.Filter(node, "_part", [], [], None, None).set_lineno(node.lineno)


def _fixed_chars(node: nodes.Node) -> int:
    """The characters of fixed text below a node."""
    found = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
    return found + sum(len(c.value) for c in node.find_all(nodes.Const) if isinstance(c.value, str))


class _Dict:
    """``dict`` for templates, without its methods."""

    def __call__(self, *arguments: Any, **named: Any) -> dict[Any, Any]:
        return dict(*arguments, **named)

    def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
        return dict.fromkeys(*arguments)


def _check_entries(arguments: Sequence[object], named: Mapping[str, object]) -> None:
    """Counts the entries of a dictionary that is made of these."""
    entries = sum(len(value) for value in arguments if isinstance(value, list | tuple | range | Mapping))
    _budget().produce(_ENTRY_BYTES * (entries + len(named)))
    _part(list(named.values()))


def _raise(message: object) -> NoReturn:
    raise jinja2.TemplateError(str(message))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Without the escapes of HTML that jinja's own filter makes."""
    return json.dumps(
        _part(value), ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _strftime_now(pattern: str) -> str:
    day = getattr(_present, "day", None)
    return (day or datetime.now()).strftime(str(pattern)[:200])


@lru_cache(maxsize=32)
def _compiled(source: str) -> jinja2.Template:
    if len(source) > MAX_SOURCE_CHARS:
        raise TooMuch(f"it has {len(source):,} characters; {MAX_SOURCE_CHARS:,} are read at most")
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    for name in _REMOVED_FILTERS:
        environment.filters.pop(name, None)
    environment.filters["tojson"] = _tojson
    for name in list(environment.filters):
        environment.filters[name] = _guarded(name, environment.filters[name])
    environment.filters |= {"_counted": _counted, "_part": _part}
    del environment.globals["lipsum"]
    environment.globals |= {"raise_exception": _raise, "strftime_now": _strftime_now, "dict": _Dict()}
    try:
        return environment.from_string(source)
    except (SyntaxError, RecursionError) as error:  # in the Python that jinja makes of it
        raise TooMuch("it is nested too deeply") from error


# --- rendering --------------------------------------------------------------------------------------


def render(
    source: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    prompt: bool = False,
    tools: Sequence[Mapping[str, Any]] = (),
    variables: Mapping[str, Any] | None = None,
    day: datetime | None = None,
) -> tuple[str, list[tuple[int, int]]]:
    """The text of a chat and its ``{% generation %}`` spans in characters.

    Args:
        prompt: up to the header of the next answer.
        variables: the special tokens, and the settings that the template reads.
        day: what ``strftime_now`` answers with; None for now.

    Raises:
        TEMPLATE_ERRORS, :class:`TooMuch` among them.
    """
    chat = [_plain_message(message) for message in messages]
    noted = _Noted()
    _present.budget, _present.noted, _present.day = _Budget(), noted, day
    try:
        template = _compiled(source)
        for block in template.generate(
            messages=chat,
            tools=[_plain(tool) for tool in tools] or None,
            documents=None,
            add_generation_prompt=prompt,
            **(variables or {}),
        ):
            _present.budget.produce(len(block))
            noted.blocks.append(block)
    finally:
        _present.budget, _present.noted, _present.day = None, None, None
    return "".join(noted.blocks), noted.spans


def _plain_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of plain values, empty ones left out. Templates read the reasoning by one of two names."""
    plain = {key: _plain(value) for key, value in message.items() if value is not None}
    reasoning = plain.get("reasoning_content")
    return {"thinking": reasoning, **plain} if reasoning is not None else plain


def _plain(value: Any) -> Any:
    """Copies of JSON values with lone surrogates replaced; anything else as its text."""
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return clean(str(value))
