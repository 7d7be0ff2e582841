"""llama.cpp's own converter and quantiser: finds the converter, runs both, and reads a GGUF file back with
the ``gguf`` package. The converter is part of llama.cpp's repository, which the source distribution of
llama-cpp-python contains and its wheel does not: :func:`fetch_converter` takes it from there, of the version
that is installed. Every program runs in a process of its own: native code may abort."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.files import atomic_folder
from tui_lab.core.job_protocol import OnProgress
from tui_lab.core.paths import cache_dir, expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.export.records import GgufInfo

VARIABLE = "LLAMA_CPP_DIR"
CONVERTER = "convert_hf_to_gguf.py"
PACKAGE = "llama-cpp-python"
INSTALL = "pip install 'tui-lab[gguf]' (it compiles llama.cpp, which needs gcc and cmake)"
_ON_PATH = (CONVERTER, "convert-hf-to-gguf", "llama-convert-hf-to-gguf")
#: The parts of llama.cpp's repository that the converter needs.
_CONVERTER_PARTS = (CONVERTER, "conversion/", "gguf-py/gguf/", "LICENSE")
OUTTYPE = {"bfloat16": "bf16", "float32": "f32"}
#: GGUF types that the quantiser writes, with llama.cpp's number of each (``llama_ftype`` in llama.h).
QUANTIZED_TYPES = {"q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q4_k_m": 15}
#: Runs the converter. llama.cpp knows the splitting of text into words by a hash over a vocabulary, which a
#: vocabulary of one's own never has: PRE then names the splitting, and the tokens are compared afterwards.
_CONVERT = """
import os, runpy, sys
script, pre = sys.argv[1:3]
sys.argv = [script, *sys.argv[3:]]
folder = os.path.dirname(os.path.abspath(script))
sys.path[:0] = [folder, os.path.join(folder, "gguf-py")]
if pre and os.path.isdir(os.path.join(folder, "conversion")):
    from conversion.base import TextModel
    known = TextModel.get_vocab_base_pre
    def get_vocab_base_pre(self, tokenizer):
        try:
            return known(self, tokenizer)
        except NotImplementedError:
            return pre
    TextModel.get_vocab_base_pre = get_vocab_base_pre
runpy.run_path(script, run_name="__main__")
"""
_QUANTIZE = """
import sys
import llama_cpp
source, target, number = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = int(number)
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), params))
"""
_WORDS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
_REST = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#: llama.cpp's names of ways to split text (src/llama-vocab.cpp), by the pre-tokenizer of tokenizer.json.
_SPLITTING = {
    "byte-level words": "gpt-2",
    "digits, byte-level words": "smollm",
    _WORDS + "\\p{N}{1,3}" + _REST: "llama-bpe",
    _WORDS + "\\p{N}" + _REST: "qwen2",
}
#: Reads a GGUF file and, where transformers can, compares its weights with the merged model's. It runs as a
#: program of its own because the ``gguf`` package may exist only in llama.cpp's folder.
_READ = """
import json, sys
file, merged = sys.argv[1:]
for name in ("tui_lab", "trl", "bitsandbytes"):
    sys.modules[name] = None
try:
    from gguf import GGUFReader
except ImportError:
    print(json.dumps({"problem": "the package gguf is missing: `pip install gguf` and export again"}))
    raise SystemExit
reader = GGUFReader(file)
def text(key):
    field = reader.get_field(key)
    return bytes(field.parts[field.data[0]]).decode("utf-8") if field else None
def number(key):
    field = reader.get_field(key)
    return int(field.parts[field.data[0]][0]) if field else None
found = {
    "architecture": text("general.architecture"),
    "chat_template": text("tokenizer.chat_template"),
    "eos": number("tokenizer.ggml.eos_token_id"),
    "bos": number("tokenizer.ggml.bos_token_id"),
    "adds_bos": bool(number("tokenizer.ggml.add_bos_token")),
    "tensors": len(reader.tensors),
    "weights": None,
}
try:
    import os, torch
    from transformers import AutoModelForCausalLM
    folder, name = os.path.split(file)
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).state_dict()
except Exception as error:
    found["unread"] = type(error).__name__ + ": " + str(error)[:200]
else:
    own = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).state_dict()
    rows = {k: min(len(own[k]), len(read[k])) for k in own if k in read}
    same = own.keys() == read.keys()
    apart = [(own[k][:n].float() - read[k][:n].float()).abs().max().item() for k, n in rows.items()]
    found["weights"] = max(apart) if same else float("inf")
