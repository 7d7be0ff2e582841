"""A comparison saved as Markdown and JSON, and the history of prompts."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.format import decimal
from tui_lab.core.paths import data_dir
from tui_lab.core.records import jsonable
from tui_lab.core.sanitize import sanitize
from tui_lab.hardware.precision import QUANTIZATIONS
from tui_lab.playground.messages import GenerateRequest, LaneDone, PlaygroundStatus

#: Size of the prompt history.
MAX_PROMPTS = 200
#: Statistics of an answer, and what each means.
STATISTICS = {
    "tokens": "tokens of the answer",
    "tok/s": "tokens per second of this lane while all lanes ran",
    "first": "seconds to the first token, including the prompt",
    "logprob": "mean natural log-probability of a token under the lane's weights",
    "ppl base": "perplexity of the answer under the base model",
    "ppl own": "perplexity of the answer under the weights that the lane ran on",
    "rep-4": "share of 4-grams that occurred before",
    "distinct-2": "share of distinct pairs of tokens",
}


def figures(done: LaneDone) -> dict[str, str]:
    """The statistics of an answer as text, by the names of STATISTICS."""
    return {
        "tokens": str(len(done.token_ids)),
        "tok/s": decimal(done.tok_per_s, 0),
        "first": f"{decimal(done.first_token_s, 2)} s",
        "logprob": decimal(done.mean_logprob, 2),
        "ppl base": decimal(done.perplexity_base, 2),
        "ppl own": decimal(done.perplexity_own, 2),
        "rep-4": decimal(done.rep_4, 2),
        "distinct-2": decimal(done.distinct_2, 2),
    }


def as_markdown(ask: GenerateRequest, status: PlaygroundStatus, lanes: Sequence[LaneDone]) -> str:
    """The comparison as Markdown. Text of models is fenced, so that it is not read as Markdown."""
    title = f"# {len(lanes)} decodings of one {'conversation' if any(ask.turns) else 'prompt'}"
    rounded = (
        ""
        if status.quantization == "none"
        else f", {QUANTIZATIONS.get(status.quantization, status.quantization)} weights"
    )
    thinking = "" if ask.raw or ask.thinking == "auto" else f", thinking {ask.thinking}"
    how = (
        f"Model: {sanitize(status.model)}, {status.dtype}{rounded}, on {status.device}. "
        f"Chat template: {'off' if ask.raw else 'on'}{thinking}. At most {ask.max_new_tokens} new tokens."
    )
    parts = [title, how, "## Last prompt" if any(ask.turns) else "## Prompt", _fenced(ask.prompt)]
    if ask.system:
        parts += ["## System prompt", _fenced(ask.system)]
    names = list(STATISTICS)
    rows = [f"| lane | {' | '.join(names)} | ended by |", f"|---{'|---' * (len(names) + 1)}|"]
    for done in lanes:
        shown = figures(done)
        cells = " | ".join(shown[name] for name in names)
        rows.append(f"| `{sanitize(done.description)}` | {cells} | {done.finish_reason} |")
    parts.append("\n".join(rows))
    for done in lanes:
        parts.append(f"## `{sanitize(done.description)}`")
        turns = ask.turns_of(done.lane)
        for turn in turns:
            parts += ["Prompt:", _fenced(turn.prompt), "Answer:", _fenced(turn.answer)]
        parts += ["Prompt:", _fenced(ask.prompt), "Answer:"] if turns else []
        parts.append(_fenced(done.text))
    return "\n\n".join(parts) + "\n"


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{sanitize(text, keep_newlines=True)}\n{fence}"


def as_json(ask: GenerateRequest, status: PlaygroundStatus, lanes: Sequence[LaneDone]) -> str:
    """The comparison as JSON: the exact texts, every token with its log-probability."""
    how = {name: getattr(status, name) for name in ("model", "dtype", "quantization", "device")}
    comparison = {**how, "ask": _fields(ask), "lanes": [_fields(done) for done in lanes]}
    return json.dumps(jsonable(comparison), ensure_ascii=True, indent=1)


def _fields(record: msgspec.Struct) -> dict[str, Any]:
    """The fields of a message, without the tag that names its kind."""
    return {name: msgspec.to_builtins(getattr(record, name)) for name in record.__struct_fields__}


def save(
    ask: GenerateRequest, status: PlaygroundStatus, lanes: Sequence[LaneDone], folder: Path | None = None
) -> Path:
    """Writes both files; returns the path of the Markdown. Raises LabError."""
    folder = folder or data_dir() / "comparisons"
    stem = time.strftime("%Y%m%d-%H%M%S")
    path = folder / f"{stem}.md"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for count in range(2, 1000):
            if not path.exists():
                break
            path = folder / f"{stem}-{count}.md"
        write_atomically(path, as_markdown(ask, status, lanes))
        write_atomically(path.with_suffix(".json"), as_json(ask, status, lanes))
    except OSError as error:
        raise LabError(f"the comparison cannot be saved in {folder}: {error.strerror or error}") from None
    return path


class History:
    """Prompts that were run, the newest last, in a file. When the file cannot be read or written, only the
    history is lost."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or data_dir() / "prompts.jsonl"
        self.prompts: list[str] = []
        try:
            lines = input_files.read_text(self.path).splitlines()
        except (OSError, UnicodeDecodeError):
            return
        for line in lines:
            try:
                prompt = input_files.parse_json(line)
            except ValueError:
                continue
            if isinstance(prompt, str):
                self.prompts.append(prompt)
        self.prompts = self.prompts[-MAX_PROMPTS:]

    def add(self, prompt: str) -> None:
        """Appends a prompt; one that is in the history moves to the end."""
        self.prompts = [*[p for p in self.prompts if p != prompt][-(MAX_PROMPTS - 1) :], prompt]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self.path, "".join(json.dumps(p) + "\n" for p in self.prompts))
        except OSError:
            return
