"""GGUF through llama.cpp's own converter, ``convert_hf_to_gguf.py``: found, called on a merged model, and its
file read back with the ``gguf`` package. The converter lies in llama.cpp's repository, on no package index:
LLAMA_CPP_DIR and the PATH are searched for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize

VARIABLE = "LLAMA_CPP_DIR"
SCRIPT = "convert_hf_to_gguf.py"
_ON_PATH = (SCRIPT, "convert-hf-to-gguf", "llama-convert-hf-to-gguf")
OUTTYPE = {"bfloat16": "bf16", "float32": "f32"}
#: Reads a GGUF file and, where transformers can, its weights against the merged model's. A program of its
#: own: the ``gguf`` package may lie in llama.cpp's folder only.
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
    width = {k: min(len(own[k]), len(read[k])) for k in own if k in read}
    same = own.keys() == read.keys()
    apart = [(own[k][:n].float() - read[k][:n].float()).abs().max().item() for k, n in width.items()]
    found["weights"] = max(apart) if same else float("inf")
print(json.dumps(found))
"""


def find_converter() -> Path:
    """llama.cpp's converter. Raises LabError, saying how to get it."""
    if folder := os.environ.get(VARIABLE):
        path = Path(folder).expanduser() / SCRIPT
        if path.is_file():
            return path
        raise LabError(
            f"{VARIABLE} is {sanitize(folder)}, and there is no {SCRIPT} in it: name llama.cpp's own folder"
        )
    for name in _ON_PATH:
        if found := shutil.which(name):
            return Path(found)
    raise LabError(
        f"GGUF needs llama.cpp's converter, which is not here: `git clone --depth 1 "
        f"https://github.com/ggml-org/llama.cpp`, `pip install gguf`, set {VARIABLE} to it and export "
        "again; or export --as modelfile, from which Ollama makes its own GGUF"
    )


def _environment(converter: Path) -> dict[str, str]:
    """With the ``gguf`` package that lies beside the converter, if it does."""
    own = converter.parent / "gguf-py"
    paths = [str(own)] if own.is_dir() else []
    paths += [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def convert(converter: Path, merged: Path, file: Path, dtype: str) -> None:
    """Converts a merged model. Raises LabError with what the converter said last."""
    command = [str(converter), str(merged), "--outfile", str(file), "--outtype", OUTTYPE[dtype]]
    if converter.suffix == ".py":
        command = [sys.executable, *command]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(converter))
    if done.returncode or not file.is_file():
        sys.stderr.write(done.stdout + done.stderr)
        said = [line for line in (done.stdout + done.stderr).strip().splitlines() if line.strip()]
        last = sanitize(said[-1])[:300] if said else f"it ended with exit status {done.returncode}"
        raise LabError(f"llama.cpp's converter did not convert this model: {last}")


def read_back(converter: Path, file: Path, merged: Path) -> dict[str, Any]:
    """What a GGUF file says, and the greatest difference of its weights (None where it cannot be told); or
    only ``problem``."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _READ, str(file), str(merged)],
        capture_output=True,
        text=True,
        env={**_environment(converter), "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        sys.stderr.write(done.stderr)
        said = done.stderr.strip().splitlines()
        return {"problem": said[-1] if said else f"exit status {done.returncode}"}
    found = json.loads(lines[-1])
    assert isinstance(found, dict)
    return found
