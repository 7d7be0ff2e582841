"""The token ids of rows with their labels, of prompts, and the tokens that end an answer.

Only the answers are trained: the assistant's turns with their end-of-turn token. Offsets map the trained
characters (see :mod:`tui_lab.data.masks`) to tokens. Labels are set by position, so padding with the end
token cannot mask it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tui_lab.core.errors import LabError
from tui_lab.data import examples
from tui_lab.data.cells import clean
from tui_lab.data.chat_forms import Tools
from tui_lab.data.formats import Example
from tui_lab.data.masks import Renderer, Span, Unrenderable, mask_of
from tui_lab.data.rows import ChatMessage, Tokenizer
from tui_lab.data.templates import renderer_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IGNORED = -100  # the label that torch's cross-entropy leaves out


@dataclass(frozen=True)
class Encoded:
    """Token ids and labels of equal length; labels are −100 wherever nothing is to be learnt. The first
    ``prompt`` tokens are those that generation is prompted with; ``apart``: split apart from the answer,
    because the tokenizer joins letters of both."""

    input_ids: list[int]
    labels: list[int]
    truncated: bool = False
    prompt: int = 0
    apart: bool = False

    @property
    def trained(self) -> int:
        """The number of tokens that give a loss: the first token of a row never does."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class RenderedRow:
    """A row as text, before it becomes tokens. The tokens of the first ``prompt`` characters are those of the
    prompt; ``spans`` are trained. ``end`` is a token that is added and trained, None for none."""

    text: str
    prompt: int
    spans: list[Span]
    start: list[int]
    end: int | None


def render_row(tokenizer: Tokenizer, example: Example) -> RenderedRow:
    """An example as text with what is trained. Raises Unrenderable for a chat that the template refuses."""
    renderer = renderer_of(tokenizer)
    if example.messages is not None:
        chat = renderer.row(example.messages, example.tools)
        # A template that ends no turn would teach the model never to stop: the last one gets an end token.
        end = _end_id(tokenizer, renderer.next_turn) if chat.open_end else None
        text = _bounded(chat.text.rstrip() if chat.open_end else chat.text)
        return RenderedRow(text, min(chat.prompt, len(text)), chat.spans, [], end)
    prompt = clean(example.prompt or "") if example.completion is not None else ""
    text = _bounded(
        prompt + clean(example.completion if example.completion is not None else example.text or "")
    )
    end = None if _ends(renderer, text) else _end_id(tokenizer)
    return RenderedRow(text, len(prompt), [(len(prompt), len(text))], _start_ids(tokenizer, text), end)


def _bounded(text: str) -> str:
    if len(text) > examples.MAX_ROW_CHARS:
        raise Unrenderable(f"it has more than {examples.MAX_ROW_CHARS:,} characters")
    return text


def _end_id(tokenizer: Tokenizer, mark: str = "") -> int | None:
    found = tokenizer.convert_tokens_to_ids(mark) if mark else tokenizer.eos_token_id
    return found if isinstance(found, int) else None


#: Tokens that end an answer or a document in the models of today.
_ENDS = (
    "</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>",
    "<end_of_turn>", "<|end|>", "<|return|>", "<|eos|>", "<turn|>", "<｜end"
    "▁of▁sentence｜>",
)  # fmt: skip


def _ends(renderer: Renderer, text: str) -> bool:
    """Whether a preformatted text spells out the token that ends it."""
    known = {renderer.eos_token, renderer.end_of_turn, *_ENDS} & set(renderer.specials)
    return text.rstrip().endswith(tuple(known)) if known else False


def _start_ids(tokenizer: Tokenizer, text: str = "") -> list[int]:
    """The start token, where the tokenizer adds one by itself and the text does not spell it out."""
    ids = tokenizer("a")["input_ids"]
    adds = len(ids) > 1 and ids[0] == tokenizer.bos_token_id
    return [ids[0]] if adds and not text.lstrip().startswith(str(tokenizer.bos_token)) else []


def _text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _split(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[Span]]:
    """The tokens of a text with their offsets."""
    batch = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(batch["input_ids"]), list(batch["offset_mapping"])


def _continued(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[Span]]:
    """The tokens and offsets of a text that goes on after others: SentencePiece would put a blank in front,
    so a line break stands there while it is split."""
    newline = _text_ids(tokenizer, "\n")
    ids, offsets = _split(tokenizer, "\n" + text)
    count = len(newline)
    if ids[:count] == newline and all(start > 0 for start, _ in offsets[count:]):
        return ids[count:], [(start - 1, end - 1) for start, end in offsets[count:]]
    return _split(tokenizer, text)


def encode_row(tokenizer: Tokenizer, row: RenderedRow) -> Encoded:
    """The tokens of a rendered row with labels. They begin with the tokens of its prompt: where the border
    would fall inside a token, prompt and answer are split apart."""
    ids, offsets = _split(tokenizer, row.text)
    prompt = _text_ids(tokenizer, row.text[: row.prompt]) if row.prompt else []
    apart = ids[: len(prompt)] != prompt
    if apart:
        rest, places = _continued(tokenizer, row.text[row.prompt :])
        head = _split(tokenizer, row.text[: row.prompt])
        ids = prompt + rest
        offsets = head[1] + [(a + row.prompt, b + row.prompt) for a, b in places]
    mask = mask_of(row.text, offsets, row.spans)
    if row.end is not None:
        ids.append(row.end)
        mask.append(True)
    labels = [token if trained else IGNORED for token, trained in zip(ids, mask, strict=True)]
    return Encoded(
        row.start + ids, [IGNORED] * len(row.start) + labels, prompt=len(row.start) + len(prompt), apart=apart
    )


