"""Preparing a data set against the tokenizer's own batch speed and against ``datasets``: the same chats,
rendered beforehand for both of these, in one run. Seconds of the processor, since other programs may share
the machine. What preparing does more: reading, rendering, label masks, repetitions, the split."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import Figure
from tests.paths import SHARED
from tui_lab.data import formats, templates
from tui_lab.data.prepare import Preparation, prepare
from tui_lab.pocket import MODEL_DIR

MEGABYTES = 5
PREVIEWED_MEGABYTES = 300
_WORDS = [f"{a}{b}{c}" for a in "bdfglmnrst" for b in "aeiou" for c in "dklmnprst"]


_MEASURED = """
import resource, subprocess, sys
command = [sys.executable, "-m", "tui_lab.data.preview"]
subprocess.run(command, stdin=sys.stdin, stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def write_chats(path: Path, megabytes: int) -> None:
    """Chats of about a kilobyte each, no two alike."""
    rng = random.Random(0)
    with path.open("w") as file:
        while file.tell() < megabytes * 1_000_000:
            question, answer = (" ".join(rng.choices(_WORDS, k=count)) for count in (40, 180))
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")


def write_questions(path: Path, megabytes: int) -> None:
    """Many questions on few long passages: rows that nearly repeat each other, and do not."""
    rng = random.Random(1)
    passages = [" ".join(rng.choices(_WORDS, k=150)) for _ in range(150 * megabytes)]
    with path.open("w") as file:
        while file.tell() < megabytes * 1_000_000:
            passage, answer = rng.choice(passages), " ".join(rng.choices(_WORDS, k=rng.randint(3, 30)))
            question = f"{passage}\n\nWhat does {rng.choice(_WORDS)} do, {rng.randint(1, 99)}?"
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")


def _times_bare(path: Path, tokenizer: Any) -> tuple[int, float, float]:
    """Rows, seconds of the tokenizer's own batches, and seconds of preparing."""
    renderer = templates.renderer_of(tokenizer)
    texts = [renderer.render(row.messages or ()) for row in formats.open_data(str(path)).train]
    tokenizer(texts[:100], add_special_tokens=False)  # starts the tokenizer's threads
    began = time.process_time()
    for at in range(0, len(texts), 1000):
        tokenizer(texts[at : at + 1000], add_special_tokens=False, verbose=False)
    bare = time.process_time() - began
    began = time.process_time()
    prepare(formats.open_data(str(path)), tokenizer, Preparation(1024))
    return len(texts), bare, time.process_time() - began


def run() -> Iterator[Figure]:
    """The figures."""
    from datasets import Dataset

    tokenizer_place = SHARED / "tokenizers" / "qwen2"
    tokenizer = templates.load_tokenizer(tokenizer_place if tokenizer_place.is_dir() else MODEL_DIR)
    templates.set_template(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chats.jsonl"
        write_chats(path, MEGABYTES)
        rows, bare, ours = _times_bare(path, tokenizer)
        renderer = templates.renderer_of(tokenizer)
        texts = [renderer.render(row.messages or ()) for row in formats.open_data(str(path)).train]
        began = time.process_time()
        Dataset.from_dict({"text": texts}).map(
            lambda rows: tokenizer(rows["text"], add_special_tokens=False), batched=True
        )
        by_datasets = time.process_time() - began
        yield Figure("rows prepared", rows, "rows")
        yield Figure("the tokenizer's batches", bare, "s CPU")
        yield Figure("datasets.map with the tokenizer", by_datasets, "s CPU")
        yield Figure("preparing", ours, "s CPU")
        yield Figure("preparing, times the tokenizer's batches", ours / bare, "x", 2.0)
        yield Figure("preparing, times datasets.map", ours / by_datasets, "x")
        write_questions(path, MEGABYTES)
        _, bare, ours = _times_bare(path, tokenizer)
        yield Figure("questions on passages, times the tokenizer's batches", ours / bare, "x", 2.0)
        write_chats(path, PREVIEWED_MEGABYTES)
        request = json.dumps({"data": str(path), "rows": 3})
        # measured by a small process: a child's peak begins with the memory of the process that forks it
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED], input=request, text=True, stdout=subprocess.PIPE
        )
        seconds, kibibytes = map(float, done.stdout.split())
        yield Figure(f"preview of {PREVIEWED_MEGABYTES} MB", seconds, "s CPU", 2.0)
        yield Figure(f"preview of {PREVIEWED_MEGABYTES} MB, memory", kibibytes / 1024, "MiB", 300.0)