print(json.dumps(found))
"""


def find_converter(on_progress: OnProgress) -> Path:
    """llama.cpp's converter: the one of :data:`VARIABLE`, on the PATH, or of the installed llama-cpp-python,
    which is downloaded once. Raises LabError, which says how to install it."""
    if folder := os.environ.get(VARIABLE):
        path = expanded(folder) / CONVERTER
        if path.is_file():
            return path
        raise LabError(
            f"{VARIABLE} is {sanitize(folder)}, which has no {CONVERTER}: set it to llama.cpp's own folder"
        )
    for name in _ON_PATH:
        if found := shutil.which(name):
            return Path(found)
    if version := installed_version():
        fetched = cache_dir() / f"llama.cpp-{version}"
        if not (fetched / CONVERTER).is_file():
            on_progress(f"downloading llama.cpp's converter: the source of {PACKAGE} {version}, about 80 MB")
            _fetch_converter(version, fetched)
        return fetched / CONVERTER
    raise LabError(
        f"GGUF needs llama.cpp, which was not found: {INSTALL}, or set {VARIABLE} to a clone of llama.cpp, "
        "or export --as modelfile"
    )


def installed_version() -> str:
    """The version of llama-cpp-python; "" without it."""
    if importlib.util.find_spec("llama_cpp") is None:
        return ""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return ""


def require_runtime() -> None:
    """Raises LabError without llama-cpp-python."""
    if not installed_version():
        raise LabError(f"{PACKAGE} is missing, which quantises and reads GGUF files: {INSTALL}")


def _fetch_converter(version: str, target: Path) -> None:
    """Downloads the source of llama-cpp-python with pip and unpacks the converter. Raises LabError."""
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE, "--dest", place,
             f"{PACKAGE}=={version}"],
            capture_output=True, text=True,
        )  # fmt: skip
        archive = next(Path(place).glob("*.tar.gz"), None)
        if done.returncode or archive is None:
            raise LabError(f"pip could not download {PACKAGE} {version}: {_last_line(done)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(target) as folder, tarfile.open(archive) as packed:
            for member in packed:
                _, found, name = member.name.partition("/vendor/llama.cpp/")
                if found and member.isfile() and name.startswith(_CONVERTER_PARTS):
                    member.name = name
                    packed.extract(member, folder, filter="data")
            if not (folder / CONVERTER).is_file():
                raise LabError(f"the source of {PACKAGE} {version} has no {CONVERTER}: set {VARIABLE}")


def _environment(converter: Path | None = None) -> dict[str, str]:
    """This process's environment, with the ``gguf`` package beside the converter, if any, on PYTHONPATH."""
    bundled = (
        [str(converter.parent / "gguf-py")] if converter and (converter.parent / "gguf-py").is_dir() else []
    )
    paths = bundled + ([os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of a program's output, which is also written to stderr."""
    output = done.stdout + done.stderr
    sys.stderr.write(output)
    lines = [line for line in output.splitlines() if line.strip()]
    return sanitize(lines[-1])[:300] if lines else f"it ended with exit status {done.returncode}"


def convert(converter: Path, merged: Path, file: Path, outtype: str) -> None:
    """Converts a merged model to the GGUF type ``outtype``. Raises LabError with the last line of the
    converter's output."""
    command = [str(merged), "--outfile", str(file), "--outtype", outtype]
    if converter.suffix == ".py":
        command = [sys.executable, "-c", _CONVERT, str(converter), splitting_of(merged), *command]
    else:
        command = [str(converter), *command]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(converter))
    if done.returncode or not file.is_file():
        raise LabError(f"llama.cpp's converter did not convert this model: {_last_line(done)}")


def splitting_of(merged: Path) -> str:
    """llama.cpp's name of how a tokenizer splits text before its merges; "" where none is known."""
    try:
        found = json.loads((merged / "tokenizer.json").read_text(encoding="utf-8")).get("pre_tokenizer")
    except (OSError, ValueError, AttributeError):
        return ""
    steps = found.get("pretokenizers", [found]) if isinstance(found, dict) else []
    kinds = [step.get("type") for step in steps if isinstance(step, dict)]
    if kinds and kinds[-1] == "ByteLevel" and steps[-1].get("use_regex", True):
        digits = kinds[:-1] == ["Digits"] and steps[0].get("individual_digits")
        words = "digits, byte-level words" if digits else "byte-level words" if len(kinds) == 1 else ""
        return _SPLITTING.get(words, "")
    if kinds == ["Split", "ByteLevel"]:
        return _SPLITTING.get(str(_pattern(steps[0])), "")
    return ""


def _pattern(step: Mapping[str, object]) -> object:
    pattern = step.get("pattern")
    return pattern.get("Regex") if isinstance(pattern, dict) else None


def quantize(source: Path, target: Path, gguf_type: str) -> None:
    """Quantises a GGUF file with llama.cpp's quantiser. Raises LabError."""
    command: Sequence[str] = [str(source), str(target), str(QUANTIZED_TYPES[gguf_type])]
    done = subprocess.run(
        [sys.executable, "-P", "-c", _QUANTIZE, *command], capture_output=True, text=True, env=_environment()
    )
    if done.returncode or not target.is_file():
        raise LabError(f"llama.cpp's quantiser did not write {gguf_type}: {_last_line(done)}")


def read_back(converter: Path, file: Path, merged: Path) -> GgufInfo:
    """The metadata of a GGUF file and the largest difference of its weights from the merged model; only
    ``problem`` is set where the file could not be read."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _READ, str(file), str(merged)],
        capture_output=True,
        text=True,
        env=_environment(converter),
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        sys.stderr.write(done.stderr)
        errors = done.stderr.strip().splitlines()
        return GgufInfo(problem=errors[-1] if errors else f"exit status {done.returncode}")
    # the standard library reads Infinity, which msgspec's JSON refuses
    return msgspec.convert(json.loads(lines[-1]), GgufInfo)
