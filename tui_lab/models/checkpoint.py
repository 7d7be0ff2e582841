"""Reads and checks the files of a model folder: config.json, weights, tokenizer, licence.

The files are untrusted: sizes are bounded, types are checked, weights must be safetensors (a pickle can run
code), and code that a config asks for is never run. Of the weights only the headers are read, which show
whether a file is complete. No torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path

from tui_lab.core import input_files, safetensors_file, tensor_names
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.decoding.context import context_length
from tui_lab.models import shapes
from tui_lab.models.stored_forms import StoredForm, UnreadableForm, stored_form

#: Limit of a config or an index; real ones are far smaller.
MAX_JSON_BYTES = 16_000_000
MAX_TOKENIZER_BYTES = 200_000_000
_TEXTS = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".vocab")  # files that libraries open
_WEIGHTS = (".safetensors", ".bin")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "spiece.model",
    "vocab.txt",
    "sentencepiece.bpe.model",
)
_LICENCE_LINE = re.compile(r"^(license|license_name):[ \t]*(\S[^\n]*)$", re.MULTILINE)
_CAUSAL = re.compile(r"\w+(ForCausalLM|LMHeadModel)")


@dataclass(frozen=True)
class FolderFacts:
    """The facts of a folder. ``problem``: the sentence why it cannot be tuned, beginning with its name."""

    path: Path
    problem: str | None = None
    incomplete: bool = False  # the only problem is that files are missing
    model_type: str | None = None
    shape: shapes.Shape | None = None
    parameters: int | None = None
    context: int | None = None
    licence: str | None = None
    chat_template: bool | None = None
    has_weights: bool = False
    form: StoredForm = "plain"


class _Bad(Exception):
    """A folder cannot be used; ``str(error)`` is the sentence without the folder's name."""


class _Missing(_Bad):
    """Files are missing, which the hub may have."""


def _read_json(path: Path, most_bytes: int = MAX_JSON_BYTES) -> dict[str, object]:
    try:
        if path.stat().st_size > most_bytes:
            raise _Bad(f"its {path.name} is over {most_bytes // 1_000_000} MB; that is no {path.name}")
        text = input_files.read_text(path, most_bytes)
        if not text.strip():
            raise _Bad(f"its {path.name} is empty; get the file again")
        if text.startswith("version https://git-lfs"):
            raise _Bad(f"its {path.name} is a git-lfs pointer; run `git lfs pull` in its folder")
        value = input_files.parse_json(text)
    except json.JSONDecodeError as error:
        raise _Bad(
            f"its {path.name} is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg}); "
            "get the file again"
        ) from None
    except UnicodeDecodeError:
        raise _Bad(f"its {path.name} is not UTF-8 text; get the file again") from None
    except ValueError as error:  # nested too deeply, or a number of thousands of digits
        reason = str(error) if "nested" in str(error) else "it holds a number that is too long"
        raise _Bad(f"its {path.name} cannot be read: {reason}; get the file again") from None
    except OSError as error:
        raise _Bad(f"its {path.name} cannot be read ({error.strerror or error})") from None
    if not isinstance(value, dict):
        raise _Bad(f"its {path.name} holds no JSON object; get the file again")
    return value


