"""Loads an export in a fresh process and measures what it computes.

This program imports nothing of the lab, and it blocks trl and bitsandbytes: an export must work with
transformers and peft alone. ``python check.py SPEC`` reads a :class:`CheckSpec` as JSON: what to load,
token rows, conversations, and a file with the run's own logits. It prints a :class:`CheckAnswer` as JSON
on the last line of stdout: differences, greedy answers, rendered conversations, and whether the stop
tokens end an answer. :mod:`tui_lab.export.compare` judges the answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

#: transformers and peft build these classes at run time; their static types do not cover what is used here.
Model: TypeAlias = Any
Tokenizer: TypeAlias = Any
Conversation: TypeAlias = list[dict[str, str]]

#: Packages that an export must not need.
BLOCKED = ("tui_lab", "trl", "bitsandbytes")
#: The position in the answer at which a stop token is forced.
FORCED_AT = 3


@dataclass(frozen=True)
class CheckSpec:
    """What to load and what to compute. ``base`` is a folder or hub id, "" for a whole model;
    ``reference`` is a safetensors file with the logits ``exact.N`` and, optionally, ``own.N`` of row N."""

    folder: str
    base: str
    revision: str
    dtype: str
    device: str
    rows: list[list[int]]
    prompts: list[list[int]]
    positions: int
    max_new_tokens: int
    reference: str
    conversations: list[Conversation]
    template_settings: dict[str, bool]
    texts: list[str]


@dataclass(frozen=True)
class Distance:
    """The fields of :class:`tui_lab.export.records.Divergence`."""

    positions: int
    mean_kl: float
    top1_agreement: float
    max_abs: float
    relative: float


@dataclass(frozen=True)
class CheckAnswer:
    """What was measured. ``faithful`` compares with the unrounded weights, ``gap`` with the run as trained;
    ``forced`` maps each stop token to the length of an answer in which it was forced."""

    missing: list[str]
    unexpected: list[str]
    tied: bool
    faithful: Distance
    gap: Distance | None
    answers: list[list[int]]
    stop_ids: list[int]
    forced: dict[str, int]
    rendered: list[str | None]
    tokens: list[list[int]]
    imported: list[str]


def last_logits(model: Model, ids: Sequence[int], positions: int) -> Tensor:
    """The logits of the last ``positions`` tokens of a row, as float32 on the CPU: (positions, V). Logits of
    virtual tokens before the text are left out."""
    import torch

    with torch.no_grad():
        given = torch.tensor([list(ids)], device=next(model.parameters()).device)  # (1, T)
        logits = model(input_ids=given, attention_mask=torch.ones_like(given), use_cache=False).logits
    last: Tensor = logits[0, -min(positions, len(ids)) :].float().cpu()
    return last


def greedy(
    model: Model,
    ids: Sequence[int],
    max_new_tokens: int,
    *,
    stop_ids: Sequence[int] | None = None,
    pad_id: int | None = None,
    processors: Sequence[object] = (),
) -> list[int]:
    """The tokens that ``generate`` adds without sampling. ``stop_ids`` and ``pad_id`` default to the model's
    own generation settings."""
    import torch
    from transformers import LogitsProcessorList

    given = torch.tensor([list(ids)], device=next(model.parameters()).device)
    settings: dict[str, object] = {}
    if stop_ids is not None:
        settings["eos_token_id"] = list(stop_ids) or None
    if pad_id is not None:
        settings["pad_token_id"] = pad_id
    with torch.no_grad():
        out = model.generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=LogitsProcessorList(processors),
            **settings,
        )
    return [int(token) for token in out[0, len(ids) :]]


class Differences:
    """Accumulates the distance between two sets of logits over many rows."""

    def __init__(self) -> None:
        self.positions = self.same = 0
        self.kl = self.largest = self.square = self.variance = 0.0

    def add(self, own: Tensor, other: Tensor) -> None:
        """Adds the logits (T, V) of the run and of the export. Where the vocabularies are padded to different
        sizes, only the common entries count."""
        width = min(own.shape[-1], other.shape[-1])
        own, other = own[:, :width].double(), other[:, :width].double()
        log_p, log_q = own.log_softmax(-1), other.log_softmax(-1)
        # a constant added to all logits of a position changes no probability
        apart = (own - own.mean(-1, keepdim=True)) - (other - other.mean(-1, keepdim=True))
        self.positions += len(own)
        self.kl += float((log_p.exp() * (log_p - log_q)).sum())
        self.same += int((own.argmax(-1) == other.argmax(-1)).sum())
        self.largest = max(self.largest, float(apart.abs().max()))
        self.square += float(apart.square().mean(-1).sum())
        self.variance += float(own.var(-1, unbiased=False).sum())

    def result(self) -> Distance:
        """The distance over all positions added so far."""
        count = max(1, self.positions)
        return Distance(
            positions=self.positions,
            mean_kl=max(0.0, self.kl / count),
            top1_agreement=self.same / count,
            max_abs=self.largest,
            relative=(self.square / max(self.variance, 1e-30)) ** 0.5,
        )


def load(spec: CheckSpec) -> tuple[Model, list[str], list[str], bool]:
    """The exported model, the missing and unexpected weights, and whether its embeddings are tied."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    folder = Path(spec.folder)
    revision = {"revision": spec.revision} if spec.base and spec.revision else {}
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        spec.base or spec.folder,
        output_loading_info=True,
        dtype=getattr(torch, spec.dtype),
        trust_remote_code=False,
        use_safetensors=True,
        **revision,
    )
    model, info = loaded
    is_tied = tied(model)
    if spec.base:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, spec.folder, is_trainable=False)
    if (folder / "generation_config.json").is_file():
        settings = GenerationConfig.from_pretrained(spec.folder)
        model.generation_config = settings
        if spec.base:
            model.get_base_model().generation_config = settings
    missing, unexpected = (sorted(info.get(name) or []) for name in ("missing_keys", "unexpected_keys"))
    return model.to(spec.device).eval(), missing, unexpected, is_tied


