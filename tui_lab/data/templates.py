"""Chat templates and label masks: an ``Example`` becomes token ids and labels.

Only the answers are trained: the assistant's turns with their end-of-turn token. Four methods
find these characters in the rendered chat, in this order: the template's own ``{% generation %}`` marks,
trl's training variant of the same template, comparing the renderings of growing prefixes, and searching for
the answers. Offsets map characters to tokens. Labels are set by position, so padding with the end token
cannot mask it. Base models without a template get a plain one made of tokens that they have."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import first_line
from tui_lab.data import hub
from tui_lab.data.formats import Example
from tui_lab.data.masks import (
    TEMPLATE_ERRORS,
    TEMPLATE_SETTINGS,
    Renderer,
    Span,
    fold_system,
    mask_of,
)
from tui_lab.data.rows import ChatMessage, Tokenizer, Tool
from tui_lab.models import catalog, checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IGNORED = -100  # the label that torch's cross-entropy leaves out
OWN, DEFAULT = "the model's own template", "tui-lab's plain template (the model has none)"


@dataclass(frozen=True)
class Encoded:
    """Token ids and labels of equal length; labels are −100 wherever nothing is to be learnt."""

    input_ids: list[int]
    labels: list[int]
    truncated: bool = False

    @property
    def trained(self) -> int:
        """The number of tokens that give a loss: the first token of a row never does."""
        return sum(label != IGNORED for label in self.labels[1:])


# --- the template of a tokenizer --------------------------------------------------------------------


def load_tokenizer(path_or_id: str | Path, revision: str | None = None) -> Any:
    """The tokenizer of a folder or a hub id: from this machine, else from the hub. No remote code. Raises
    LabError where there is none, or none with offsets (a fast one)."""
    from transformers import AutoTokenizer

    name = str(path_or_id)
    local = Path(name).is_dir()
    failure: Exception | None = None
    for local_only in (True, False):
        if not local_only and (local or not hub.reachable()):
            break
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                name, revision=revision or None, trust_remote_code=False, local_files_only=local_only
            )
        except Exception as error:  # noqa: BLE001 - tokenizer files are read by many libraries
            failure = error
            continue
        if not getattr(tokenizer, "is_fast", False):
            raise LabError(
                f"The tokenizer of {name} has no fast version (tokenizer.json), so its tokens cannot be "
                "matched to the text. Choose a model that has one."
            )
        return tokenizer
    if not local and (isinstance(failure, OSError) and not hub.reachable()):
        raise LabError(
            f"The tokenizer of {name} is not on this machine, and the hub is not reachable from here. "
            "Choose the pocket model, a local folder or a model of the local cache."
        )
    folder = catalog.local_folder(name)
    if folder is not None and (problem := checkpoint.tokenizer_problem(folder)):
        raise LabError(f"model {name}: {problem}")
    where = "The folder" if local else "The model"
    assert failure is not None
    raise LabError(
        f"{where} {name} has no tokenizer that could be loaded "
        f"({type(failure).__name__}: {first_line(failure)})."
    )


def default_template(tokenizer: Tokenizer) -> str:
    """A plain chat template out of ordinary words and the tokenizer's own end token.

    Every header ends with a line break, so that answers start on a token of their own. The start token is
    included only where the tokenizer itself would add it. Raises LabError for a tokenizer without end token.
    """
    if not tokenizer.eos_token:
        raise LabError(
            "The model's tokenizer has neither a chat template nor an end token, so turns cannot be ended."
        )
    ids = tokenizer("a")["input_ids"]
    starts = tokenizer.bos_token_id is not None and len(ids) > 1 and ids[0] == tokenizer.bos_token_id
    return (
        ("{{- bos_token }}" if starts else "") + "{%- for message in messages %}"
        "{%- if message['role'] == 'system' %}"
        "{{- message['content'] | trim + '\\n\\n' }}"
        "{%- elif message['role'] == 'user' %}"
        "{{- '### User:\\n' + message['content'] | trim + '\\n\\n' }}"
        "{%- elif message['role'] == 'assistant' %}"
        "{{- '### Assistant:\\n' }}"
        "{%- generation %}{{- message['content'] | trim + eos_token }}{%- endgeneration %}"
        "{{- '\\n\\n' if not loop.last }}"
        "{%- endif %}"
        "{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '### Assistant:\\n' }}{%- endif %}"
    )


def set_template(tokenizer: Tokenizer, chat_template: str = "") -> str:
    """Gives ``tokenizer`` the template to use and says where it came from.

    ``chat_template`` is the path of a Jinja file, or empty for the model's own one. It is stored on the
    tokenizer, so that saving the tokenizer saves the template with the adapter. Raises LabError for a
    template that cannot be read, is no valid Jinja, or does not render both turns of a chat.
    """
    if chat_template:
        path = expanded(chat_template)
        try:
            tokenizer.chat_template = input_files.read_text(path, input_files.TOML_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise LabError(f"The chat template {path} could not be read: {first_line(error)}.") from None
        _probe(tokenizer, f"The chat template {path}")
        return f"the file {path.name}"
    if isinstance(tokenizer.chat_template, dict):  # named variants: tool use, retrieval …
        variants = tokenizer.chat_template
        if "default" not in variants:
            raise LabError(
                f"The model has only the chat templates {', '.join(variants)} and no default one; "
                "give the path of a template file as chat_template."
            )
        tokenizer.chat_template = variants["default"]
    if tokenizer.chat_template:
        _probe(tokenizer, "The model's own chat template")
        plain = bool(tokenizer.eos_token) and tokenizer.chat_template == default_template(tokenizer)
        return DEFAULT if plain else OWN
    tokenizer.chat_template = default_template(tokenizer)
    return DEFAULT


def _probe(tokenizer: Tokenizer, what: str) -> None:
    import jinja2

    question, answer = "qzx-question-qzx", "qzx-answer-qzx"
    probe: list[ChatMessage] = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    try:
        text = tokenizer.apply_chat_template(probe, tokenize=False, **TEMPLATE_SETTINGS)
    except jinja2.TemplateSyntaxError as error:
        raise LabError(f"{what} is not valid Jinja (line {error.lineno}): {first_line(error)}.") from None
    except TEMPLATE_ERRORS as error:
        raise LabError(f"{what} cannot render a question with its answer: {first_line(error)}.") from None
    if question not in text or answer not in text:
        raise LabError(f"{what} drops the turns it is given, so nothing could be learnt through it.")


# --- tokens -----------------------------------------------------------------------------------------


_renderers: weakref.WeakKeyDictionary[Any, Renderer] = weakref.WeakKeyDictionary()


def renderer_of(tokenizer: Tokenizer) -> Renderer:
    """The renderer of this tokenizer and its present template (made once)."""
    if not tokenizer.chat_template or isinstance(tokenizer.chat_template, dict):
        set_template(tokenizer)
    found = _renderers.get(tokenizer)
    if found is None or found.template != tokenizer.chat_template:
        # A weak key alone would not let go: the renderer refers to its tokenizer.
        found = _renderers[tokenizer] = Renderer(weakref.proxy(tokenizer))
    return found


def _tokens(tokenizer: Tokenizer, text: str, spans: Sequence[Span], close: bool) -> Encoded:
    """``text`` as tokens with labels on ``spans``; with ``close`` the end token is added and trained."""
    batch = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = list(batch["input_ids"])
    mask = mask_of(text, batch["offset_mapping"], spans)
    if close and tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
        mask.append(True)
    return Encoded(ids, [token if trained else IGNORED for token, trained in zip(ids, mask, strict=True)])


def _start_ids(tokenizer: Tokenizer) -> list[int]:
    """The start token, where the tokenizer adds one by itself."""
    ids = tokenizer("a")["input_ids"]
    return [ids[0]] if len(ids) > 1 and ids[0] == tokenizer.bos_token_id else []


def encode(tokenizer: Tokenizer, example: Example) -> Encoded:
    """All tokens of an example, however many, with labels: −100 for what is not trained. Raises Unrenderable
    for a chat that the template refuses."""
    if example.messages is not None:
        renderer = renderer_of(tokenizer)
        messages, text, folded = renderer.prepare(example.messages, example.tools)
        spans, method = renderer.spans(messages, text, example.tools)
        renderer.methods[method] = renderer.methods.get(method, 0) + 1
        renderer.folded += folded
        # A template that ends no turn would teach the model never to stop: the last one gets the end token.
        open_end = not renderer.end_of_turn and messages[-1]["role"] == "assistant" and bool(spans)
        return _tokens(tokenizer, text.rstrip() if open_end else text, spans, close=open_end)
    start = _start_ids(tokenizer)
    if example.completion is not None:
        prompt = example.prompt or ""
        body = _tokens(
            tokenizer, prompt + example.completion, [(len(prompt), len(prompt + example.completion))], True
        )
    else:
        text = example.text or ""
        body = _tokens(tokenizer, text, [(0, len(text))], close=True)
    return Encoded(start + body.input_ids, [IGNORED] * len(start) + body.labels)


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
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, object]] | str, tools: Sequence[Tool] = ()
) -> list[int]:
    """The token ids to generate from: a chat up to the assistant's header, header included, or a raw prompt;
    ``tools`` are those that the chat may call. Raises LabError for a chat that the template refuses."""
    if isinstance(messages, str):
        return _start_ids(tokenizer) + list(
            tokenizer(messages, add_special_tokens=False, verbose=False)["input_ids"]
        )
    renderer = renderer_of(tokenizer)
    turns = cast("list[ChatMessage]", list(messages))
    if not renderer.has_system and any(message["role"] == "system" for message in turns):
        turns = fold_system(turns)
    try:
        text = renderer.render(turns, prompt=True, tools=tools)
    except TEMPLATE_ERRORS:
        try:
            text = renderer.render(fold_system(turns), prompt=True, tools=tools)
        except TEMPLATE_ERRORS as error:
            raise LabError(f"The chat template refuses the prompt: {first_line(error)}.") from None
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def stop_ids(tokenizer: Tokenizer, model: PreTrainedModel | None = None, *, chat: bool = True) -> list[int]:
    """The tokens that end an answer, without repetition.

    For a chat: the template's end of turn, the tokenizer's end token, then those of ``model`` (its generation
    settings, else its configuration). Without ``chat``: those of ``model``, else the tokenizer's end token.
    """
    end, of_model = tokenizer.eos_token_id, _configured_stops(model)
    if not chat:
        found = of_model or [end]
    else:
        mark = renderer_of(tokenizer).end_of_turn if tokenizer.chat_template else ""
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
