"""The Modelfile of an export for ``ollama create``: weights, chat template in Go's text/template language,
system message, stop strings and sampling parameters.

Most chat templates put fixed text around the messages. :func:`fixed_text` finds that text by rendering marker
strings through the run's own Jinja template; this works for any template, known or not. The fixed text is
then compared with the run's template on conversations and written as a Go template. A template that does more
is left out, with the reason. What Ollama and llama.cpp make of an architecture is in ``architectures.toml``.
This module imports no torch.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from tui_lab.core.records import from_plain
from tui_lab.core.sanitize import sanitize
from tui_lab.export.check import Conversation

#: Renders messages through the run's template. Raises an error where the template refuses them.
Render: TypeAlias = Callable[[Conversation], str]
_USER, _ASSISTANT, _USER_2, _SYSTEM = "qzxuserqzx", "qzxassistantqzx", "qzxnextqzx", "qzxsystemqzx"


class Architecture(Struct, frozen=True, forbid_unknown_fields=True):
    """A row of ``architectures.toml``."""

    gguf: str
    ollama: bool


@cache
def architectures() -> dict[str, Architecture]:
    """What is known of each architecture, by its class in transformers."""
    text = Path(__file__).with_name("architectures.toml").read_text(encoding="utf-8")
    return from_plain(tomllib.loads(text), dict[str, Architecture], "architectures.toml")


@dataclass(frozen=True)
class FixedText:
    """The fixed text of a chat template: (before, after) each role's message. ``begin`` precedes the first
    message unless that is a system message; ``system`` is None for a template without system messages;
    ``generation_prompt`` is the text that asks for an answer."""

    begin: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    generation_prompt: str

    def render(self, messages: Conversation) -> str:
        """A conversation as the Go template of :func:`go_template` renders it."""
        around = {"user": self.user, "assistant": self.assistant, "system": self.system or ("", "")}
        first = messages[0]["role"] if messages else ""
        parts = [self.begin] if messages and not (self.system and first == "system") else []
        for at, message in enumerate(messages):
            before, after = around[message["role"]]
            is_last = at == len(messages) - 1
            parts += [before, message["content"]]
            if not is_last or message["role"] != "assistant":
                parts.append(after)
            if is_last and message["role"] != "assistant":
                parts.append(self.generation_prompt)
        return "".join(parts)


class UnsupportedTemplateError(Exception):
    """The reason why a chat template is more than fixed text around messages."""


def fixed_text(with_prompt: Render, without_prompt: Render) -> FixedText:
    """The text that a template puts around messages. ``with_prompt`` renders with the prompt for an answer.
    Raises UnsupportedTemplateError."""
    first = {"role": "user", "content": _USER}
    chat = [first, {"role": "assistant", "content": _ASSISTANT}, {"role": "user", "content": _USER_2}]
    try:
        rendered = with_prompt(chat), without_prompt([first]), without_prompt(chat[:2])
    except Exception as error:  # noqa: BLE001 (templates raise any error)
        raise UnsupportedTemplateError(
            f"it refuses a plain conversation ({sanitize(str(error))[:120]})"
        ) from None
    opening, between, turned, last = _split(rendered[0], _USER, _ASSISTANT, _USER_2)
    after_user = _split(rendered[1], _USER)[1]
    after_answer = _split(rendered[2], _USER, _ASSISTANT)[2]
    user_end = _common_start(_common_start(after_user, between), last)
    user_start = _common_end(opening, turned[len(_common_start(after_answer, turned)) :])
    return FixedText(
        begin=opening.removesuffix(user_start),
        system=_system(with_prompt, user_start),
        user=(user_start, user_end),
        assistant=(between[len(user_end) :], turned.removesuffix(user_start)),
        generation_prompt=last[len(user_end) :],
    )


def _split(text: str, *marks: str) -> list[str]:
    """The text before, between and after the marks, which must occur in this order."""
    parts: list[str] = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise UnsupportedTemplateError("it leaves out messages or changes them")
        parts.append(before)
    return [*parts, text]


def _common_start(first: str, second: str) -> str:
    pairs = enumerate(zip(first, second, strict=False))
    return first[: next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))]


def _common_end(first: str, second: str) -> str:
    return _common_start(first[::-1], second[::-1])[::-1]


def _system(render: Render, user_start: str) -> tuple[str, str] | None:
    """The text around a system message; None if the template renders no system message of its own."""
    try:
        text = render([{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER}])
        before, after, _ = _split(text, _SYSTEM, _USER)
    except Exception:  # noqa: BLE001 (templates raise any error)
        return None
    return (before, after.removesuffix(user_start)) if after.endswith(user_start) else None


def _go_text(text: str) -> str:
    """Fixed text for a Go template inside a Modelfile's triple quotes. Text that Go or Ollama would read
    as markup is written as a string constant: "{{", a "{" before the next action, triple quotes, and
    carriage returns, which a Modelfile loses."""
    if "{{" not in text and not text.endswith("{") and '"""' not in text and "\r" not in text:
        return text
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}"


