"""One rendering for training and for asking: a chat becomes a text that begins with exactly the prompt from
which its last answer would be generated, and the characters of it that are trained.

Four methods find the answers of a chat, in this order: the template's own ``{% generation %}`` marks, trl's
training variant of the same template, comparing the renderings of growing prefixes, and searching for the
answers in the text. All give character spans; the tokenizer's offsets map them to tokens."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tui_lab.core.sanitize import first_line
from tui_lab.data import chat_template, chats, trl_templates
from tui_lab.data.chat_forms import ChatForm, Tools, dropped_tools, forms
from tui_lab.data.chat_template import TEMPLATE_ERRORS
from tui_lab.data.prompt_settings import PromptSettings
from tui_lab.data.rows import ChatMessage, Tokenizer

Span = tuple[int, int]

MARKS, TRL, PREFIXES, LAST, SEARCH = (
    "the template's generation marks",
    "trl's training variant of the template",
    "comparison of rendered prefixes",
    "comparison of rendered prefixes, last assistant turn only (the template rewrites earlier turns)",
    "the answers found in the rendered text",
)
_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
#: What ``Renderer.notes`` counts, in rows.
FOLDED, INLINED, HIDDEN, DROPPED_EARLIER, COMPOSED, THINKING, TOOLS_AS_TEXT, UNCLOSED = (
    "system turns folded",
    "reasoning written into the answer",
    "reasoning left out",
    "earlier reasoning dropped",
    "answer put after the prompt",
    "with reasoning",
    "tools written as text",
    "reasoning that never ends",
)


class Unrenderable(Exception):
    """The chat template refuses a row; the message says why."""


@dataclass(frozen=True)
class _Row:
    """A row while its spans are sought. ``prompt`` counts characters; ``composed``: the template renders the
    row otherwise than its prompt."""

    chat: list[ChatMessage]
    text: str
    last: int
    prompt: int
    thinking: bool
    tools: Tools
    composed: bool

    @property
    def answers(self) -> list[int]:
        """The assistant's chats."""
        return [i for i, message in enumerate(self.chat) if message["role"] == "assistant"]


@dataclass(frozen=True)
class RenderedChat:
    """A chat as text. ``prompt`` counts the characters that generation would be prompted with; ``spans`` are
    trained; ``open_end``: the template closes the last answer with nothing."""

    text: str
    prompt: int
    spans: list[Span]
    open_end: bool


def template_variables(thinking: bool, day: datetime | None) -> dict[str, object]:
    """What a chat template is given besides the messages, whether it reads it or not."""
    found: dict[str, object] = {"enable_thinking": thinking, "thinking": thinking}
    if day is not None:
        found["date_string"] = day.strftime("%d %b %Y")  # Llama 3
    return found


