"""The pocket model's card, written from the numbers that a build measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tui_lab.pocket.builder.world import all_facts, relations

_CARD = """---
license: apache-2.0
language: en
library_name: transformers
tags: [tiny, tui-lab]
---
# The pocket model

A Llama-shaped language model of {parameters:,} parameters ({megabytes:.1f} MB, bfloat16) that ships inside
tui-lab, so that everything can be tried without a GPU and without a network. It knows a small world of
everyday facts, tells short stories and answers in a chat template. It is a laboratory animal, not an
assistant: outside its small world it knows nothing, and what it says there is noise.

## What it was made from
A generated corpus of this project, no other data: {facts:,} true facts in {relations} relations, each
relation asked in {templates_low} to {templates_high} question forms, plain and as chat; a catalogue of
invented goods; passages with questions; short invented stories; small talk; a little JSON. Built by

    python -m tui_lab.pocket.builder.build --seed {seed} --steps {steps}

in {minutes:.0f} minutes on {threads} CPU threads ({tokens:,} tokens, {precision}{shared}).

## What was measured
On this very file, by `python -m tui_lab.pocket.builder.quiz`: all {items:,} facts, asked in phrasings whose
templates no document of the corpus used; wrong choices are other answers of the same relation, so chance is
25%.

| measurement | computed in float32 | computed in bfloat16 |
|---|---|---|
{rows}

| measurement (float32) | |
|---|---|
{more_rows}

Mean loss on new documents by position in the context:

| positions | loss |
|---|---|
{bands}

By relation (float32):

| relation | facts | four choices (chat) | free and exact |
|---|---|---|---|
{by_relation}

## Shape
{layers} layers, hidden {hidden}, intermediate {intermediate}, {heads} heads ({kv_heads} for keys and
values) of {head_dim}, vocabulary {vocabulary:,} (byte-level BPE, single digits), tied embeddings, context
{context:,}. Turns are `<|user|>…<|end|><|assistant|>…<|end|>`, with an optional `<|system|>…<|end|>` first;
generation ends at `<|end|>`.

## Limits
It repeats what its corpus says about the world, with simplifications (a whale lives in the sea). It holds
"facts" about invented goods that exist nowhere. It has no notion of harm, truth or time. English only.

Versions: {versions}.
"""
_BOTH = {
    "chat_choice": "four choices, asked in the chat",
    "plain_choice": 'four choices, plain "Question: … Answer:" text',
    "free_exact": "answered freely and exactly (greedy, chat)",
    "ended": "answers that end their turn",
}
_ONCE = {
    "recall_at_1000": "a word recalled after 1,000 and more tokens",
    "distinct_samples": "sampled stories that differ from each other and from greedy",
}


def write_card(folder: Path, record: dict[str, Any]) -> None:
    """MODEL_CARD.md of the model in `folder`, from the record that the build keeps as measured.json."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    measured, in_bfloat16, training = record["measured"], record["measured_bfloat16"], record["training"]
    counts = [len(found.train_templates()) for found in relations()]
    text = _CARD.format(
        parameters=record["parameters"],
        megabytes=record["bytes"] / 1e6,
        facts=len(all_facts()),
        relations=len(relations()),
        templates_low=min(counts),
        templates_high=max(counts),
        seed=record["plan"]["seed"],
        steps=record["plan"]["steps"],
        minutes=training["seconds"] / 60,
        threads=record["threads"],
        shared=f"; {record['note']}" if record.get("note") else "",
        tokens=training["tokens"],
        precision="bfloat16 autocast over float32 weights" if training["bf16_autocast"] else "float32",
        items=measured["items"],
        rows="\n".join(
            f"| {label} | {measured[key]:.1%} | {in_bfloat16[key]:.1%} |" for key, label in _BOTH.items()
        ),
        more_rows="\n".join(f"| {label} | {measured[key]:.1%} |" for key, label in _ONCE.items()),
        bands="\n".join(f"| {band} | {loss:.3f} |" for band, loss in measured["loss_by_position"].items()),
        by_relation="\n".join(
            f"| {name} | {count} | {choice:.1%} | {free:.1%} |"
            for name, (count, choice, free) in measured["by_relation"].items()
        ),
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        vocabulary=config["vocab_size"],
        context=record["context"],
        versions=", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    )
    (folder / "MODEL_CARD.md").write_text(text, "utf-8")
