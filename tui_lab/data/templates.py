"""Chat templates and label masks: turns an ``Example`` into token ids and labels in which only what the
model is to say is trained: the assistant's turns with the token that ends them. Which characters of
the rendered chat those are is found by the template's own ``{% generation %}`` marks, else by trl's
training variant of the same template, else by comparing the renderings of growing prefixes, else by
looking for the answers in the text; offsets carry the characters over to tokens. Labels are set by
position, so padding with the end token cannot mask it. Base models without a template get a plain one
made of tokens they have."""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_lab.data.formats import Example
from tui_lab.errors import LabError

IGNORED = -100  # the label that torch's cross-entropy leaves out
Message = dict[str, Any]
Span = tuple[int, int]

OWN, DEFAULT = "the model's own template", "tui-lab's plain template (the model has none)"
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


class Unrenderable(Exception):
    """Why the template refuses one row."""


# --- the template of a tokenizer --------------------------------------------------------------------


def load_tokenizer(path_or_id: str | Path, revision: str | None = None) -> Any:
    """The tokenizer of a folder or a hub id: from this machine if it is here, else from the hub. No remote code."""
    from transformers import AutoTokenizer

    name = str(path_or_id)
    local = Path(name).is_dir()
    failure: Exception | None = None
    for local_only in (True,) if local else (True, False):
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                name, revision=revision or None, trust_remote_code=False, local_files_only=local_only
            )
        except Exception as error:
            failure = error
            continue
        if not getattr(tokenizer, "is_fast", False):
            raise LabError(
                f"The tokenizer of {name} has no fast version (tokenizer.json), so its tokens cannot be matched "
                "to the text. Choose a model that has one."
            )
        return tokenizer
    where = "The folder" if local else "The model"
    cause = str(failure).strip().split("\n")[0].rstrip(".")[:200]
    raise LabError(
        f"{where} {name} has no tokenizer that could be loaded ({type(failure).__name__}: {cause})."
    )


