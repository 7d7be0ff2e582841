"""The tokenizer of a model, its chat template, and how it asks; with what a run has saved of both.

Base models without a template get a plain one made of tokens that they have. The tokens of rows and prompts
are in :mod:`tui_lab.data.row_tokens`."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tui_lab.core import files, input_files
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import first_line
from tui_lab.data import chat_template, hub, masks, prompt_settings, tokenizer_files
from tui_lab.data.chat_template import TEMPLATE_ERRORS
from tui_lab.data.masks import Renderer, template_variables
from tui_lab.data.prompt_settings import PromptSettings
from tui_lab.data.rows import ChatMessage, Tokenizer
from tui_lab.decoding.adapter_files import own_tokenizer
from tui_lab.models import catalog, checkpoint, digests

if TYPE_CHECKING:
    pass

TEMPLATE_FILE = "chat_template.jinja"
OWN, DEFAULT = "the model's own template", "tui-lab's plain template (the model has none)"


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
    if "FieldValidation" in type(failure).__name__:  # of a configuration, which is read with the tokenizer
        raise LabError(
            f"model {name}: its config.json has a value that cannot be used ({first_line(failure)}); "
            "correct it"
        )
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
_vocabularies: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()  # of adapters' own tokens
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
    return _has_template(folder) or (folder / prompt_settings.FILE).is_file()


def _has_template(folder: Path) -> bool:
    """Whether a folder has a template that is not empty: an empty one counts as none, as in tokenizers."""
    file = folder / TEMPLATE_FILE
    return file.is_file() and file.stat().st_size > 0


def use_saved(tokenizer: Tokenizer, folder: Path | None) -> bool:
    """Gives a base's tokenizer the chat template and the settings that were saved in a folder with an adapter
    or a model; whether there were any. Raises LabError for a damaged file."""
    if folder is None or not folder.is_dir():
        return False
    saved, settings = folder / TEMPLATE_FILE, prompt_settings.read(folder)
    has_template = _has_template(folder)
    if has_template:
        of_base = tokenizer.chat_template
        of_base = of_base.get("default") if isinstance(of_base, dict) else of_base
        set_template(tokenizer, str(saved))
        if tokenizer.chat_template != of_base:
            _replaced[tokenizer] = prompt_settings.digest(tokenizer.chat_template)
    if settings is not None:
        use_settings(tokenizer, settings)
    return has_template or settings is not None


def load_for(location: str, revision: str = "", saved: Path | None = None) -> Tokenizer:
    """The tokenizer of a base, asking as what was saved in a folder (an adapter, a tuned model) was trained;
    that of the adapter itself where it has tokens of its own. Raises LabError."""
    own = own_tokenizer(saved) if saved is not None else None
    if own is None:
        return load_for_base(location, revision, saved)
    tokenizer = load_tokenizer(own)
    use_saved(tokenizer, own)
    _vocabularies[tokenizer] = digests.content_digest(own / "tokenizer.json")
    return tokenizer


def load_for_base(location: str, revision: str = "", saved: Path | None = None) -> Tokenizer:
    """The tokenizer of a base with the tokens of the base, asking as what was saved was trained. Raises
    LabError."""
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
    parts = [known[tokenizer] for known in (_replaced, _vocabularies) if tokenizer in known]
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
