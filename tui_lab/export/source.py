"""What an export starts from: what a run saved, the base that it belongs to, and fixed text on which every
export is compared with the run. Two references are loaded: the run as it was trained (in 4 bits if it was),
and the same weights unrounded in float32, which an export has to reproduce."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.models import catalog
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder
from tui_lab.runs.folder import Run
from tui_lab.runs.state import RunState, Watcher

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
VIRTUAL = ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING")
#: Held-out rows that are compared, and tokens of each.
ROWS, ROW_TOKENS = 8, 64
#: Rows that these are chosen from: those with the shortest prompts.
CANDIDATES, PROMPT_TOKENS = 64, 256
#: Greedy answers that are compared, tokens of each.
ANSWERS, ANSWER_TOKENS = 6, 32
#: Logits of one reference on disk at most: a vocabulary of 256,000 tokens has a megabyte a position.
REFERENCE_BYTES = 192 << 20
#: Read where the run's data is gone.
PLAIN_PROMPTS = (
    "What is the capital of France?",
    "Name three colours.",
    "How many legs does a spider have?",
    "Write one sentence about the sea.",
)
#: Rendered by the run's template and by the export's, byte for byte.
CONVERSATIONS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "Hello there"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?"}],
    [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Three"},
    ],
    [
        {"role": "system", "content": "Du bist höflich."},
        {"role": "user", "content": "Grüße! 你好 🙂\nsecond line"},
        {"role": "assistant", "content": "Ja: <b>`code`</b> \\n {{ braces }}"},
        {"role": "user", "content": "  blanks around  "},
        {"role": "assistant", "content": "Bye"},
    ],
    [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Sunny."},
        {"role": "user", "content": "And tomorrow?"},
        {"role": "assistant", "content": "Rain."},
        {"role": "user", "content": "Thanks"},
    ],
)
#: Tokenised by both tokenizers.
TEXTS = ("Hello there", " a  b\tc\n", "Grüße 你好 🙂", "1234.5 + x_y = <|end|>")


@dataclass(frozen=True)
class Source:
    """What a run saved. ``path`` is the adapter's folder or the tuned model's (at a strength: a copy)."""

    run: Run
    recipe: Recipe
    state: RunState
    entry: catalog.Entry
    path: Path
    whole: bool  # whole weights rather than an adapter
    config: dict[str, Any] = field(default_factory=dict)  # of the adapter

    @classmethod
    def of(cls, run: Run) -> Source:
        """Raises LabError where there is nothing to export."""
        if folder.is_locked(run):
            raise LabError(f"run {run.id} still goes on: it is exported when it has ended")
        recipe, state = run.recipe(), Watcher(run).read_all()
        entry = catalog.find(recipe.model, recipe.allow_large)
        if (run.adapter_path / CONFIG).is_file():
            try:
                config = json.loads((run.adapter_path / CONFIG).read_text(encoding="utf-8"))
                assert isinstance(config, dict)
            except (OSError, ValueError, AssertionError):
                raise LabError(
                    f"run {run.id}: its adapter's {CONFIG} cannot be read; resume the run"
                ) from None
            if not (run.adapter_path / WEIGHTS).is_file():
                raise LabError(f"run {run.id}: its adapter has no {WEIGHTS}; resume the run to save it again")
            return cls(run, recipe, state, entry, run.adapter_path, False, config)
        if (run.model_path / "config.json").is_file():
            return cls(run, recipe, state, entry, run.model_path, True)
        raise LabError(f"run {run.id} has saved no adapter and no model yet; let it finish or resume it")

    @property
    def base(self) -> str:
        """A folder or a hub id."""
        return self.entry.loadable

    @property
    def base_is_folder(self) -> bool:
        return Path(self.base).is_dir()

    @property
    def base_name(self) -> str:
        """What people call the base; never a path of this machine."""
        return Path(self.base).name if self.entry.where == "folder" else self.entry.id

    @property
    def virtual(self) -> bool:
        """Whether the adapter consists of virtual tokens."""
        return str(self.config.get("peft_type")) in VIRTUAL

    @property
    def four_bit(self) -> bool:
        return self.recipe.quantization == "nf4" and not self.whole

    def settled(self, name: str, default: Any) -> Any:
        """A value as the run settled it."""
        found = {str(choice.get("field")): choice.get("value") for choice in self.state.choices}
        return found.get(name) or default

    def tokenizer(self) -> Any:
        """The tokenizer as the run had it, with the run's template."""
        from tui_lab.data import templates

        found = templates.load_tokenizer(self.base, self.recipe.revision or None)
        templates.set_template(found, self.template_file)
        return found

    @property
    def template_file(self) -> str:
        """The recipe's template file; the copy that was saved with the weights where it is gone since."""
        asked = self.recipe.chat_template
        saved = self.path / "chat_template.jinja"
        return str(saved) if asked and not Path(asked).expanduser().is_file() and saved.is_file() else asked


# --- what is compared ---------------------------------------------------------------------------------


