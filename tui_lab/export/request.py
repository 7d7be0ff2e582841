"""What can be exported of a run, as people ask for it and as they read of it: kinds, the checked request, and
the sentences of a result. No torch: the lab and the command line use it; the work is that of
:mod:`tui_lab.export.job`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize

MODULE = "tui_lab.export.job"
RESULT = "export.json"
FOLDER = "exports"
#: Kind → what it is, for lists.
KINDS = {
    "adapter": "the adapter with its tokenizer, for peft over the base",
    "merged": "one whole model for transformers, vLLM and others",
    "modelfile": "the whole model with a Modelfile, for `ollama create`",
    "gguf": "one GGUF file for llama.cpp and Ollama (needs its converter)",
    "script": "a Python script that trains the same without the lab",
}
DTYPES = ("bfloat16", "float32")


@dataclass(frozen=True)
class Request:
    """What is to be exported. ``out`` is a folder, empty for the run's own exports/KIND; ``strength`` below
    or above 1 changes how much of what was trained goes in; ``with_base`` copies a base that is only a folder
    here along with an adapter or a script."""

    run: str
    kind: str
    dtype: str = "bfloat16"
    out: str = ""
    strength: float = 1.0
    force: bool = False
    with_base: bool = False
    runs_dir: str = ""


def request_of(fields: Mapping[str, Any]) -> Request:
    """The request out of JSON. Raises LabError for what it cannot mean."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "run": str, "kind": str, "dtype": str, "out": str, "runs_dir": str,
        "force": bool, "with_base": bool, "strength": (int, float),
    }  # fmt: skip
    for name, value in fields.items():
        if name not in kinds:
            raise LabError(f"an export knows no {sanitize(str(name))!r}; it knows {', '.join(kinds)}")
        if not isinstance(value, kinds[name]) or (name == "strength" and isinstance(value, bool)):
            raise LabError(f"{name} of an export is no {type(value).__name__}")
    request = Request(**{"run": "", "kind": "", **fields})
    if not request.run:
        raise LabError("no run was named; `tui-lab runs` lists them")
    if request.kind not in KINDS:
        raise LabError(f"an export is one of {', '.join(KINDS)}, not {sanitize(request.kind)!r}")
    if request.dtype not in DTYPES:
        raise LabError(f"dtype of an export is {' or '.join(DTYPES)}, not {sanitize(request.dtype)!r}")
    from tui_lab.retention.strength_grid import check

    check(float(request.strength))
    if request.kind == "script" and request.strength != 1:
        raise LabError("a script has no strength: it trains anew; leave --strength out")
    return request


def folder_name(request: Request) -> str:
    """The folder of an export in the run's exports."""
    return request.kind if request.strength == 1 else f"{request.kind}-strength-{request.strength:g}"


def percent(share: float) -> str:
    """A share of 1 in percent; never 100 % while something differs."""
    return f"{min(share, 0.999) if share < 1 else 1:.1%}"


def figure(value: Any) -> str:
    """A small measured number."""
    number = float(value)
    return f"{number:.2g}" if math.isfinite(number) else "–"


def gap_words(gap: Mapping[str, Any], what: str) -> str:
    """A difference between the export and what ran, in words."""
    return (
        f"{what}: the most probable token agrees at {percent(float(gap['top1_agreement']))} of "
        f"{int(gap['positions']):,} positions, mean KL {figure(gap['mean_kl'])} nats a token, "
        f"logits at most {figure(gap['max_abs'])} apart"
    )


def sentences(result: Mapping[str, Any]) -> list[str]:
    """A result for people: what was written, what was checked, what to know, and what to do next."""
    size = format.size(sum(int(file["bytes"]) for file in result["files"].values()))
    lines = [f"{result['title']} written to {result['path']} ({size})"]
    lines += [f"checked: {check['text']}" for check in result["checks"]]
    lines += [f"note: {note}" for note in result["notes"]]
    lines += [f"use: {line}" for line in result["use"]]
    return [sanitize(str(line)) for line in lines]
