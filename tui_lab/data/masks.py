"""Which characters of a rendered chat are trained: the assistant's text with the token that ends the turn.

Four methods are tried in this order: the template's own ``{% generation %}`` marks, trl's training variant
of the same template, comparing the renderings of growing prefixes, and searching for the answers in the
text. All give character spans; the tokenizer's offsets map them to tokens."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from tui_lab.core.sanitize import first_line
from tui_lab.data.rows import ChatMessage, Tokenizer, Tool

Span = tuple[int, int]

MARKS, TRL, PREFIXES, LAST, SEARCH = (
    "the template's generation marks",
    "trl's training variant of the template",
    "comparison of rendered prefixes",
    "comparison of rendered prefixes, last assistant turn only (the template rewrites earlier turns)",
    "the answers found in the rendered text",
)
_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
# Templates of thinking models would leave the answer open to a thinking block that the data does not have.
TEMPLATE_SETTINGS = {"enable_thinking": False}


#: What rendering raises: templates are programs, and ``raise_exception`` in them is common.
TEMPLATE_ERRORS = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError,
)  # fmt: skip


class Unrenderable(Exception):
    """The chat template refuses a row; the message says why."""


def fold_system(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """System turns put in front of the next user turn, and turns of the same role joined: for templates that
    know neither system turns nor two turns of one role in a row."""
    folded: list[ChatMessage] = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(message["content"])
            continue
        new = message.copy()
        if waiting and new["role"] == "user":
            new["content"] = "\n\n".join([*waiting, new["content"]])
            waiting = []
        elif waiting:  # the assistant begins: the system's text becomes a user turn
            folded.append({"role": "user", "content": "\n\n".join(waiting)})
            waiting = []
        joined = folded[-1] if folded else None
        if (
            joined is not None
            and joined["role"] == new["role"] != "tool"
            and joined.get("weight") == new.get("weight")
            and not joined.get("tool_calls")
            and not new.get("tool_calls")
        ):
            folded[-1] = {**folded[-1], "content": folded[-1]["content"] + "\n\n" + new["content"]}
        else:
            folded.append(new)
    return folded


class Renderer:
    """Renders chats through one tokenizer's template and finds the characters to be trained.

    ``methods`` counts rows by how their mask was found, ``folded`` those with folded system turns."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.template: str = tokenizer.chat_template
        self.marked = _MARK.search(self.template) is not None
        self.training_template = None if self.marked else _trl_template(self.template)
        self.specials = sorted(
            {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
            | set(tokenizer.all_special_tokens),
            key=len,
            reverse=True,
        )
        self.has_system = self._renders_system()
        self.end_of_turn = self._find_end_of_turn()
        self.opening = self._find_opening()
        self.methods: dict[str, int] = {}
        self.folded = 0

    def reset_counts(self) -> None:
        """Sets ``methods`` and ``folded`` to 0 for the next data set."""
        self.methods, self.folded = {}, 0

    def render(
        self,
        messages: Sequence[ChatMessage],
        prompt: bool = False,
        settings: Mapping[str, bool] = TEMPLATE_SETTINGS,
        tools: Sequence[Tool] = (),
    ) -> str:
        """The text of a chat; with ``prompt`` up to the answer's header. Raises one of TEMPLATE_ERRORS."""
        return str(
            self.tokenizer.apply_chat_template(
                list(messages),
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=prompt,
                **settings,
            )
        )

    def _renders_system(self) -> bool:
        """Whether the template renders a system turn: some raise, some drop it silently."""
        mark = "qzx-system-qzx"
        probe: list[ChatMessage] = [
            {"role": "system", "content": mark},
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": "A"},
        ]
        try:
            return mark in self.render(probe)
        except TEMPLATE_ERRORS:
            return False

    def _find_end_of_turn(self) -> str:
        """The special token that the template puts after an answer ("" if it puts none there)."""
        mark = "qzx-answer-qzx"
        try:
            text = self.render([{"role": "user", "content": "Q"}, {"role": "assistant", "content": mark}])
        except TEMPLATE_ERRORS:
            return ""
        tail = text.partition(mark)[2]
        places = [(tail.find(token), -len(token), token) for token in self.specials if token in tail]
        return min(places)[2] if places else ""

    def _find_opening(self) -> str:
        """What stands between a question and its answer, as far as generation is prompted with it."""
        question: list[ChatMessage] = [{"role": "user", "content": "Q"}]
        try:
            without, opened = self.render(question), self.render(question, prompt=True)
            answered = self.render([*question, {"role": "assistant", "content": "qzx-answer-qzx"}])
        except TEMPLATE_ERRORS:
            return ""
        pairs = enumerate(zip(opened, answered, strict=False))
        same = next((n for n, (a, b) in pairs if a != b), len(opened))
        shared = opened[:same]
        return shared[len(without) :] if shared.startswith(without) else ""

    def prepare(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()
    ) -> tuple[list[ChatMessage], str, bool]:
        """The messages as the template can take them, their text, and whether they were folded. Raises
        Unrenderable, also where the template drops tools, calls or results."""
        turns, text, folded = self._prepare(messages, tools)
        if dropped := _dropped_by_template(turns, tools, text):
            raise Unrenderable(
                f"the chat template renders no {dropped}; choose a model whose template knows tools, or give "
                "such a template as chat_template"
            )
        return turns, text, folded

    def _prepare(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool]
    ) -> tuple[list[ChatMessage], str, bool]:
        turns = list(messages)
        if self.has_system or not any(message["role"] == "system" for message in turns):
            try:
                return turns, self.render(turns, tools=tools), False
            except TEMPLATE_ERRORS as error:
                first = first_line(error)
        else:
            first = "it has no system turns"
        folded = fold_system(turns)
        try:
            return folded, self.render(folded, tools=tools), True
        except TEMPLATE_ERRORS as error:
            raise Unrenderable(f"the chat template refuses it: {first_line(error) or first}") from None

    def spans(
        self, messages: list[ChatMessage], text: str, tools: Sequence[Tool] = ()
    ) -> tuple[list[Span], str]:
        """The spans (start, end) of ``text`` to train, in characters, and how they were found. Raises
        Unrenderable."""
        answers = [message for message in messages if message["role"] == "assistant"]
        for template, method in (
            (self.template if self.marked else None, MARKS),
            (self.training_template, TRL),
        ):
            found = _marked_spans(self.tokenizer, template, messages, text, tools) if template else None
            if found is not None and len(found) == len(answers) and all(a < b for a, b in found):
                return self._finish(text, found, answers), method
        found = self._prefix_spans(messages, text, tools)
        if found is not None:
            return self._finish(text, found, answers), PREFIXES
        last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
        before = self._rendered_prefix(messages[:last], text, tools, prompt=True)
        is_last = last == len(messages) - 1
        after = text if is_last else self._rendered_prefix(messages[: last + 1], text, tools)
        if before is not None and after is not None and len(after) > len(before):
            return self._finish(text, [(len(before), len(after))], answers[-1:]), LAST
        found = _search_spans(text, answers)
        if found is not None:
            return self._finish(text, found, answers), SEARCH
        raise Unrenderable("the chat template changes the answers, so the tokens to train cannot be found")

    def _rendered_prefix(
        self, messages: Sequence[ChatMessage], text: str, tools: Sequence[Tool], prompt: bool = False
    ) -> str | None:
        """The rendering of the first messages, if it is how ``text`` begins."""
        if not messages:
            return None
        # Earlier turns of thinking models are rendered without the empty thinking block of the last one.
        for settings in (TEMPLATE_SETTINGS, {}) if prompt else (TEMPLATE_SETTINGS,):
            try:
                rendered = self.render(messages, prompt, settings, tools)
            except TEMPLATE_ERRORS:
                continue
            if text.startswith(rendered):
                return rendered
        return None

    def _prefix_spans(
        self, messages: list[ChatMessage], text: str, tools: Sequence[Tool]
    ) -> list[Span] | None:
        found: list[Span] = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._rendered_prefix(messages[:index], text, tools, prompt=True)
            if before is None:
                return None
            start = len(before)
            is_last = index == len(messages) - 1
            after = text if is_last else self._rendered_prefix(messages[: index + 1], text, tools)
            if after is not None and len(after) > start:
                found.append((start, len(after)))
                continue
            # Cut short, the chat may close otherwise (Phi-3 adds its end token): the answer shows where.
            answer = message["content"].strip()
            at = start + len(text[start:]) - len(text[start:].lstrip())
            if not answer or not text.startswith(answer, at):
                return None
            found.append((start, at + len(answer)))
        return found

    def _finish(self, text: str, found: list[Span], answers: list[ChatMessage]) -> list[Span]:
        """Each span stretched or cut to end with its end-of-turn token; turns of weight 0 left out."""
        closed = [(self._open(text, start, end), self._close(text, start, end)) for start, end in found]
        return [span for span, answer in zip(closed, answers, strict=True) if answer.get("weight") != 0]

    def _open(self, text: str, start: int, end: int) -> int:
        """Past an opening that reaches into the span, such as the empty thinking block of a thinking model:
        generation is prompted with it, so the model does not write it."""
        at = text.rfind(self.opening, 0, start + len(self.opening)) if self.opening else -1
        return at + len(self.opening) if at >= 0 and start < at + len(self.opening) < end else start

    def _close(self, text: str, start: int, end: int) -> int:
        mark = self.end_of_turn
        if not mark:
            return start + len(text[start:end].rstrip()) if text[start:end].strip() else end
        at = text.rfind(mark, start, end)
        if at >= 0:
            rest = text[at + len(mark) : end]
            for special in self.specials:
                rest = rest.replace(special, "")
            if not rest.strip():
                return at + len(mark)
        after = re.compile(r"\s*" + re.escape(mark)).match(text, end)
        return after.end() if after else end