@dataclass
class Questions:
    """Fixed text that the run and the export both read."""

    rows: list[list[int]]
    prompts: list[list[int]]
    held_out: bool  # rows are the run's own validation rows
    system: str = ""  # what every conversation of the data begins with


def questions(source: Source, tokenizer: Any) -> Questions:
    """Held-out rows of the run, or plain prompts where its data cannot be read any more."""
    from tui_lab.data import templates
    from tui_lab.data.expected import prompt_of
    from tui_lab.data.masks import Unrenderable
    from tui_lab.evaluation.acquisition import HeldOutTask

    examples = []
    with contextlib.suppress(LabError):
        examples = HeldOutTask(source.recipe.changed(score_rows=CANDIDATES), source.state, tokenizer).examples
    found: list[tuple[list[int], list[int]]] = []
    for example in examples:
        with contextlib.suppress(Unrenderable, LabError):
            prompt = templates.prompt_ids(tokenizer, prompt_of(example))
            row = templates.encode_whole(tokenizer, example).input_ids
            if prompt and len(row) > 1:
                found.append((prompt, row))
    held_out = bool(found)
    if not found:
        asked = [[{"role": "user", "content": text}] for text in PLAIN_PROMPTS]
        found = [(ids, ids) for ids in (templates.prompt_ids(tokenizer, chat) for chat in asked)]
    found.sort(key=lambda pair: len(pair[0]))  # short ones are answered sooner, and fit any context
    return Questions(
        rows=[row[:ROW_TOKENS] for _, row in found[:ROWS]],
        prompts=[prompt[-PROMPT_TOKENS:] for prompt, _ in found[:ANSWERS]],
        held_out=held_out,
        system=_system(examples),
    )


def _system(examples: Sequence[Any]) -> str:
    """The system message that all conversations share; "" where they do not."""
    found = {
        str(example.messages[0]["content"])
        if example.messages and example.messages[0]["role"] == "system"
        else ""
        for example in examples
    }
    return found.pop() if len(found) == 1 else ""


def positions_kept(vocabulary: int, rows: int) -> int:
    """Positions of a row whose logits are kept, within :data:`REFERENCE_BYTES`."""
    return max(1, min(ROW_TOKENS, REFERENCE_BYTES // (4 * max(1, vocabulary) * max(1, rows))))


# --- the run's own ------------------------------------------------------------------------------------


def room(parameters: int) -> tuple[str, str]:
    """Device and dtype for whole weights beside what is running: float32 where it fits."""
    import psutil
    import torch

    needed = parameters * 4 * 1.2
    if torch.cuda.is_available() and torch.cuda.mem_get_info(0)[0] > needed:
        return "cuda", "float32"
    return "cpu", "float32" if psutil.virtual_memory().available > needed else "bfloat16"


@dataclass(frozen=True)
class Own:
    """How the run computes on this machine."""

    facts: Any  # of the device
    dtype: str
    attention: str
    words: str


def own_way(source: Source) -> Own:
    """How the run as it was trained is loaded here. Raises LabError."""
    from tui_lab.recipes.resolve import resolve
    from tui_lab.training import device

    facts, recipe = device.detect(), source.recipe
    if recipe.compute_dtype == "float16" and facts.type != "cuda":
        recipe = recipe.changed(compute_dtype="auto")
    values = resolve(recipe, facts, source.entry).values
    dtype = str(values["compute_dtype"])
    four_bit = "NF4 weights, " if source.four_bit else ""
    return Own(facts, dtype, str(values["attn_implementation"]), f"{four_bit}computed in {dtype}")


def load_own(source: Source, way: Own) -> Any:
    """The run as it was trained. Raises LabError."""
    from tui_lab.decoding.adapters import load_peft_model
    from tui_lab.models.inference import load_model, quiet_libraries
    from tui_lab.models.loading import ModelSource, load_base

    with quiet_libraries():
        if source.whole:
            return load_model(str(source.path), dtype=way.dtype)
        place = ModelSource(source.base, source.recipe.revision)
        base = load_base(place, source.recipe, way.facts, way.dtype, way.attention)
        base.config.use_cache = True  # answers are read token by token
        return load_peft_model(base.eval(), source.path, source.run.id)


def load_exact(source: Source, device: str, dtype: str) -> Any:
    """The same weights unrounded: the unquantised base with the adapter beside it. Raises LabError."""
    from tui_lab.decoding.adapters import load_peft_model
    from tui_lab.models.inference import load_model, quiet_libraries

    with quiet_libraries():
        if source.whole:
            return load_model(str(source.path), dtype=dtype, device=device)
        base = load_model(source.base, dtype=dtype, device=device, revision=source.recipe.revision)
        return load_peft_model(base, source.path, source.run.id)


def release() -> None:
    """Gives memory of a model that nothing refers to any more back."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def parameter_count(model: Any) -> int:
    """Weights of a loaded model, 4-bit ones by their elements."""
    from tui_lab.models.loading import facts

    return int(facts(model)["parameters"])


def unknown(text: Any) -> str:
    """A text from outside, for a sentence."""
    return sanitize(str(text))[:200]
