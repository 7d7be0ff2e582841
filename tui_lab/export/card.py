"""The README.md of an export: what it is, how to load it, and what was checked. It holds only measured
figures and no path of this machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tui_lab import __version__
from tui_lab.core.sanitize import sanitize
from tui_lab.export.records import ExportCheck, ExportRequest
from tui_lab.export.source import SavedRun
from tui_lab.export.weights import LOCAL_BASE
from tui_lab.recipes.mixture import short_name

_LOAD_ADAPTER = """\
import torch
from pathlib import Path
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

folder = "."  # the folder of this file
base = AutoModelForCausalLM.from_pretrained({base}, dtype=torch.float32)
model = PeftModel.from_pretrained(base, folder)
"""
_LOAD_MODEL = """\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

folder = "."  # the folder of this file
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.{dtype})
"""
_ANSWER = """\
tokenizer = AutoTokenizer.from_pretrained(folder)
settings = GenerationConfig.from_pretrained(folder)  # has the stop tokens
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": "Hello"}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True,
)
answer = model.generate(**prompt, generation_config=settings, max_new_tokens=64)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def write_card(
    target: Path,
    source: SavedRun,
    request: ExportRequest,
    commit: str,
    notes: Sequence[str],
    checks: Sequence[ExportCheck],
) -> None:
    """Writes README.md into the folder of an export."""
    recipe = source.recipe
    is_adapter = request.kind == "adapter"
    front = ["---", "library_name: " + ("peft" if is_adapter else "transformers")]
    if not source.base_is_folder:
        front.append(f"base_model: {source.base}")
    front += ["pipeline_tag: text-generation", "tags:", "- tui-lab", f"- {recipe.method}", "---"]
    revision = f', revision="{commit or recipe.revision}"' if commit or recipe.revision else ""
    base = 'folder + "/base"' if source.base_is_folder else f'"{source.base}"{revision}'
    load = _LOAD_ADAPTER.format(base=base) if is_adapter else _LOAD_MODEL.format(dtype=request.dtype)
    strength = f", at strength {request.strength:g}" if request.strength != 1 else ""
    lines = [
        *front,
        "",
        f"# {escape(source.base_name)}, tuned on {escape(short_name(recipe.data))}",
        "",
        f"Made with tui-lab {__version__}: method {recipe.method}, {_steps(source)} steps{strength}. "
        f"`export.json` lists the checks with their figures, versions and checksums.",
        "",
        "```python",
        load + _ANSWER.rstrip(),
        "```",
        "",
        "## Checks",
        "",
        *(f"- {escape(check.text)}" for check in checks),
        *(["", "## Notes", "", *(f"- {escape(note)}" for note in notes)] if notes else []),
        "",
    ]
    if is_adapter and not source.base_is_folder and recipe.method == "lora":
        lines += ["## vLLM", "", "```sh", _vllm(source, revision=commit or recipe.revision), "```", ""]
    if is_adapter and source.base_is_folder:
        lines += [
            f"peft looks for the base model in `{LOCAL_BASE}`, relative to the program's folder.",
            "",
        ]
    (target / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _vllm(source: SavedRun, revision: str) -> str:
    """The command that serves base and adapter; the rank is what vLLM reserves memory for."""
    rank = source.adapter_config.get("r")
    ranks = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM takes (its config/lora.py, 2026)
    highest = next((one for one in ranks if isinstance(rank, int) and one >= rank), ranks[-1])
    at = f" --revision {revision}" if revision else ""
    return f"vllm serve {source.base}{at} --enable-lora --max-lora-rank {highest} --lora-modules tuned=."


def _steps(source: SavedRun) -> int:
    return (source.state.end.step if source.state.end else 0) or source.state.step


def escape(text: str) -> str:
    """Text from outside on one line of Markdown, with the characters of markup escaped."""
    return re.sub(r"([\\`*<>\[\]])", r"\\\1", sanitize(" ".join(text.split())))