def encode(tokenizer: Tokenizer, example: Example) -> Encoded:
    """All tokens of an example, however many, with labels: −100 for what is not trained. Raises Unrenderable
    for a chat that the template refuses."""
    return encode_row(tokenizer, render_row(tokenizer, example))


def cut(encoded: Encoded, max_length: int) -> Encoded:
    """The first ``max_length`` tokens: none of them may be trained, where a prompt is long."""
    if len(encoded.input_ids) <= max_length:
        return encoded
    return Encoded(encoded.input_ids[:max_length], encoded.labels[:max_length], truncated=True)


def windows(encoded: Encoded, max_length: int) -> list[Encoded]:
    """A long raw text as pieces of at most ``max_length`` tokens, none shorter than two.

    Each begins with the last token of the piece before it: the first token of a row gives no loss, so without
    that overlap the tokens at the seams would never be trained.
    """
    ids, labels = encoded.input_ids, encoded.labels
    if len(ids) <= max_length:
        return [encoded]
    step = max(1, max_length - 1)
    return [
        Encoded(
            ids[at : at + max_length],
            [IGNORED, *labels[at + 1 : at + max_length]] if at else labels[:max_length],
        )
        for at in range(0, len(ids) - 1, step)
    ]


def prompt_ids(
    tokenizer: Tokenizer,
    prompt: Example | Sequence[Mapping[str, object]] | str,
    thinking: bool | None = None,
) -> list[int]:
    """The token ids to generate from: a chat up to the assistant's header, header included, or a raw prompt.

    An example is asked as it is trained; other chats with the tokenizer's thinking setting, unless
    ``thinking`` is given. Raises LabError for a chat that the template refuses.
    """
    if isinstance(prompt, Example):
        if prompt.messages is None:
            return prompt_ids(tokenizer, prompt.generation_prompt)
        thinking = renderer_of(tokenizer).thinking_of(prompt.messages)
        return _chat_ids(tokenizer, prompt.generation_messages, thinking, prompt.tools)
    if isinstance(prompt, str):
        text = clean(prompt)
        return _start_ids(tokenizer, text) + _text_ids(tokenizer, text)
    return _chat_ids(tokenizer, cast("list[ChatMessage]", list(prompt)), thinking)


def prompt_text(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, object]], thinking: bool | None = None
) -> str:
    """The text of :func:`prompt_ids` of a chat. Raises LabError for a chat that the template refuses."""
    return _chat_text(tokenizer, cast("list[ChatMessage]", list(messages)), thinking)


def _chat_text(
    tokenizer: Tokenizer, messages: list[ChatMessage], thinking: bool | None, tools: Tools = ()
) -> str:
    try:
        return renderer_of(tokenizer).prompt(messages, thinking, tools)
    except Unrenderable as error:
        raise LabError(f"The prompt cannot be asked: {error}.") from None


def _chat_ids(
    tokenizer: Tokenizer, messages: list[ChatMessage], thinking: bool | None, tools: Tools = ()
) -> list[int]:
    return _text_ids(tokenizer, _chat_text(tokenizer, messages, thinking, tools))


def stop_ids(tokenizer: Tokenizer, model: PreTrainedModel | None = None, *, chat: bool = True) -> list[int]:
    """The tokens that end an answer, without repetition.

    For a chat: the template's end of turn, the tokenizer's end token, then those of ``model`` (its generation
    settings, else its configuration). Without ``chat``: those of ``model``, else the tokenizer's end token.
    """
    end, of_model = tokenizer.eos_token_id, _configured_stops(model)
    if not chat:
        found = of_model or [end]
    else:
        mark = renderer_of(tokenizer).closing if tokenizer.chat_template else ""
        found = [*([tokenizer.convert_tokens_to_ids(mark)] if mark else []), end, *of_model]
    return list(dict.fromkeys(token for token in found if isinstance(token, int)))


def _configured_stops(model: PreTrainedModel | None) -> list[int]:
    for config in (model.generation_config, model.config) if model is not None else ():
        stops = getattr(config, "eos_token_id", None)
        if stops is not None:
            several = stops if isinstance(stops, list | tuple | set) else [stops]
            return sorted(token for token in several if isinstance(token, int))
    return []


def pieces(tokenizer: Tokenizer, encoded: Encoded) -> list[tuple[str, bool]]:
    """The text of an encoded row in pieces, each with whether it is trained. Joined they are the decoded row.

    Normally a piece is a token; tokens that are parts of one character are joined. The text is raw: it must
    go through ``sanitize`` before a terminal sees it.
    """
    ids, labels = encoded.input_ids, encoded.labels
    result: list[tuple[str, bool]] = []
    context, done = 0, 0  # decoding starts at `context`: what stands before decides about leading blanks
    for at in range(1, len(ids) + 1):
        before = _decode(tokenizer, ids[context:done])
        now = _decode(tokenizer, ids[context:at])
        # An unfinished character shows as U+FFFD. So does a real one: it is joined with what follows.
        if (now.endswith("\ufffd") or len(now) <= len(before)) and at < len(ids):
            continue
        result.append((now[len(before) :], any(label != IGNORED for label in labels[done:at])))
        context, done = done, at
    return result


def _decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    return (
        str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if ids
        else ""
    )