def default_template(tokenizer: Any) -> str:
    """A plain chat template out of ordinary words and the tokenizer's own end token.

    Every header ends with a line break, so that answers start on a token of their own. The start token is
    included only where the tokenizer itself would add it.
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


def set_template(tokenizer: Any, chat_template: str = "") -> str:
    """Gives ``tokenizer`` the template to use and says where it came from.

    ``chat_template`` is the path of a Jinja file, or empty for the model's own one. It is stored on the
    tokenizer, so that saving the tokenizer saves the template with the adapter.
    """
    if chat_template:
        path = Path(chat_template).expanduser()
        try:
            tokenizer.chat_template = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LabError(f"The chat template {path} could not be read: {_brief(error)}.") from None
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


def _brief(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")[:200] or type(error).__name__


def _probe(tokenizer: Any, what: str) -> None:
    import jinja2

    probe: list[Message] = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    try:
        text = tokenizer.apply_chat_template(probe, tokenize=False, **TEMPLATE_SETTINGS)
    except jinja2.TemplateSyntaxError as error:
        raise LabError(f"{what} is not valid Jinja (line {error.lineno}): {_brief(error)}.") from None
    except Exception as error:
        raise LabError(f"{what} cannot render a question with its answer: {_brief(error)}.") from None
    if "Q" not in text or "A" not in text:
        raise LabError(f"{what} drops the turns it is given, so nothing could be learnt through it.")


# --- rendering --------------------------------------------------------------------------------------


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """System turns put in front of the next user turn, and turns of the same role joined: for templates that
    know neither system turns nor two turns of one role in a row."""
    folded: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(message["content"])
            continue
        new = dict(message)
        if waiting and new["role"] == "user":
            new["content"] = "\n\n".join([*waiting, new["content"]])
            waiting = []
        elif waiting:  # the assistant speaks first: the system's words become a user turn
            folded.append({"role": "user", "content": "\n\n".join(waiting)})
            waiting = []
        if folded and folded[-1]["role"] == new["role"] and folded[-1].get("weight") == new.get("weight"):
            folded[-1] = {**folded[-1], "content": folded[-1]["content"] + "\n\n" + new["content"]}
        else:
            folded.append(new)
    return folded


class Renderer:
    """Renders chats through one tokenizer's template and finds the characters to be trained.

    ``methods`` and ``folded`` tell afterwards how the masks were found and how many rows had their system
    turns folded: they go into the facts of a run.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.template: str = tokenizer.chat_template
        self.marked = _MARK.search(self.template) is not None
        self.training_template = None if self.marked else _trl_template(tokenizer)
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

    def forget_counts(self) -> None:
        """Starts ``methods`` and ``folded`` anew, for the facts of the next data set."""
        self.methods, self.folded = {}, 0

    def render(self, messages: Sequence[Message], prompt: bool = False) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=prompt, **TEMPLATE_SETTINGS
            )
        )

    def _renders_system(self) -> bool:
        """Does the template show a system turn? Some raise, some drop it without a word."""
        mark = "qzx-system-qzx"
        probe: list[Message] = [
            {"role": "system", "content": mark},
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": "A"},
        ]
        try:
            return mark in self.render(probe)
        except Exception:
            return False

    def _find_end_of_turn(self) -> str:
        """The special token that the template puts after an answer ("" if it puts none there)."""
        mark = "qzx-answer-qzx"
        try:
            text = self.render([{"role": "user", "content": "Q"}, {"role": "assistant", "content": mark}])
        except Exception:
            return ""
        tail = text.partition(mark)[2]
        places = [(tail.find(token), -len(token), token) for token in self.specials if token in tail]
        return min(places)[2] if places else ""

    def _find_opening(self) -> str:
        """What the template opens an answer with when asked for one ("" if it can not be told)."""
        try:
            question: list[Message] = [{"role": "user", "content": "Q"}]
            without, opened = self.render(question), self.render(question, prompt=True)
        except Exception:
            return ""
        return opened[len(without) :] if opened.startswith(without) else ""

    def prepare(self, messages: Sequence[Message]) -> tuple[list[Message], str, bool]:
        """The messages as the template can take them, their text, and whether they had to be folded."""
        kept = list(messages)
        if self.has_system or not any(message["role"] == "system" for message in kept):
            try:
                return kept, self.render(kept), False
            except Exception as error:
                first = _brief(error)
        else:
            first = "it has no system turns"
        folded = fold_system(kept)
        try:
            return folded, self.render(folded), True
        except Exception as error:
            raise Unrenderable(f"the chat template refuses it: {_brief(error) or first}") from None

    def spans(self, messages: list[Message], text: str) -> tuple[list[Span], str]:
        """The characters of ``text`` to train, and how they were found."""
        answers = [message for message in messages if message["role"] == "assistant"]
        for template, method in (
            (self.template if self.marked else None, MARKS),
            (self.training_template, TRL),
        ):
            found = _marked_spans(self.tokenizer, template, messages, text) if template else None
            if found is not None and len(found) == len(answers) and all(a < b for a, b in found):
                return self._finish(text, found, answers), method
        found = self._prefix_spans(messages, text)
        if found is not None:
            return self._finish(text, found, answers), PREFIXES
        last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
        before = self._rendered_prefix(messages[:last], text, prompt=True)
        whole = text if last == len(messages) - 1 else self._rendered_prefix(messages[: last + 1], text)
        if before is not None and whole is not None and len(whole) > len(before):
            return self._finish(text, [(len(before), len(whole))], answers[-1:]), LAST
        found = _search_spans(text, answers)
        if found is not None:
            return self._finish(text, found, answers), SEARCH
        raise Unrenderable("the chat template changes the answers, so the tokens to train cannot be told")

    def _rendered_prefix(self, messages: Sequence[Message], text: str, prompt: bool = False) -> str | None:
        """The rendering of the first messages, if it is how ``text`` begins."""
        if not messages:
            return None
        try:
            rendered = self.render(messages, prompt)
        except Exception:
            return None
        return rendered if text.startswith(rendered) else None

    def _prefix_spans(self, messages: list[Message], text: str) -> list[Span] | None:
        found: list[Span] = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._rendered_prefix(messages[:index], text, prompt=True)
            after = text if index == len(messages) - 1 else self._rendered_prefix(messages[: index + 1], text)
            if before is None or after is None or len(after) <= len(before):
                return None
            found.append((len(before), len(after)))
        return found

    def _finish(self, text: str, found: list[Span], answers: list[Message]) -> list[Span]:
        """Each span stretched or cut to end with its end-of-turn token; turns of weight 0 left out."""
        closed = [(self._open(text, start, end), self._close(text, start, end)) for start, end in found]
        return [span for span, answer in zip(closed, answers, strict=True) if answer.get("weight") != 0]

    def _open(self, text: str, start: int, end: int) -> int:
        """Past an opening that reaches into the span, such as the empty thinking block of a thinking model:
        generation is prompted with it, so it is not for the model to say."""
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


_renderers: weakref.WeakKeyDictionary[Any, Renderer] = weakref.WeakKeyDictionary()


def renderer_of(tokenizer: Any) -> Renderer:
    """The renderer of this tokenizer and its present template (made once)."""
    if not tokenizer.chat_template or isinstance(tokenizer.chat_template, dict):
        set_template(tokenizer)
    found = _renderers.get(tokenizer)
    if found is None or found.template != tokenizer.chat_template:
        # A weak key alone would not let go: the renderer refers to its tokenizer.
        found = _renderers[tokenizer] = Renderer(weakref.proxy(tokenizer))
    return found


