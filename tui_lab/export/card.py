"""The README.md of an export: what it is, how it is loaded, and what was checked; only figures that were
measured, and no place of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tui_lab import __version__
from tui_lab.core.sanitize import sanitize
from tui_lab.export.request import Request
from tui_lab.export.source import Source
from tui_lab.export.weights import BASE_BESIDE

_LOAD = {
    "PeftModel": """\
import torch
from pathlib import Path
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

folder = "."  # where this file lies
base = AutoModelForCausalLM.from_pretrained({base}, dtype=torch.{dtype})
model = PeftModel.from_pretrained(base, folder)
""",
    "AutoModelForCausalLM": """\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

folder = "."  # where this file lies
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.{dtype})
""",
}
_ANSWER = """\
tokenizer = AutoTokenizer.from_pretrained(folder)
settings = GenerationConfig.from_pretrained(folder)  # knows what ends an answer
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": "Hello"}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True,
)
answer = model.generate(**prompt, generation_config=settings, max_new_tokens=64)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def write(
    target: Path,
    source: Source,
    request: Request,
    loader: str,
    commit: str,
    notes: Sequence[str],
    checks: Sequence[Mapping[str, Any]],
) -> None:
    """Writes the card."""
    recipe = source.recipe
    front = ["---", "library_name: " + ("peft" if loader == "PeftModel" else "transformers")]
    if not source.base_is_folder:
        front.append(f"base_model: {source.base}")
    front += ["pipeline_tag: text-generation", "tags:", "- tui-lab", f"- {recipe.method}", "---"]
    revision = f', revision="{commit or recipe.revision}"' if commit or recipe.revision else ""
    base = 'folder + "/base"' if source.base_is_folder else f'"{source.base}"{revision}'
    dtype = request.dtype if loader != "PeftModel" else "float32"
    steps = source.state.end.get("step") or source.state.step
    strength = f", at strength {request.strength:g}" if request.strength != 1 else ""
    lines = [
        *front,
        "",
        f"# {plain(source.base_name)}, tuned on {plain(Path(recipe.data).name)}",
        "",
        f"Made with tui-lab {__version__}: method {recipe.method}, {steps} steps{strength}. "
        f"`export.json` has what was checked, with versions and checksums.",
        "",
        "```python",
        _LOAD[loader].format(base=base, dtype=dtype) + _ANSWER.rstrip(),
        "```",
        "",
        "## Checked when it was made",
        "",
        *(f"- {plain(check['text'])}" for check in checks),
        *(["", "## To know", "", *(f"- {plain(note)}" for note in notes)] if notes else []),
        "",
    ]
    if loader == "PeftModel" and source.base_is_folder:
        lines += [f"The base model is looked for in `{BASE_BESIDE}`, seen from where the program runs.", ""]
    (target / "README.md").write_text("\n".join(lines), encoding="utf-8")


def plain(text: Any) -> str:
    """A text from outside on one line of Markdown, without marks that would be read as such."""
    return re.sub(r"([\\`*<>\[\]])", r"\\\1", sanitize(" ".join(str(text).split())))
