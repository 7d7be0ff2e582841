"""Loads an export as its user would, and compares it with the run: a program of its own that imports nothing
of the lab, only transformers and peft (trl and bitsandbytes are kept out, so that nothing depends on them).

``python export_check.py SPEC`` reads a JSON file: what to load, rows of tokens, conversations, and the file
with the run's own logits. It answers with one JSON object on the last line of stdout: differences, greedy
answers, rendered conversations, whether end-of-turn ends an answer. Whoever asked judges."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: What must not be needed to use an export.
KEPT_OUT = ("tui_lab", "trl", "bitsandbytes")
#: The forced end of turn comes as this token of the answer.
FORCED_AT = 3


def last_logits(model: Any, ids: Sequence[int], positions: int) -> Any:
    """The logits of the last ``positions`` of a row, in float32 on the CPU: (positions, V). Virtual tokens
    that an adapter puts in front have logits too; those are left out with the rest."""
    import torch

    with torch.no_grad():
        given = torch.tensor([list(ids)], device=next(model.parameters()).device)
        found = model(input_ids=given, attention_mask=torch.ones_like(given), use_cache=False).logits
    return found[0, -min(positions, len(ids)) :].float().cpu()


def greedy(model: Any, ids: Sequence[int], max_new_tokens: int, **how: Any) -> list[int]:
    """The tokens that ``generate`` adds without sampling; what ends an answer is the model's own setting
    unless ``how`` says otherwise."""
    import torch

    given = torch.tensor([list(ids)], device=next(model.parameters()).device)
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
            **how,
        )
    return [int(token) for token in out[0, len(ids) :]]


class Differences:
    """How far two sets of logits are apart, over all positions added: mean KL(run ‖ export) in nats, share of
    positions with the same most probable token, greatest and mean square difference."""

    def __init__(self) -> None:
        self.positions = self.same = 0
        self.kl = self.largest = self.square = self.variance = 0.0

    def add(self, own: Any, other: Any) -> None:
        """Takes logits (T, V) of the run and of the export. Entries that are padding of the vocabulary in one
        of them are left out."""
        width = min(own.shape[-1], other.shape[-1])
        own, other = own[:, :width].double(), other[:, :width].double()
        log_p, log_q = own.log_softmax(-1), other.log_softmax(-1)
        # a constant on all logits of a position changes no probability
        apart = (own - own.mean(-1, keepdim=True)) - (other - other.mean(-1, keepdim=True))
        self.positions += len(own)
        self.kl += float((log_p.exp() * (log_p - log_q)).sum())
        self.same += int((own.argmax(-1) == other.argmax(-1)).sum())
        self.largest = max(self.largest, float(apart.abs().max()))
        self.square += float(apart.square().mean(-1).sum())
        self.variance += float(own.var(-1, unbiased=False).sum())

    def result(self) -> dict[str, Any]:
        """``relative``: the root mean square difference over the spread of the run's logits."""
        count = max(1, self.positions)
        return {
            "positions": self.positions,
            "mean_kl": max(0.0, self.kl / count),
            "top1_agreement": self.same / count,
            "max_abs": self.largest,
            "relative": (self.square / max(self.variance, 1e-30)) ** 0.5,
        }


def load(spec: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The exported model and what was noticed on loading it."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    folder = Path(spec["folder"])
    how: dict[str, Any] = {
        "dtype": getattr(torch, spec["dtype"]),
        "trust_remote_code": False,
        "use_safetensors": True,
    }
    if spec.get("gguf"):
        how = {"dtype": how["dtype"], "gguf_file": spec["gguf"]}
    base = spec.get("base") or str(folder)
    if spec.get("base") and spec.get("revision"):
        how["revision"] = spec["revision"]
    model: Any
    info: dict[str, Any]
    loaded: Any = AutoModelForCausalLM.from_pretrained(base, output_loading_info=True, **how)
    model, info = loaded
    noticed = {
        "missing": sorted(info.get("missing_keys") or []),
        "unexpected": sorted(info.get("unexpected_keys") or []),
        "architecture": type(model).__name__,
        "tied": tied(model),
    }
    if spec.get("base"):
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(folder), is_trainable=False)
    if (folder / "generation_config.json").is_file():
        settings = GenerationConfig.from_pretrained(str(folder))
        model.generation_config = settings
        if spec.get("base"):
            model.get_base_model().generation_config = settings
    return model.to(spec["device"]).eval(), noticed


def tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    inside = model.get_input_embeddings()
    return head is not None and head.weight.data_ptr() == inside.weight.data_ptr()


def rendered(tokenizer: Any, conversations: Sequence[Any], settings: dict[str, Any]) -> list[str | None]:
    """Each conversation through the template, without and with the prompt to answer; None: it refuses."""
    found: list[str | None] = []
    for messages in conversations:
        for prompt in (False, True):
            try:
                text = tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=prompt, **settings
                )
            except Exception:  # templates raise what they like
                found.append(None)
            else:
                found.append(str(text))
    return found


def forced_end(model: Any, ids: Sequence[int], stop: int) -> int:
    """How many tokens an answer has when ``stop`` is made the most probable token at place
    :data:`FORCED_AT`: that many where it ends an answer."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    class Force(LogitsProcessor):
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            self.calls += 1
            if self.calls == FORCED_AT:
                scores = torch.full_like(scores, -1e4)
                scores[:, stop] = 0.0
            else:
                scores = scores.clone()
                scores[:, spec_stops] = -1e4  # no other end before
            return scores

    settings = model.generation_config.eos_token_id
    spec_stops = [settings] if isinstance(settings, int) else list(settings or [])
    return len(greedy(model, ids, FORCED_AT + 3, logits_processor=LogitsProcessorList([Force()])))


def check(spec: dict[str, Any]) -> dict[str, Any]:
    """Everything that was asked about an export."""
    from safetensors import safe_open
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec["folder"], trust_remote_code=False)
    model, noticed = load(spec)
    faithful, gap = Differences(), Differences()
    with safe_open(spec["reference"], framework="pt") as kept:
        names = set(kept.keys())
        for at, ids in enumerate(spec["rows"]):
            found = last_logits(model, ids, spec["positions"])
            faithful.add(kept.get_tensor(f"exact.{at}"), found)
            if f"own.{at}" in names:
                gap.add(kept.get_tensor(f"own.{at}"), found)
    answers = [greedy(model, ids, spec["max_new_tokens"]) for ids in spec["prompts"]]
    settings = model.generation_config
    ends = settings.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return {
        **noticed,
        "faithful": faithful.result(),
        "gap": gap.result() if gap.positions else None,
        "answers": answers,
        "stop_ids": ends,
        "forced": {str(stop): forced_end(model, spec["prompts"][0], stop) for stop in ends},
        "rendered": rendered(tokenizer, spec["conversations"], spec["settings"]),
        "tokens": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in spec["texts"]],
    }


def main(arguments: list[str]) -> int:
    """Answers for one export."""
    for name in KEPT_OUT:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails, looking for it finds nothing
    spec = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    found = check(spec)
    found["imported"] = [name for name in KEPT_OUT if sys.modules.get(name) is not None]
    print(json.dumps(found))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