def _trl_template(tokenizer: Any) -> str | None:
    try:
        from trl.chat_template_utils import get_training_chat_template

        return get_training_chat_template(tokenizer)
    except Exception:  # trl raises for every template that it does not know
        return None


def _marked_spans(tokenizer: Any, template: str, messages: list[Message], text: str) -> list[Span] | None:
    """The ``{% generation %}`` spans, if ``template`` renders exactly ``text``."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered, spans = render_jinja_template(
            [messages],
            chat_template=template,
            return_assistant_tokens_mask=True,
            **{**tokenizer.special_tokens_map, **TEMPLATE_SETTINGS},
        )
    except Exception:
        return None
    return [(int(start), int(end)) for start, end in spans[0]] if rendered[0] == text else None


def _search_spans(text: str, answers: list[Message]) -> list[Span] | None:
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


# --- tokens -----------------------------------------------------------------------------------------


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


def _tokens(tokenizer: Any, text: str, spans: Sequence[Span], close: bool) -> Encoded:
    """``text`` as tokens with labels on ``spans``; with ``close`` the end token is added and trained."""
    batch = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = list(batch["input_ids"])
    mask = mask_of(text, batch["offset_mapping"], spans)
    if close and tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
        mask.append(True)
    return Encoded(ids, [token if trained else IGNORED for token, trained in zip(ids, mask, strict=True)])


def _start_ids(tokenizer: Any) -> list[int]:
    """The start token, where the tokenizer adds one by itself."""
    ids = tokenizer("a")["input_ids"]
    return [ids[0]] if len(ids) > 1 and ids[0] == tokenizer.bos_token_id else []


def encode_whole(tokenizer: Any, example: Example) -> Encoded:
    """All tokens of an example with their labels, however many. Raises ``Unrenderable``."""
    if example.messages is not None:
        renderer = renderer_of(tokenizer)
        messages, text, folded = renderer.prepare(example.messages)
        spans, method = renderer.spans(messages, text)
        renderer.methods[method] = renderer.methods.get(method, 0) + 1
        renderer.folded += folded
        # A template that ends no turn would teach the model never to stop: the end token is added to the last one.
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


def encode(tokenizer: Any, example: Example, max_length: int) -> Encoded:
    """The tokens of one example, cut at the end to ``max_length``; labels are −100 outside what is trained.

    The result may hold no trained token at all (a long prompt): ``trained`` tells. Raises ``Unrenderable`` for
    a chat that the template refuses.
    """
    return cut(encode_whole(tokenizer, example), max_length)


def cut(whole: Encoded, max_length: int) -> Encoded:
    """The first ``max_length`` tokens."""
    if len(whole.input_ids) <= max_length:
        return whole
    return Encoded(whole.input_ids[:max_length], whole.labels[:max_length], truncated=True)


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


def prompt_ids(tokenizer: Any, messages: Sequence[Message] | str) -> list[int]:
    """The tokens to generate from: a chat up to and with the assistant's header, or a raw prompt."""
    if isinstance(messages, str):
        return _start_ids(tokenizer) + list(
            tokenizer(messages, add_special_tokens=False, verbose=False)["input_ids"]
        )
    renderer = renderer_of(tokenizer)
    kept = list(messages)
    if not renderer.has_system and any(message["role"] == "system" for message in kept):
        kept = fold_system(kept)
    try:
        text = renderer.render(kept, prompt=True)
    except Exception:
        try:
            text = renderer.render(fold_system(kept), prompt=True)
        except Exception as error:
            raise LabError(f"The chat template refuses the prompt: {_brief(error)}.") from None
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def stop_ids(tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the tokenizer's end token and the template's end of turn."""
    ids = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    mark = renderer_of(tokenizer).end_of_turn if tokenizer.chat_template else ""
    if mark:
        found = tokenizer.convert_tokens_to_ids(mark)
        if isinstance(found, int) and found not in ids:
            ids.append(found)
    return ids


def pieces(tokenizer: Any, encoded: Encoded) -> list[tuple[str, bool]]:
    """The text of an encoded row in pieces, each with whether it is trained. Joined they are the decoded row.

    Normally a piece is a token; tokens that are parts of one character are joined. The text is raw: it must go
    through ``safe_text.visible`` before a terminal sees it.
    """
    ids, labels = encoded.input_ids, encoded.labels
    result: list[tuple[str, bool]] = []
    context, done = 0, 0  # decoding starts at `context`: what stands before decides about leading blanks
    for at in range(1, len(ids) + 1):
        before = _decode(tokenizer, ids[context:done])
        now = _decode(tokenizer, ids[context:at])
        # An unfinished character shows as U+FFFD. Four bytes make the longest one; beyond that it is real.
        if now.endswith("�") and at - done < 4 and at < len(ids):
            continue
        result.append((now[len(before) :], any(label != IGNORED for label in labels[done:at])))
        context, done = done, at
    return result


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return (
        str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if ids
        else ""
    )
