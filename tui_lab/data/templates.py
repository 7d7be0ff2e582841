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

import msgspec

from tui_lab.core import files, input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import first_line
from tui_lab.data import chat_template, examples, hub, masks, prompt_settings, tokenizer_files
from tui_lab.data.cells import clean
from tui_lab.data.chat_forms import Tools
from tui_lab.data.chat_template import TEMPLATE_ERRORS
from tui_lab.data.formats import Example
from tui_lab.data.masks import Renderer, Span, Unrenderable, mask_of, template_variables
from tui_lab.data.prompt_settings import PromptSettings
from tui_lab.data.rows import ChatMessage, Tokenizer
from tui_lab.models import catalog, checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TEMPLATE_FILE = "chat_template.jinja"
IGNORED = -100  # the label that torch's cross-entropy leaves out
OWN, DEFAULT = "the model's own template", "tui-lab's plain template (the model has none)"


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


# --- the template of a tokenizer --------------------------------------------------------------------


def load_tokenizer(path_or_id: str | Path, revision: str | None = None) -> Any:
    """The tokenizer of a folder or a hub id: from this machine, else from the hub. No remote code. Raises
    LabError where there is none, or none with offsets (a fast one)."""
    from transformers import AutoTokenizer

    name = str(path_or_id)
    local = Path(name).is_dir()
    failure: Exception | None = None
    files = Path(name) if local else catalog.local_folder(name)
    if files is not None and (problem := checkpoint.irregular_file(files)):
        raise LabError(f"model {name}: {problem}")
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
        if not tokenizer.chat_template:
            folder = Path(name) if local else catalog.local_folder(name)
            tokenizer.chat_template = tokenizer_files.legacy_template(folder) or None
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


def set_template(tokenizer: Tokenizer, template_file: str = "") -> str:
    """Gives ``tokenizer`` the template to use and says where it came from.

    ``template_file`` is the path of a Jinja file, or empty for the model's own one. It is stored on the
    tokenizer, so that saving the tokenizer saves the template with the adapter. Raises LabError for a
    template that cannot be read, is no valid Jinja, or does not render both turns of a chat.
    """
    if template_file:
        path = expanded(template_file)
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
        text, _ = chat_template.render(
            tokenizer.chat_template,
            probe,
            variables={**tokenizer.special_tokens_map, **template_variables(False, None)},
        )
    except jinja2.TemplateSyntaxError as error:
        raise LabError(f"{what} is not valid Jinja (line {error.lineno}): {first_line(error)}.") from None
    except TEMPLATE_ERRORS as error:
        raise LabError(f"{what} cannot render a question with its answer: {first_line(error)}.") from None
    if question not in text or answer not in text:
        raise LabError(f"{what} drops the turns it is given, so nothing could be learnt through it.")


# --- settings ---------------------------------------------------------------------------------------


_settings: weakref.WeakKeyDictionary[Any, PromptSettings] = weakref.WeakKeyDictionary()
_replaced: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_renderers: weakref.WeakKeyDictionary[Any, Renderer] = weakref.WeakKeyDictionary()


def settings_of(tokenizer: Tokenizer) -> PromptSettings:
    """How this tokenizer asks."""
    return _settings.get(tokenizer, PromptSettings())


def use_settings(tokenizer: Tokenizer, settings: PromptSettings) -> None:
    """Sets how this tokenizer asks from now on."""
    _settings[tokenizer] = settings


def settle_thinking(tokenizer: Tokenizer) -> None:
    """Decides what a prompt without a row asks for: thinking where most rows that were encoded since the
    counts were reset came with reasoning."""
    settings, renderer = settings_of(tokenizer), renderer_of(tokenizer)
    on = settings.mode == "on"
    if settings.mode == "auto":
        on = 2 * renderer.notes[masks.THINKING] > sum(renderer.methods.values())
    use_settings(tokenizer, msgspec.structs.replace(settings, thinking=on))


def has_saved(folder: Path) -> bool:
    """Whether a chat template or prompt settings were saved in a folder."""
    return (folder / TEMPLATE_FILE).is_file() or (folder / prompt_settings.FILE).is_file()


def use_saved(tokenizer: Tokenizer, folder: Path | None) -> bool:
    """Gives a base's tokenizer the chat template and the settings that were saved in a folder with an adapter
    or a model; whether there were any. Raises LabError for a damaged file."""
    if folder is None or not folder.is_dir():
        return False
    saved, settings = folder / TEMPLATE_FILE, prompt_settings.read(folder)
    if saved.is_file():
        of_base = tokenizer.chat_template
        of_base = of_base.get("default") if isinstance(of_base, dict) else of_base
        set_template(tokenizer, str(saved))
        if tokenizer.chat_template != of_base:
            _replaced[tokenizer] = prompt_settings.digest(tokenizer.chat_template)
    if settings is not None:
        use_settings(tokenizer, settings)
    return saved.is_file() or settings is not None


def load_for(location: str, revision: str = "", saved: Path | None = None) -> Tokenizer:
    """The tokenizer of a base, asking as what was saved in a folder (an adapter, a tuned model) was trained.
    Raises LabError."""
    tokenizer = load_tokenizer(location, revision or None)
    use_saved(tokenizer, saved or Path(location))
    return tokenizer


def save_settings(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the settings beside the template that the tokenizer saves. Raises OSError."""
    digest = prompt_settings.digest(tokenizer.chat_template or "")
    settings = msgspec.structs.replace(settings_of(tokenizer), template_sha256=digest)
    prompt_settings.write(folder, settings)


def keep_with_run(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes template and settings into a run's folder, for its next attempt. Raises OSError."""
    save_settings(tokenizer, folder)
    files.write_atomically(folder / TEMPLATE_FILE, tokenizer.chat_template)


def identity(tokenizer: Tokenizer) -> str:
    """What of a tokenizer's prompts differs from those of the bare model, for the keys of cached scores: ""
    where nothing does."""
    settings = settings_of(tokenizer)
    parts = [_replaced[tokenizer]] if tokenizer in _replaced else []
    parts += ["thinking"] if settings.thinking else []
    if settings.date and prompt_settings.writes_date(tokenizer.chat_template or ""):
        parts.append(settings.date)
    return " ".join(parts)


def renderer_of(tokenizer: Tokenizer) -> Renderer:
    """The renderer of this tokenizer, its present template and settings (made once)."""
    if not tokenizer.chat_template or isinstance(tokenizer.chat_template, dict):
        set_template(tokenizer)
    found, settings = _renderers.get(tokenizer), settings_of(tokenizer)
    if found is None or found.template != tokenizer.chat_template:
        found = _renderers[tokenizer] = Renderer(tokenizer, settings)
    found.settings = settings
    return found


# --- tokens -----------------------------------------------------------------------------------------


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