@functools.cache
def _trl_folder() -> Path | None:
    spec = importlib.util.find_spec("trl")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) / "chat_templates" if places else None


def _trl_template(template: str) -> str | None:
    """trl's variant of ``template`` with marks, if trl has one.

    ``trl.chat_template_utils.get_training_chat_template`` compares with the same files; they are read here
    because importing trl takes seconds, which a preview should not wait for.
    """
    folder = _trl_folder()
    if folder is None or not folder.is_dir():
        return None
    for path in sorted(folder.glob("*.jinja")):
        variant = path.with_name(f"{path.stem}_training.jinja")
        if variant.exists() and path.read_text(encoding="utf-8") == template:
            return variant.read_text(encoding="utf-8")
    return None


def _marked_spans(
    tokenizer: Tokenizer, template: str, messages: list[ChatMessage], text: str, tools: Sequence[Tool]
) -> list[Span] | None:
    """The ``{% generation %}`` spans, if ``template`` renders exactly ``text``."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        found: Any = render_jinja_template(
            [[dict(message) for message in messages]],
            chat_template=template,
            tools=[dict(tool) for tool in tools] or None,
            return_assistant_tokens_mask=True,
            **{**tokenizer.special_tokens_map, **TEMPLATE_SETTINGS},
        )
    except TEMPLATE_ERRORS:
        return None
    [rendered], [spans] = found
    return [(int(start), int(end)) for start, end in spans] if rendered == text else None


def _dropped_by_template(messages: Sequence[ChatMessage], tools: Sequence[Tool], text: str) -> str:
    """What of the tools is not in the rendered text: "" for nothing."""
    calls = [call["function"]["name"] for message in messages for call in message.get("tool_calls", ())]
    results = [message["content"] for message in messages if message["role"] == "tool"]
    names = [name for tool in tools if (name := tool.get("function", {}).get("name"))]
    if any(name not in text for name in names):
        return "tools"
    if any(name not in text for name in calls):
        return "tool calls"
    if not results:
        return ""
    # results may be escaped or parsed: their words tell whether they are there
    shown = set(re.findall(r"\w+", text))
    return "tool results" if any(set(re.findall(r"\w+", r)) - shown for r in results) else ""


def _search_spans(text: str, answers: list[ChatMessage]) -> list[Span] | None:
    found: list[Span] = []
    at = 0
    for answer in answers:
        content = answer["content"].strip()
        at = text.find(content, at)
        if at < 0 or not content:
            return None
        found.append((at, at + len(content)))
        at += len(content)
    return found


def mask_of(text: str, offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Which tokens are trained, given each token's (start, end) in ``text`` and the trained spans.

    A token that begins before a span and reaches into it is trained only if its part outside is mere blank
    space and its part inside is not ("▁Paris" after a header's closing space); never if it holds header text.
    Byte-level tokenizers may trim blanks from the offsets: a gap of blanks belongs to the next token.
    """
    mask: list[bool] = []
    previous_end = 0
    at = 0
    for start, end in offsets:
        if start == end == 0 and previous_end == 0:  # a start token that is not in the text
            mask.append(False)
            continue
        if start > previous_end and not text[previous_end:start].strip():
            start = previous_end
        previous_end = max(previous_end, end)
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        if at == len(spans) or end <= spans[at][0]:
            mask.append(False)
            continue
        begin = spans[at][0]
        mask.append(start >= begin or (not text[start:begin].strip() and bool(text[begin:end].strip())))
    return mask