def tied(model: Model) -> bool:
    """Whether the output layer shares its weights with the input embeddings."""
    head = model.get_output_embeddings()
    embeddings = model.get_input_embeddings()
    return head is not None and head.weight.data_ptr() == embeddings.weight.data_ptr()


def render(
    tokenizer: Tokenizer, conversations: Sequence[Conversation], settings: dict[str, bool]
) -> list[str | None]:
    """Each conversation through the chat template, without and with the prompt for an answer; None where the
    template raises an error."""
    found: list[str | None] = []
    for messages in conversations:
        for prompt in (False, True):
            try:
                text = tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=prompt, **settings
                )
            except Exception:  # noqa: BLE001 (templates raise any error)
                found.append(None)
            else:
                found.append(str(text))
    return found


def configured_stop_ids(model: Model) -> list[int]:
    """The stop tokens of the model's generation settings."""
    ids = model.generation_config.eos_token_id
    return [ids] if isinstance(ids, int) else list(ids or [])


def forced_length(model: Model, ids: Sequence[int], stop: int) -> int:
    """The length of an answer in which ``stop`` is the most probable token at position :data:`FORCED_AT` and
    no other stop token is possible before: it is FORCED_AT if ``stop`` ends an answer."""
    import torch

    stops = configured_stop_ids(model)
    calls = 0

    def force(_input_ids: Tensor, scores: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == FORCED_AT:
            scores = torch.full_like(scores, -1e4)
            scores[:, stop] = 0.0
        else:
            scores = scores.clone()
            scores[:, stops] = -1e4
        return scores

    return len(greedy(model, ids, FORCED_AT + 3, processors=[force]))


def check(spec: CheckSpec) -> CheckAnswer:
    """Measures the export that ``spec`` names."""
    from safetensors import safe_open
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec.folder, trust_remote_code=False)
    model, missing, unexpected, is_tied = load(spec)
    faithful, gap = Differences(), Differences()
    with safe_open(spec.reference, framework="pt") as reference:
        names = set(reference.keys())
        for at, ids in enumerate(spec.rows):
            logits = last_logits(model, ids, spec.positions)
            faithful.add(reference.get_tensor(f"exact.{at}"), logits)
            if f"own.{at}" in names:
                gap.add(reference.get_tensor(f"own.{at}"), logits)
    stops = configured_stop_ids(model)
    return CheckAnswer(
        missing=missing,
        unexpected=unexpected,
        tied=is_tied,
        faithful=faithful.result(),
        gap=gap.result() if gap.positions else None,
        answers=[greedy(model, ids, spec.max_new_tokens) for ids in spec.prompts],
        stop_ids=stops,
        forced={str(stop): forced_length(model, spec.prompts[0], stop) for stop in stops},
        rendered=render(tokenizer, spec.conversations, spec.template_settings),
        tokens=[tokenizer(text, add_special_tokens=False)["input_ids"] for text in spec.texts],
        imported=[name for name in BLOCKED if sys.modules.get(name) is not None],
    )


def main(arguments: list[str]) -> int:
    """Checks the export that the JSON file ``arguments[0]`` names."""
    for name in BLOCKED:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails, looking for it finds nothing
    spec = CheckSpec(**json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    print(json.dumps(asdict(check(spec))))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
