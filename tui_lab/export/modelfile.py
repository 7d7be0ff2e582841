"""The Modelfile of an export, for ``ollama create``: where the weights lie, the chat template in Go's
language, what ends an answer, how it is sampled.

Most chat templates put fixed text around the messages. That text is found by rendering marks through the
run's own template; the Go template made of it is written, read back and compared on conversations. A template
that does more is left out, with the reason. No torch; what renders is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tui_lab.core.sanitize import sanitize
from tui_lab.export import go_template

Message = dict[str, str]
#: Messages as the run's template renders them, with the prompt for an answer. Raises where it refuses.
Render = Callable[[list[Message]], str]
#: Architectures whose safetensors ``ollama create`` converts itself (its convert/convert.go, 2026).
IMPORTED = (
    "LlamaForCausalLM", "MixtralForCausalLM", "Ministral3ForCausalLM", "GemmaForCausalLM",
    "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM", "Olmo3ForCausalLM",
    "CohereForCausalLM", "Lfm2ForCausalLM",
)  # fmt: skip
_ASKED, _SAID, _NEXT, _SYSTEM = "qzxaskedqzx", "qzxsaidqzx", "qzxnextqzx", "qzxsystemqzx"


@dataclass(frozen=True)
class Around:
    """The fixed text of a chat template. ``begin`` stands before the first message where that is no system
    message; a template that knows none has ``system`` None."""

    begin: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    answer: str  # what an answer is prompted with


class Inexpressible(Exception):
    """Why a chat template is more than fixed text around messages."""


def around(render: Render, closed: Callable[[list[Message]], str]) -> Around:
    """The text that a template puts around messages; ``closed`` renders without the prompt for an answer.
    Raises Inexpressible."""
    first: Message = {"role": "user", "content": _ASKED}
    chat = [first, {"role": "assistant", "content": _SAID}, {"role": "user", "content": _NEXT}]
    try:
        opening, between, turned, last = _cut(render(chat), _ASKED, _SAID, _NEXT)
        after_user = _cut(closed([first]), _ASKED)[1]
        after_answer = _cut(closed(chat[:2]), _ASKED, _SAID)[2]
    except Inexpressible:
        raise
    except Exception as error:  # templates raise what they like
        raise Inexpressible(f"it refuses a plain conversation ({sanitize(str(error))[:120]})") from None
    tail = _common_start(_common_start(after_user, between), last)
    head = _common_end(opening, turned[len(_common_start(after_answer, turned)) :])
    return Around(
        begin=opening.removesuffix(head),
        system=_system(render, head),
        user=(head, tail),
        assistant=(between[len(tail) :], turned.removesuffix(head)),
        answer=last[len(tail) :],
    )


def _cut(text: str, *marks: str) -> list[str]:
    found: list[str] = []
    for mark in marks:
        before, seen, text = text.partition(mark)
        if not seen:
            raise Inexpressible("it leaves out messages or changes them")
        found.append(before)
    return [*found, text]


def _common_start(first: str, second: str) -> str:
    pairs = enumerate(zip(first, second, strict=False))
    return first[: next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))]


def _common_end(first: str, second: str) -> str:
    return _common_start(first[::-1], second[::-1])[::-1]


def _system(render: Render, head: str) -> tuple[str, str] | None:
    """What stands around a system message; None where the template has no such message of its own."""
    try:
        chat = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _ASKED}]
        before, after, _ = _cut(render(chat), _SYSTEM, _ASKED)
    except Exception:
        return None
    return (before, after.removesuffix(head)) if after.endswith(head) else None


def to_go(text: Around) -> str:
    """The Go template. Raises Inexpressible where fixed text would be read as Go's marks."""
    pieces = [text.begin, text.answer, *text.user, *text.assistant, *(text.system or ())]
    for piece in pieces:
        if "{{" in piece or "}}" in piece or '"""' in piece:
            raise Inexpressible("its fixed text holds marks of Go's template language")
    begin = ""
    if text.begin:
        no_system = '(ne .Role "system")' if text.system else ""
        condition = f"and (eq $i 0) {no_system}" if no_system else "eq $i 0"
        begin = f"{{{{ if {condition} }}}}{text.begin}{{{{ end }}}}"
    system = ""
    if text.system:
        system = (
            f'{{{{ if eq .Role "system" }}}}{text.system[0]}{{{{ .Content }}}}{text.system[1]}{{{{ else }}}}'
        )
    return (
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        + begin
        + system
        + f'{{{{ if eq .Role "user" }}}}{text.user[0]}{{{{ .Content }}}}{text.user[1]}'
        + f'{{{{ else if eq .Role "assistant" }}}}{text.assistant[0]}{{{{ .Content }}}}'
        + f"{{{{ if not $last }}}}{text.assistant[1]}{{{{ end }}}}{{{{ end }}}}"
        + ("{{ end }}" if system else "")
        + f'{{{{ if and $last (ne .Role "assistant") }}}}{text.answer}{{{{ end }}}}'
        + "{{ end }}"
    )