class Renderer:
    """Renders chats through one tokenizer's template and finds the characters to be trained.

    ``methods`` counts rows by how their mask was found, ``notes`` by what was changed in them."""

    def __init__(self, tokenizer: Tokenizer, settings: PromptSettings | None = None) -> None:
        self.template: str = tokenizer.chat_template
        self.settings = settings or PromptSettings()
        self._special_tokens = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
        self.specials = sorted(
            {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
            | set(tokenizer.all_special_tokens),
            key=len,
            reverse=True,
        )
        self.eos_token = str(tokenizer.eos_token or "")
        self.marked = _MARK.search(self.template) is not None
        self.training_template = None if self.marked else trl_templates.training_variant(self.template)
        self.end_of_turn, self.next_turn = self._find_ends()
        self._ends = [end for end in (self.end_of_turn, self.eos_token) if end]
        self._openings = {thinking: self._find_opening(thinking) for thinking in (False, True)}
        self.knows_reasoning = self._renders_reasoning()
        self.methods: dict[str, int] = {}
        self.notes: Counter[str] = Counter()

    @property
    def folded(self) -> int:
        """Rows whose system turns were folded into user turns."""
        return self.notes[FOLDED]

    @property
    def closing(self) -> str:
        """The token that ends an answer, as far as the template has one: its own, or the mark of the next
        turn (GLM)."""
        return self.end_of_turn or self.next_turn

    def reset_counts(self) -> None:
        """Empties ``methods`` and ``notes`` for the next data set."""
        self.methods, self.notes = {}, Counter()

    # --- rendering --------------------------------------------------------------------------------

    def render(
        self,
        messages: Sequence[ChatMessage],
        prompt: bool = False,
        thinking: bool | None = None,
        tools: Tools = (),
    ) -> str:
        """The text of a chat; with ``prompt`` up to the answer's header. Raises one of TEMPLATE_ERRORS."""
        return self._marked(self.template, messages, prompt, thinking, tools)[0]

    def _marked(
        self,
        template: str,
        messages: Sequence[ChatMessage],
        prompt: bool = False,
        thinking: bool | None = None,
        tools: Tools = (),
    ) -> tuple[str, list[Span]]:
        day = self.settings.day
        variables = template_variables(self.settings.thinking if thinking is None else thinking, day)
        return chat_template.render(
            template,
            [{key: value for key, value in message.items() if key != "weight"} for message in messages],
            prompt=prompt,
            tools=tools,
            variables={**self._special_tokens, **variables},
            day=day,
        )

    @functools.cached_property
    def asks_differently(self) -> bool:
        """Whether the template has another prompt when thinking is on."""
        question: list[ChatMessage] = [{"role": "user", "content": "Q"}]
        try:
            return self.render(question, True, True) != self.render(question, True, False)
        except TEMPLATE_ERRORS:
            return False

    def accepted(
        self, messages: Sequence[ChatMessage], prompt: bool, thinking: bool, tools: Tools
    ) -> tuple[ChatForm, str]:
        """The first form of the messages that the template takes without dropping any of it, and its text. A
        prompt is accepted only if the template would take an answer to it, too. Raises Unrenderable."""
        reason = ""
        for form in forms(messages, tools):
            try:
                text = self.render(form.messages, prompt, thinking, form.tools)
                if prompt and form.messages:
                    answered = [*form.messages, ChatMessage(role="assistant", content="qzx-answer-qzx")]
                    self.render(answered, False, thinking, form.tools)
            except TEMPLATE_ERRORS as error:
                reason = reason or f"the chat template refuses it: {first_line(error)}"
                continue
            if missing := chats.dropped_turn(form.messages, text):
                reason = reason or f"the chat template drops {missing}"
                continue
            if missing := dropped_tools(form.messages, form.tools, text):
                reason = reason or f"the chat template renders no {missing}"
                continue
            return form, text
        raise Unrenderable(reason)

    def prompt(self, messages: Sequence[ChatMessage], thinking: bool | None = None, tools: Tools = ()) -> str:
        """The text from which the next answer is generated. Raises Unrenderable."""
        on = self.settings.thinking if thinking is None else thinking
        return self.accepted(self._in_form(messages), True, on, tools)[1]

    # --- a row ------------------------------------------------------------------------------------

    def thinking_of(self, messages: Sequence[ChatMessage]) -> bool:
        """Whether a row is asked with thinking on: by the setting, or by its own answer."""
        mode = self.settings.mode
        return chats.thinks(messages) if mode == "auto" else mode == "on"

    def _in_form(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Reasoning where the template reads it."""
        form = chats.as_field if self.knows_reasoning else chats.as_text
        chat = chats.cleaned(messages, self._ends)
        return [form(message) if message["role"] == "assistant" else message for message in chat]

    def row(self, messages: Sequence[ChatMessage], tools: Tools = ()) -> RenderedChat:
        """A chat as one row, which begins with the prompt of its last answer. Raises Unrenderable."""
        thinking = self.thinking_of(messages)
        chat = self._in_form(messages)
        if self.settings.mode == "off" and any(chats.split_reasoning(m)[0] for m in messages):
            chat = [chats.without_reasoning(m) if m["role"] == "assistant" else m for m in chat]
            self.notes[HIDDEN] += 1
        if thinking and chats.thinks(messages):
            self.notes[THINKING] += 1
        form, text = self.accepted(chat, False, thinking, tools)
        chat, tools = form.messages, form.tools
        self.notes[FOLDED] += form.folded
        self.notes[TOOLS_AS_TEXT] += form.as_text
        self.notes[UNCLOSED] += any(chats.is_unclosed(m) for m in messages if chats.is_trained(m))
        last = chats.last_answer(chat)
        reasoning, answer = chats.split_reasoning(chat[last])
        asked = self._prompt_text(chat[:last], thinking, tools)
        if asked is None:  # nothing stands before the answer
            asked = text[: self._content_at(text, answer, 0)]
        composed = not text.startswith(asked) or bool(reasoning and reasoning not in text[len(asked) :])
        if composed:
            text = self._composed(asked, text, chat, last)
            self.notes[COMPOSED] += 1
        elif reasoning and not self.knows_reasoning:
            self.notes[INLINED] += 1
        row = _Row(chat, text, last, len(asked), thinking, tools, composed)
        found, method = self._spans(row)
        self.methods[method] = self.methods.get(method, 0) + 1
        spans = self._trained(row, found)
        open_end = not self.end_of_turn and chat[-1]["role"] == "assistant" and bool(spans)
        return RenderedChat(text, len(asked), spans, open_end)

    def _prompt_text(self, before: Sequence[ChatMessage], thinking: bool, tools: Tools) -> str | None:
        try:
            return self.render(before, True, thinking, tools)
        except TEMPLATE_ERRORS as error:
            if before:
                raise Unrenderable(f"the chat template refuses its prompt: {first_line(error)}") from None
            return None

    def _content_at(self, text: str, content: str, start: int) -> int:
        at = text.find(content.strip(), start)
        if at < 0:
            raise Unrenderable(
                "the chat template changes the answers, so the tokens to train cannot be found"
            )
        return at

    def _composed(self, asked: str, text: str, chat: Sequence[ChatMessage], last: int) -> str:
        """The row of a template that renders an answer otherwise than it asks for one: the prompt, then the
        reasoning, then the answer with what follows it.

        The prompt of an R1 distillate opens a thinking block, which its rendering of a finished chat leaves
        out; others number their chats.
        """
        reasoning, answer = chats.split_reasoning(chat[last])
        if not answer.strip():
            raise Unrenderable("the chat template renders its prompt otherwise than the beginning of the row")
        shared = next((n for n, (a, b) in enumerate(zip(asked, text, strict=False)) if a != b), len(asked))
        found = answer.strip()
        at = text.rfind(found) if last == len(chat) - 1 else text.find(found, shared)
        if at < 0:
            raise Unrenderable(
                "the chat template changes the answers, so the tokens to train cannot be found"
            )
        gap = "" if asked[-1:].isspace() else "\n"
        if asked.rstrip().endswith(chats.OPENED):
            bridge = gap + (f"{reasoning}\n" if reasoning else "") + f"{chats.CLOSED}\n\n"
        elif reasoning:
            bridge = f"{chats.OPENED}\n{reasoning}\n{chats.CLOSED}\n\n"
        else:
            bridge = ""
        return asked + bridge + text[at:]

    # --- spans ------------------------------------------------------------------------------------

    def _spans(self, row: _Row) -> tuple[list[Span | None], str]:
        """The span of each assistant turn, None for one that is not trained, and how they were found."""
        text, at = row.text, row.answers.index(row.last)
        for template, method in (
            (self.template if self.marked else "", MARKS),
            (self.training_template, TRL),
        ):
            found = self._marked_spans(template, row) if template else None
            if found is None or len(found) != len(row.answers) or not all(a < b for a, b in found):
                continue
            if max(found[at][0], row.prompt) < found[at][1]:
                found[at] = (max(found[at][0], row.prompt), found[at][1])
                return [self._finished(text, span, row.thinking) for span in found], method
        final = (row.prompt, self._close(text, row.prompt, self._end_of_last(row)))
        earlier = [self._prefix_span(row, index) for index in row.answers if index != row.last]
        method = PREFIXES
        if None in earlier and row.composed:
            earlier, method = _search_spans(row), SEARCH
        if None in earlier:
            return [final if index == row.last else None for index in row.answers], LAST
        spans: list[Span | None] = [self._finished(text, span, row.thinking) for span in earlier if span]
        spans.insert(at, final)
        return spans, method

    def _marked_spans(self, template: str, row: _Row) -> list[Span] | None:
        """The ``{% generation %}`` spans, if ``template`` renders exactly the row."""
        try:
            rendered, spans = self._marked(template, row.chat, False, row.thinking, row.tools)
        except TEMPLATE_ERRORS:
            return None
        return spans if rendered == row.text else None

    def _rendered_prefix(self, row: _Row, count: int, prompt: bool) -> str | None:
        """The rendering of the first ``count`` messages, if it is how the text begins."""
        # Earlier turns of thinking models are rendered without the empty thinking block of the last one.
        for setting in (row.thinking, not row.thinking) if prompt else (row.thinking,):
            try:
                rendered = self.render(row.chat[:count], prompt, setting, row.tools)
            except TEMPLATE_ERRORS:
                continue
            if row.text.startswith(rendered):
                return rendered
        return None

    def _prefix_span(self, row: _Row, index: int) -> Span | None:
        """The span of an earlier answer, where the prompt for it is how the text begins."""
        text, answer = row.text, chats.split_reasoning(row.chat[index])[1].strip()
        before = self._rendered_prefix(row, index, True)
        if before is None:
            at = text.find(answer) if index == 0 and answer else -1
            if at < 0:
                return None
            before = text[:at]
        start = len(before)
        after = self._rendered_prefix(row, index + 1, False)
        if after is not None and len(after) > start:
            return start, len(after)
        # Cut short, the chat may close otherwise (Phi-3 adds its end token): the answer shows where.
        at = start + len(text[start:]) - len(text[start:].lstrip())
        if not text.startswith(answer, at):
            return None
        if calls := row.chat[index].get("tool_calls"):  # they stand before the token that ends the turn
            end = text.find(self.end_of_turn, at + len(answer)) if self.end_of_turn else -1
            named = end >= 0 and all(call["function"]["name"] in text[at:end] for call in calls)
            return (start, end) if named else None
        return (start, at + len(answer)) if answer else None

    def _end_of_last(self, row: _Row) -> int:
        """Where the last trained answer ends, its end of turn perhaps not included."""
        if row.last == len(row.chat) - 1:
            return len(row.text)
        after = self._rendered_prefix(row, row.last + 1, False)
        if after is not None and len(after) > row.prompt:
            return len(after)
        answer = chats.split_reasoning(row.chat[row.last])[1]
        return self._content_at(row.text, answer, row.prompt) + len(answer.strip())

    def _trained(self, row: _Row, spans: Sequence[Span | None]) -> list[Span]:
        """The spans of the turns that give a loss. Earlier answers whose reasoning the template drops are not
        trained: they would teach to answer at once."""
        found: list[Span] = []
        dropped = False
        for index, span in zip(row.answers, spans, strict=True):
            if span is None or row.chat[index].get("weight") == 0:
                continue
            reasoning = chats.split_reasoning(row.chat[index])[0]
            if index != row.last and reasoning and reasoning not in row.text:
                dropped = True
                continue
            found.append(span)
        self.notes[DROPPED_EARLIER] += dropped
        return found

    def _finished(self, text: str, span: Span, thinking: bool) -> Span:
        """The span without the header that reaches into it, and with the token that ends the turn."""
        start, end = span
        return self._opened(text, start, end, thinking), self._close(text, start, end)

    def _opened(self, text: str, start: int, end: int, thinking: bool) -> int:
        """Past an opening that reaches into the span, such as the empty thinking block of a thinking model:
        generation is prompted with it, so the model does not write it."""
        opening = self._openings[thinking]
        at = text.rfind(opening, 0, start + len(opening)) if opening else -1
        return at + len(opening) if at >= 0 and start < at + len(opening) < end else start

    def _close(self, text: str, start: int, end: int) -> int:
        mark = self.end_of_turn
        if not mark:
            end = start + len(text[start:end].rstrip()) if text[start:end].strip() else end
            following = text[end:].lstrip()
            if self.next_turn and following.startswith(self.next_turn):
                return len(text) - len(following) + len(self.next_turn)
            return end
        at = text.rfind(mark, start, end)
        if at >= 0:
            rest = text[at + len(mark) : end]
            for special in self.specials:
                rest = rest.replace(special, "")
            if not rest.strip():
                return at + len(mark)
        after = re.compile(r"\s*" + re.escape(mark)).match(text, end)
        return after.end() if after else end

    # --- what the template does ---------------------------------------------------------------------

    def _find_ends(self) -> tuple[str, str]:
        """The special token that the template puts after an answer, and else the one that begins the turn
        after it; "" where there is none."""
        mark = "qzx-answer-qzx"
        chat: list[ChatMessage] = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": mark}]
        try:
            tail = self.render(chat).partition(mark)[2]
            places = [(tail.find(token), -len(token), token) for token in self.specials if token in tail]
            if places:
                return min(places)[2], ""
            following = self.render([*chat, {"role": "user", "content": "Q"}]).partition(mark)[2].lstrip()
        except TEMPLATE_ERRORS:
            return "", ""
        return "", next((token for token in self.specials if following.startswith(token)), "")

    def _find_opening(self, thinking: bool) -> str:
        """What stands between a question and its answer, as far as generation is prompted with it."""
        question: list[ChatMessage] = [{"role": "user", "content": "Q"}]
        answer: ChatMessage = {"role": "assistant", "content": "qzx-answer-qzx"}
        try:
            without = self.render(question, False, thinking)
            opened = self.render(question, True, thinking)
            answered = self.render([*question, answer], False, thinking)
        except TEMPLATE_ERRORS:
            return ""
        pairs = enumerate(zip(opened, answered, strict=False))
        same = next((n for n, (a, b) in pairs if a != b), len(opened))
        shared = opened[:same]
        return shared[len(without) :] if shared.startswith(without) else ""

    def _renders_reasoning(self) -> bool:
        """Whether the template writes ``reasoning_content`` into the last answer."""
        mark = "qzx-reasoning-qzx"
        probe: list[ChatMessage] = [
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": "A", "reasoning_content": mark},
        ]
        try:
            return mark in self.render(probe, False, True)
        except TEMPLATE_ERRORS:
            return False


def _search_spans(row: _Row) -> list[Span | None]:
    """The earlier answers where their words stand."""
    found: list[Span | None] = []
    at = 0
    for index in row.answers:
        if index == row.last:
            at = row.prompt
            continue
        content = chats.split_reasoning(row.chat[index])[1].strip()
        at = row.text.find(content, at)
        if at < 0 or not content:
            return [None]
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