def go_template(text: FixedText) -> str:
    """The Go template that renders what :meth:`FixedText.render` does."""
    user, assistant = ([_go_text(part) for part in pair] for pair in (text.user, text.assistant))
    begin = system = system_end = ""
    if text.begin:
        not_system = '(ne .Role "system")' if text.system else ""
        condition = f"and (eq $i 0) {not_system}" if not_system else "eq $i 0"
        begin = f"{{{{ if {condition} }}}}{_go_text(text.begin)}{{{{ end }}}}"
    if text.system:
        before, after = map(_go_text, text.system)
        system = f'{{{{ if eq .Role "system" }}}}{before}{{{{ .Content }}}}{after}{{{{ else }}}}'
        system_end = "{{ end }}"
    return (
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        + begin
        + system
        + f'{{{{ if eq .Role "user" }}}}{user[0]}{{{{ .Content }}}}{user[1]}'
        + f'{{{{ else if eq .Role "assistant" }}}}{assistant[0]}{{{{ .Content }}}}'
        + f"{{{{ if not $last }}}}{assistant[1]}{{{{ end }}}}{{{{ end }}}}"
        + system_end
        + f'{{{{ if and $last (ne .Role "assistant") }}}}{_go_text(text.generation_prompt)}{{{{ end }}}}'
        + "{{ end }}"
    )


@dataclass(frozen=True)
class OllamaTemplate:
    """A chat template for Ollama. ``go`` is "" where it cannot be expressed, with the reason in ``reason``;
    ``compared`` counts the conversations that it rendered as the run's template does."""

    go: str
    reason: str = ""
    compared: int = 0
    notes: tuple[str, ...] = ()


def translate(
    with_prompt: Render, without_prompt: Render, bos: str, conversations: Sequence[Conversation]
) -> OllamaTemplate:
    """The run's template for Ollama, compared on every conversation. Each ends with a user message. Ollama
    adds the start token itself, so ``bos`` is removed."""

    def without_bos(render: Render) -> Render:
        return lambda messages: render(messages).removeprefix(bos)

    with_prompt, without_prompt = without_bos(with_prompt), without_bos(without_prompt)
    notes: list[str] = []
    try:
        text = fixed_text(with_prompt, without_prompt)
        if text.system is None:
            notes.append("its template has no system message: send none")
        compared = 0
        for messages in conversations:
            if text.system is None and any(message["role"] == "system" for message in messages):
                continue
            stripped = [{**message, "content": message["content"].strip()} for message in messages]
            if text.render(stripped) != with_prompt(stripped):
                raise UnsupportedTemplateError("it changes with the text or the number of messages")
            compared += 1
            if text.render(messages) != with_prompt(messages):
                trims = "the chat template strips white space around messages, which Ollama's cannot"
                notes += [trims] if trims not in notes else []
    except UnsupportedTemplateError as error:
        return OllamaTemplate("", str(error))
    return OllamaTemplate(go_template(text), "", compared, tuple(notes))


# --- the file -----------------------------------------------------------------------------------------

_PARAMETERS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}  # fmt: skip


def modelfile(
    weights: str, template: str, stops: Sequence[str], settings: Mapping[str, object], system: str = ""
) -> str:
    """The text of a Modelfile. ``weights`` is a folder or file beside it; ``settings`` are transformers'
    generation settings."""
    lines = [f"FROM {weights}"]
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    if system and '"""' not in system:
        lines.append(f'SYSTEM """{system}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in stops if '"' not in stop and "\n" not in stop]
    if not settings.get("do_sample"):
        lines.append("PARAMETER temperature 0")
    else:
        for name, parameter in _PARAMETERS.items():
            value = settings.get(name)
            if isinstance(value, int | float):
                lines.append(f"PARAMETER {parameter} {value:g}")
    return "\n".join(lines) + "\n"


def template_of(text: str) -> str:
    """The TEMPLATE of a Modelfile as Ollama reads it; "" if it has none."""
    found = re.search(r'^TEMPLATE """(.*?)"""$', text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def stops_of(text: str) -> list[str]:
    """The stop strings of a Modelfile."""
    return re.findall(r'^PARAMETER stop "(.*)"$', text, re.MULTILINE)
