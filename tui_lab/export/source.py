"""What an export starts from: the weights that a run saved, their base model, and the fixed text on which the
export is compared with the run.

Two references are computed: the run as it was trained (in 4 bits if it was), and the same weights
unrounded in float32, which an export must reproduce.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.export.check import Conversation, Model, Tokenizer
from tui_lab.hardware.memory_budget import free_bytes
from tui_lab.hardware.precision import QUANTIZATIONS
from tui_lab.models import catalog
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder
from tui_lab.runs.folder import Run
from tui_lab.runs.state import RunState, Watcher

if TYPE_CHECKING:
    from tui_lab.data.formats import Example
    from tui_lab.hardware.device import DeviceFacts

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
VIRTUAL_TOKEN_TYPES = ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING")
#: Held-out rows that are compared, and the tokens of each.
ROWS, ROW_TOKENS = 8, 64
#: The rows are the ones with the shortest prompts among this many; prompts are cut to PROMPT_TOKENS.
CANDIDATES, PROMPT_TOKENS = 64, 256
#: Greedy answers that are compared, and the tokens of each.
ANSWERS, ANSWER_TOKENS = 6, 32
#: The limit for the logits of one reference file: a vocabulary of 256,000 tokens takes 1 MB per position.
REFERENCE_BYTES = 192 << 20
#: The prompts that are compared where the run's data is gone.
PLAIN_PROMPTS = (
    "What is the capital of France?",
    "Name three colours.",
    "How many legs does a spider have?",
    "Write one sentence about the sea.",
)
#: Conversations that both the run's template and the export's render.
CONVERSATIONS: tuple[Conversation, ...] = (
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
#: Texts that both tokenizers split.
TEXTS = ("Hello there", " a  b\tc\n", "Grüße 你好 🙂", "1234.5 + x_y = <|end|>")


@dataclass(frozen=True)
class SavedRun:
    """The weights that a run saved. ``path`` is the folder of the adapter or of the fully tuned model; at a
    strength other than 1 it is a scaled copy."""

    run: Run
    recipe: Recipe
    state: RunState
    entry: catalog.Entry
    path: Path
    is_full_model: bool
    adapter_config: dict[str, object] = field(default_factory=dict)

    @classmethod
    def open(cls, run: Run) -> SavedRun:
        """Reads what a run saved. Raises LabError if there is nothing to export."""
        if folder.is_locked(run):
            raise LabError(f"run {run.id} is still in progress: export it when it has ended")
        recipe, state = run.recipe(), Watcher(run).read_all()
        entry = catalog.find(recipe.model, recipe.allow_large)
        if (run.adapter_path / CONFIG).is_file():
            try:
                config = input_files.read_json(run.adapter_path / CONFIG)
            except (OSError, ValueError):
                config = None
            if not isinstance(config, dict):
                raise LabError(f"run {run.id}: its adapter's {CONFIG} cannot be read; resume the run")
            if not (run.adapter_path / WEIGHTS).is_file():
                raise LabError(f"run {run.id}: its adapter has no {WEIGHTS}; resume the run to save it again")
            return cls(run, recipe, state, entry, run.adapter_path, False, config)
        if (run.model_path / "config.json").is_file():
            return cls(run, recipe, state, entry, run.model_path, True)
        raise LabError(f"run {run.id} has saved no adapter and no model yet; let it finish or resume it")

    @property
    def base(self) -> str:
        """The base model: a folder or a hub id."""
        return self.entry.loadable

    @property
    def base_is_folder(self) -> bool:
        return Path(self.base).is_dir()

    @property
    def base_name(self) -> str:
        """The display name of the base model; it never contains a path of this machine."""
        return Path(self.base).name if self.entry.where == "folder" else self.entry.id

    @property
    def has_virtual_tokens(self) -> bool:
        """Whether the adapter consists of virtual tokens."""
        return str(self.adapter_config.get("peft_type")) in VIRTUAL_TOKEN_TYPES

    @property
    def rounding(self) -> str:
        """How the run's weights of its base are rounded, for people; see :attr:`quantized`."""
        stored = {"bnb4": "nf4", "bnb8": "int8"}.get(self.entry.form)
        return QUANTIZATIONS[stored or self.recipe.quantization]

    @property
    def quantized(self) -> bool:
        """Whether the run computed with rounded weights of its base."""
        rounded = self.recipe.quantization != "none" or self.entry.form in ("bnb4", "bnb8")
        return rounded and not self.is_full_model

    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer with the run's chat template, which has the run's settings as its defaults.
        Raises LabError."""
        from tui_lab.data import prompt_settings, templates

        tokenizer = templates.load_for(self.base, self.recipe.revision, self.path)
        if not (self.path / templates.TEMPLATE_FILE).is_file():
            templates.set_template(tokenizer, self.recipe.chat_template)
        settings = templates.settings_of(tokenizer)
        tokenizer.chat_template = prompt_settings.with_defaults(tokenizer.chat_template, settings)
        return tokenizer


# --- what is compared ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparedText:
    """Token rows and prompts that the run and the export both read. ``held_out``: they are the run's own
    validation rows; ``system`` is the system message that all rows of the data share, or ""."""

    rows: list[list[int]]
    prompts: list[list[int]]
    held_out: bool
    system: str = ""


def compared_text(source: SavedRun, tokenizer: Tokenizer) -> ComparedText:
    """Held-out rows of the run, or plain prompts where its data cannot be read any more."""
    from tui_lab.data import row_tokens
    from tui_lab.data.masks import Unrenderable
    from tui_lab.evaluation.acquisition import HeldOutTask

    examples: Sequence[Example] = []
    with contextlib.suppress(LabError):
        examples = HeldOutTask(
            source.recipe.changed(score_rows=CANDIDATES), source.state, tokenizer, source.path
        ).examples
    pairs: list[tuple[list[int], list[int]]] = []
    for example in examples:
        with contextlib.suppress(Unrenderable, LabError):
            prompt = row_tokens.prompt_ids(tokenizer, example)
            row = row_tokens.encode(tokenizer, example).input_ids
            if prompt and len(row) > 1:
                pairs.append((prompt, row))
    held_out = bool(pairs)
    if not pairs:
        chats = [[{"role": "user", "content": text}] for text in PLAIN_PROMPTS]
        pairs = [(ids, ids) for ids in (row_tokens.prompt_ids(tokenizer, chat) for chat in chats)]
    pairs.sort(key=lambda pair: len(pair[0]))  # short prompts are fast and fit any context
    return ComparedText(
        rows=[row[:ROW_TOKENS] for _, row in pairs[:ROWS]],
        prompts=[prompt[-PROMPT_TOKENS:] for prompt, _ in pairs[:ANSWERS]],
        held_out=held_out,
        system=_shared_system_message(examples),
    )


def _shared_system_message(examples: Sequence[Example]) -> str:
    """The system message that all conversations share; "" if they do not share one."""
    found = {
        str(example.messages[0]["content"])
        if example.messages and example.messages[0]["role"] == "system"
        else ""
        for example in examples
    }
    return found.pop() if len(found) == 1 else ""


def compared_positions(vocabulary: int, rows: int) -> int:
    """The positions per row whose logits are stored, within :data:`REFERENCE_BYTES` in float32."""
    return max(1, min(ROW_TOKENS, REFERENCE_BYTES // (4 * max(1, vocabulary) * max(1, rows))))


# --- loading ------------------------------------------------------------------------------------------


def device_for_exact(parameters: int) -> tuple[str, str]:
    """Device and dtype for unquantised weights beside what is running: float32 where it fits."""
    import torch

    needed = parameters * 4 * 1.2
    if torch.cuda.is_available() and (free_bytes("cuda") or 0) > needed:
        return "cuda", "float32"
    return "cpu", "float32" if (free_bytes("cpu") or 0) > needed else "bfloat16"


@dataclass(frozen=True)
class TrainedSetup:
    """How the run computes on this machine."""

    device: DeviceFacts
    dtype: str
    attention: str
    description: str


def trained_setup(source: SavedRun) -> TrainedSetup:
    """How the run as it was trained is loaded on this machine. Raises LabError."""
    from tui_lab.recipes.resolve import resolve
    from tui_lab.training import device

    found, recipe = device.detect(), source.recipe
    if recipe.compute_dtype == "float16" and found.type != "cuda":
        recipe = recipe.changed(compute_dtype="auto")
    values = resolve(recipe, found, source.entry).values
    dtype = values.compute_dtype
    rounded = f"{source.rounding} weights, " if source.quantized else ""
    return TrainedSetup(found, dtype, values.attn_implementation, f"{rounded}computed in {dtype}")


def load_as_trained(source: SavedRun, setup: TrainedSetup) -> Model:
    """The run as it was trained. Raises LabError."""
    from tui_lab.decoding.adapters import load_peft_model
    from tui_lab.models import dynamic_4bit
    from tui_lab.models.loading import ModelSource, Precision, load_model, quiet_libraries
    from tui_lab.training.base_model import precision_of

    large = source.recipe.allow_large
    with quiet_libraries():
        if source.is_full_model:
            return load_model(ModelSource(str(source.path)), Precision(setup.dtype), allow_large=large)
        place = ModelSource(source.base, source.recipe.revision)
        base = load_model(
            place,
            precision_of(source.recipe, setup.dtype, unquantized=dynamic_4bit.names_of(source.run.path)),
            device=setup.device.type,
            attention=setup.attention,
            allow_large=large,
        )
        base.config.use_cache = True  # answers are decoded token by token
        return load_peft_model(base, source.path, source.run.id)


def load_exact(source: SavedRun, device: str, dtype: str) -> Model:
    """The same weights unrounded: the unquantised base with the adapter. Raises LabError."""
    from tui_lab.decoding.adapters import load_peft_model
    from tui_lab.models.loading import ModelSource, Precision, load_model, quiet_libraries

    with quiet_libraries():
        if source.is_full_model:
            place = ModelSource(str(source.path))
        else:
            place = ModelSource(source.base, source.recipe.revision)
        model = load_model(
            place,
            Precision(dtype, unquantized=True),
            device=device,
            allow_large=source.recipe.allow_large,
        )
        if source.is_full_model:
            return model
        return load_peft_model(model, source.path, source.run.id)


def parameter_count(model: Model) -> int:
    """The number of weights of a loaded model; 4-bit weights count once each."""
    from tui_lab.models.module_stats import module_stats

    return module_stats(model).parameters