def _check_causal(config: Mapping[str, object], kind: str) -> None:
    """Raises _Bad unless the config describes a causal language model without remote code."""
    if config.get("auto_map") and not _native(kind):
        raise _Bad(
            f"needs remote code for its architecture {sanitize(kind[:64])!r} (auto_map in config.json), "
            "which the lab never executes; take a model whose architecture transformers has itself"
        )
    architectures = config.get("architectures")
    names = (
        [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    )
    if config.get("is_encoder_decoder") is True or (names and not any(_CAUSAL.fullmatch(n) for n in names)):
        what = sanitize(", ".join(names)) or f"an encoder-decoder {sanitize(kind)}"
        raise _Bad(
            f"is not a causal language model (it is {what}); take one whose architecture ends in ForCausalLM"
        )


def _native(kind: str) -> bool:
    """Whether transformers has this architecture; it then ignores the repository's code."""
    if shapes.known(kind):
        return True
    if not re.fullmatch(r"[a-z0-9_-]{1,64}", kind):
        return False
    spec = find_spec("transformers")  # finds, does not import
    roots = spec.submodule_search_locations if spec else None
    return any((Path(root) / "models" / kind.replace("-", "_")).is_dir() for root in roots or ())


def _check_weights(folder: Path) -> list[Path]:
    """The files of the weights, each whole."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = _read_json(index).get("weight_map")
        names = list(shards.values()) if isinstance(shards, dict) else []
        missing = sorted(str(name)[:200] for name in names if not _inside(folder, name))
        if missing or not names:
            what = sanitize(missing[0]) if missing else "every shard"
            raise _Missing(f"is incomplete: {what} of its weights is missing; get the files again")
        files = [folder / str(name) for name in sorted(set(names))]
        _check_safetensors(files)
        return files
    # a link of the hub's cache whose file was deleted counts as missing
    named = (path for path in sorted(folder.glob("*.safetensors")) if path.is_file())
    found = [path for path in named if path.name != _ADAPTER_WEIGHTS]
    if (folder / "model.safetensors").is_file():  # others are copies in another layout
        found = [folder / "model.safetensors"]
    if found:
        _check_safetensors(found)
        return found
    pickles = [path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickles:
        raise _Bad(
            f"has only pickled weights ({sanitize(pickles[0])}), which can run code when they are loaded; "
            "convert them where you trust them: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder) writes safetensors"
        )
    if any(folder.glob("*.gguf")):
        raise _Bad("has GGUF weights, which cannot be tuned; get the original safetensors")
    raise _Missing("has no weights; it needs model.safetensors")


def _check_safetensors(paths: Iterable[Path]) -> None:
    """Raises _Bad for a file that is empty, truncated or malformed."""
    for path in paths:
        if problem := safetensors_file.problem(path):
            raise _Bad(f"its {sanitize(problem)}")


#: The number of a block in the name of a tensor, and the name within the block.
_IN_BLOCK = re.compile(r"((?:.+\.)?(?:layers|h))\.(\d{1,6})\.(.+)\.weight")


#: Parts of the names of tensors that only weights of a stored form have.
_STORED_NAMES = {
    "bnb4": (".absmax", ".quant_state."),
    "bnb8": (".SCB",),
    "fp8": ("_scale",),
    "gptq": (".qweight",),
    "awq": (".qweight",),
}


def _check_tensors(folder: Path, shape: shapes.Shape | None, form: StoredForm) -> None:
    """Raises _Bad for weights whose linear layers are not those of the config, as far as names show it. Only
    for architectures whose layers are known; loading checks every tensor of any."""
    tensors: dict[str, safetensors_file.TensorEntry] = {}
    for path in _check_weights(folder):
        tensors |= safetensors_file.read_header(path)
    if form == "plain" and any(
        entry.dtype in ("I8", "U8", "I32") and len(entry.shape) > 1
        for name, entry in tensors.items()
        if _IN_BLOCK.fullmatch(name)
    ):
        raise _Bad(
            "holds quantised weights, and its config.json has no quantization_config that says how; get the "
            "files again"
        )
    if form in _STORED_NAMES and not any(part in name for name in tensors for part in _STORED_NAMES[form]):
        raise _Bad(
            f"holds plain weights, though its config.json says that they are stored as {form}: remove "
            "quantization_config from config.json"
        )
    wanted = {path for path, *_ in shapes.layer_linears(shape)} if shape else set()
    matches = [m for name in tensors if (m := _IN_BLOCK.fullmatch(name)) and m[3] in wanted]
    if shape is None or not matches:  # names of another layout, which transformers may convert
        return
    found = {(int(m[2]), m[3]) for m in matches}
    needed = {(block, path) for block in range(shape.layers) for path in wanted}
    prefix = matches[0][1]
    for difference, text in (
        (needed - found, "missing from its files"),
        (found - needed, "in its files but not in the model that its config.json describes"),
    ):
        if difference:
            names = [f"{prefix}.{block}.{path}.weight" for block, path in difference]
            raise _Bad(f"{tensor_names.tensors(names)} {text}; get the files again")


def _inside(folder: Path, name: object) -> bool:
    return isinstance(name, str) and "/" not in name and "\\" not in name and (folder / name).is_file()


def _counted(folder: Path) -> int | None:
    """Number of parameters by the safetensors headers: exact for any architecture, tied weights once."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            total += sum(prod(tensor.shape) for tensor in safetensors_file.read_header(path).values())
        except (OSError, safetensors_file.BadSafetensors):
            return None
    return total if total > 0 else None


def _has_template(folder: Path) -> bool | None:
    """Whether the tokenizer has a chat template; None without tokenizer_config.json."""
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    try:
        return bool(_read_json(folder / "tokenizer_config.json").get("chat_template"))
    except _Bad:
        return None


def _licence(folder: Path) -> str | None:
    """The licence by the front matter of the model card."""
    try:
        with input_files.open_regular(folder / "README.md") as file:
            head = file.read(8192).decode("utf-8", "replace")
    except OSError:
        return None
    front = re.match(r"---\s*\n(.*?)\n---", head, re.DOTALL)
    found = {key: value.strip("\"' ") for key, value in _LICENCE_LINE.findall(front[1] if front else "")}
    name = found.get("license_name") if found.get("license") == "other" else found.get("license")
    return sanitize(name)[:60] if name else None


def inspect(folder: Path, name: str = "") -> FolderFacts:
    """The facts of a model folder. Never raises: errors are in ``problem``. ``name``: for the sentence."""
    shown = name or sanitize(str(folder))
    try:
        return _inspect(folder, shown)
    except _Bad as error:
        return FolderFacts(folder, problem=f"{shown}: {error}")
    except OSError as error:
        return FolderFacts(folder, problem=f"{shown}: cannot be read ({error.strerror or error})")
    except Exception as error:  # noqa: BLE001 (anyone's files: one folder must not hide the others)
        return FolderFacts(folder, problem=f"{shown}: cannot be used ({first_line(error)}); get it again")


def check_regular(folder: Path) -> None:
    """Raises an error for a pipe, a device or a far too large file among those that libraries open by their
    name: reading it could last for ever."""
    for place in (folder, folder / "additional_chat_templates"):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.suffix not in (*_TEXTS, *_WEIGHTS) or not path.exists() or path.is_dir():
                continue
            if not path.is_file():
                raise _Bad(f"its {sanitize(path.name)} is a pipe or a device, not a file; remove it")
            if path.suffix in _TEXTS and path.stat().st_size > MAX_TOKENIZER_BYTES:
                size = f"{MAX_TOKENIZER_BYTES // 1_000_000} MB"
                raise _Bad(f"its {sanitize(path.name)} has more than {size}; get the files again")


def _inspect(folder: Path, shown: str) -> FolderFacts:
    check_regular(folder)
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise _Bad("is an adapter, not a model; name the model that it was made for")
        raise _Bad("has no config.json; name the folder that holds config.json and model.safetensors")
    config = _read_json(folder / "config.json")
    if bad := [key for key, value in config.items() if isinstance(value, float) and math.isnan(value)]:
        raise _Bad(
            f"has {sanitize(bad[0][:40])} = NaN in its config.json, so it computes nothing; correct it"
        )
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise _Bad("names no model_type in its config.json; it is not a transformers model")
    try:
        shape = shapes.from_config(config)
    except shapes.ShapeError as error:
        raise _Bad(f"has a config.json that makes no {sanitize(kind)} model: {error}") from None
    form: StoredForm = "plain"
    unreadable: _Bad | None = None
    try:
        form = stored_form(config)
    except UnreadableForm as error:
        unreadable = _Bad(str(error))
    missing = _problem(_check_weights, folder)
    problem = (
        _problem(_check_causal, config, kind)
        or unreadable
        or missing
        or _problem(_check_tensors, folder, shape, form)
        or _problem(_check_tokenizer, folder)
    )
    quantised = "quantization_config" in config  # packed tensors: their sizes are not those of the weights
    return FolderFacts(
        path=folder,
        problem=f"{shown}: {problem}" if problem else None,
        incomplete=isinstance(problem, _Missing),
        model_type=sanitize(kind),
        shape=shape,
        parameters=shapes.parameter_count(shape) if shape else None if quantised else _counted(folder),
        context=context_length(config),
        licence=_licence(folder),
        chat_template=_has_template(folder),
        has_weights=missing is None,
        form=form,
    )


def _check_tokenizer(folder: Path) -> None:
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise _Missing("has no tokenizer; it needs tokenizer.json beside the weights")
    if (folder / "tokenizer_config.json").is_file():
        _read_json(folder / "tokenizer_config.json")
    if missing := _missing_reader(folder):
        raise _Bad(missing)
    tokenizer = folder / "tokenizer.json"
    if tokenizer.is_file():  # megabytes that are not parsed here: the ends show a truncated or foreign file
        with input_files.open_regular(tokenizer) as file:
            start = file.read(64).lstrip()
            file.seek(max(0, tokenizer.stat().st_size - 64))
            end = file.read().rstrip()
        if not start or not end:
            raise _Bad("its tokenizer.json is empty; get the file again")
        if not start.startswith(b"{") or not end.endswith(b"}"):
            what = "truncated"
            if start.startswith(b"version http"):
                what = "a git-lfs pointer: run `git lfs pull`"
            elif start.startswith((b"../", b"./", b"/")):
                what = "a link that was copied as text: copy the file that it names"
            raise _Bad(f"its tokenizer.json is not complete JSON ({what}); get the file again")


#: The libraries that read a tokenizer file of another form, by whether it is SentencePiece's or tiktoken's.
_READERS = {
    True: ("a SentencePiece model", ("sentencepiece", "google", "google.protobuf"), "sentencepiece protobuf"),
    False: ("a tiktoken vocabulary", ("tiktoken",), "tiktoken"),
}


def _missing_reader(folder: Path) -> str:
    """What to install for a tokenizer that no installed library reads, as a sentence; "" for any other."""
    others = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json")
    names = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
    name = next((name for name in names if (folder / name).is_file()), "")
    if not name or any((folder / other).is_file() for other in others):
        return ""
    what, modules, packages = _READERS[_is_sentencepiece(folder / name)]
    if all(find_spec(module) is not None for module in modules):
        return ""
    return (
        f"its tokenizer is {what} ({name}): install {packages.replace(' ', ' and ')} "
        f"(`pip install {packages}`), or get tokenizer.json"
    )


def _is_sentencepiece(path: Path) -> bool:
    """Whether a file is SentencePiece's and not a tiktoken vocabulary, which is text."""
    with path.open("rb") as file:
        return file.read(1) == b"\n"  # the first field of the model


def tokenizer_problem(folder: Path) -> str:
    """Why the tokenizer's files cannot be read, as a sentence without the folder's name; "" when they can."""
    try:
        _check_tokenizer(folder)
        if (folder / "tokenizer.json").is_file():
            _read_json(folder / "tokenizer.json", MAX_TOKENIZER_BYTES)
    except (_Bad, OSError) as error:
        return str(error)
    return ""


def irregular_file(folder: Path) -> str:
    """The sentence of :func:`check_regular`, "" where all is well."""
    try:
        check_regular(folder)
    except (_Bad, OSError) as error:
        return str(error)
    return ""


def _problem(check: Callable[..., object], *values: object) -> _Bad | None:
    try:
        check(*values)
    except _Bad as error:
        return error
    return None