@dataclass(frozen=True)
class Template:
    """A chat template for Ollama: ``go`` is "" where it cannot be said in Go's language, and ``reason`` why;
    ``compared`` conversations were the same; ``notes`` is what to know of it."""

    go: str
    reason: str = ""
    compared: int = 0
    notes: tuple[str, ...] = ()


def translated(
    render: Render, closed: Callable[[list[Message]], str], bos: str, conversations: Sequence[list[Message]]
) -> Template:
    """The run's template for Ollama, compared on every conversation that ends with a question. Ollama puts
    the start token there by itself, so it is left out."""

    def without_bos(make: Callable[[list[Message]], str]) -> Callable[[list[Message]], str]:
        return lambda messages: make(messages).removeprefix(bos) if bos else make(messages)

    render, closed = without_bos(render), without_bos(closed)
    notes: list[str] = []
    try:
        text = around(render, closed)
        go = to_go(text)
        if text.system is None:
            notes.append("its template has no system message of its own: send none")
        compared = 0
        for messages in conversations:
            if text.system is None and any(message["role"] == "system" for message in messages):
                continue
            plain = [{**message, "content": message["content"].strip()} for message in messages]
            if go_template.render(go, plain) != render(plain):
                raise Inexpressible("it changes with what the messages say or how many there are")
            compared += 1
            if go_template.render(go, messages) != render(messages):
                trims = "the chat template strips blanks around messages, which Ollama's cannot"
                notes += [trims] if trims not in notes else []
    except Inexpressible as error:
        return Template("", str(error))
    except go_template.Unreadable as error:
        return Template("", sanitize(str(error)))
    return Template(go, "", compared, tuple(notes))


# --- the file -----------------------------------------------------------------------------------------


def modelfile(
    weights: str, template: str, stops: Sequence[str], settings: Mapping[str, Any], system: str = ""
) -> str:
    """The text of a Modelfile. ``weights`` is a folder or file beside it."""
    lines = [f"FROM {weights}"]
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    if system and '"""' not in system:
        lines.append(f'SYSTEM """{system}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in stops if '"' not in stop and "\n" not in stop]
    if not settings.get("do_sample"):
        lines.append("PARAMETER temperature 0")
    else:
        names = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p"}
        names["repetition_penalty"] = "repeat_penalty"
        for name, other in names.items():
            if settings.get(name) is not None:
                lines.append(f"PARAMETER {other} {settings[name]:g}")
    return "\n".join(lines) + "\n"


def template_of(text: str) -> str:
    """The TEMPLATE of a Modelfile as Ollama reads it; "" where it has none."""
    found = re.search(r'^TEMPLATE """(.*?)"""$', text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def stops_of(text: str) -> list[str]:
    """The stop strings of a Modelfile."""
    return re.findall(r'^PARAMETER stop "(.*)"$', text, re.MULTILINE)
