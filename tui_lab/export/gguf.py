"""GGUF through llama.cpp's ``convert_hf_to_gguf.py``: finds the converter, runs it on a merged model, and
reads the file back with the ``gguf`` package. The converter is part of llama.cpp's repository and on no
package index, so LLAMA_CPP_DIR and the PATH are searched for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.export.records import GgufInfo

VARIABLE = "LLAMA_CPP_DIR"
CONVERTER = "convert_hf_to_gguf.py"
_ON_PATH = (CONVERTER, "convert-hf-to-gguf", "llama-convert-hf-to-gguf")
OUTTYPE = {"bfloat16": "bf16", "float32": "f32"}
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


def find_converter() -> Path:
    """llama.cpp's converter. Raises LabError, which says how to install it."""
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
    raise LabError(
        "GGUF needs llama.cpp's converter, which was not found. Run `git clone --depth 1 "
        f"https://github.com/ggml-org/llama.cpp` and `pip install gguf` and set {VARIABLE} to the clone, or "
        "export --as modelfile"
    )


def _environment(converter: Path) -> dict[str, str]:
    """This process's environment, with the ``gguf`` package beside the converter, if any, on PYTHONPATH."""
    bundled = converter.parent / "gguf-py"
    paths = [str(bundled)] if bundled.is_dir() else []
    paths += [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def convert(converter: Path, merged: Path, file: Path, dtype: str) -> None:
    """Converts a merged model. Raises LabError with the last line of the converter's output."""
    command = [str(converter), str(merged), "--outfile", str(file), "--outtype", OUTTYPE[dtype]]
    if converter.suffix == ".py":
        command = [sys.executable, *command]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(converter))
    if done.returncode or not file.is_file():
        output = done.stdout + done.stderr
        sys.stderr.write(output)
        lines = [line for line in output.splitlines() if line.strip()]
        last = sanitize(lines[-1])[:300] if lines else f"it ended with exit status {done.returncode}"
        raise LabError(f"llama.cpp's converter did not convert this model: {last}")


def read_back(converter: Path, file: Path, merged: Path) -> GgufInfo:
    """The metadata of a GGUF file and the largest difference of its weights from the merged model; only
    ``problem`` is set where the file could not be read."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _READ, str(file), str(merged)],
        capture_output=True,
        text=True,
        env={**_environment(converter), "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        sys.stderr.write(done.stderr)
        errors = done.stderr.strip().splitlines()
        return GgufInfo(problem=errors[-1] if errors else f"exit status {done.returncode}")
    # the standard library reads Infinity, which msgspec's JSON refuses
    return msgspec.convert(json.loads(lines[-1]), GgufInfo)
