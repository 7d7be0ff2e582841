"""The records of a retention suite: `Item`, `Suite` and `SuiteInfo`, the fixed subset for a limit, and the
fingerprint by which cached baselines recognise the same items. No tensors, tokens or files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct

from tui_lab.data.rows import ChatMessage

SuiteKind = Literal["choice", "perplexity", "generate", "pairs", "agreement"]
KINDS: tuple[SuiteKind, ...] = ("choice", "perplexity", "generate", "pairs", "agreement")
METRICS = (
    "acc",
    "acc_norm",
    "mc2",
    "mcc",
    "f1",
    "answer_f1",
    "perplexity",
    "pass",
    "pair_preference",
    "agreement",
)


@dataclass(frozen=True)
class Item:
    """One item to score. The fields that are used depend on the suite's kind:

    - choice: `context` and every one of `continuations`; `answers` are the right ones.
    - pairs: the same with two continuations, the benign one first (`answers` is (0,)).
    - agreement: the same two options after two `contexts`, so four continuations: those of the first context,
      then those of the second in the same order. Nothing is right or wrong; `answers` is ().
    - perplexity: `continuations[0]` is the whole document and `context` is ""; `meta["words"]` and
      `meta["bytes"]` are the sizes of the original document, by which its log-likelihood is divided.
    - generate: no continuations; the answer to `messages` (or `context`) of at most
      `meta["max_new_tokens"]` tokens is scored by `checks.py`, which reads `meta["checks"]`.

    Asked as a chat, `messages` replace `context`, and each continuation loses its leading space: a turn
    begins with its first word.
    """

    id: str
    context: str
    continuations: tuple[str, ...]  # the scored text, with the leading space
    answers: tuple[int, ...]  # indices of right continuations: several for mc2, none for documents
    category: str = ""
    question: str = ""  # for people
    choices: tuple[str, ...] = ()  # for people; acc_norm divides by their length in characters
    messages: tuple[ChatMessage, ...] = ()
    contexts: tuple[str, ...] = ()  # one for each continuation, where they differ; then `context` is not read
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """A set of items with its provenance. `held_back` names the categories that replay leaves out;
    retention is reported on them separately. `sha256` is over the items and how they are scored."""

    name: str
    version: str
    title: str
    description: str
    kind: SuiteKind
    metric: str
    items: tuple[Item, ...]
    chance: float | None
    licence: str
    source: str
    sha256: str
    warnings: tuple[str, ...] = ()
    held_back: tuple[str, ...] = ()
    scorer: str = ""  # the classifier or judge that scored the answers; "" for the suite's own rules

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories in the order of their first item, without the empty one."""
        return tuple(dict.fromkeys(item.category for item in self.items if item.category))


@dataclass(frozen=True)
class SuiteInfo:
    """A suite that can be loaded by name, without its items. `items` is 0 where only the hub knows."""

    name: str
    version: str
    title: str
    description: str
    kind: SuiteKind
    metric: str
    chance: float | None
    licence: str
    source: str
    bundled: bool
    items: int = 0


def fingerprint(kind: str, metric: str, items: Sequence[Item]) -> str:
    """SHA-256 over everything that changes a score; ids, order and wording count, titles do not."""
    digest = hashlib.sha256(f"{kind}\0{metric}\n".encode())
    for item in items:
        row = [
            item.id,
            item.context,
            item.continuations,
            item.answers,
            item.category,
            item.choices,
            item.messages,
            dict(item.meta),
            *([item.contexts] if item.contexts else []),  # suites without them keep their fingerprint
        ]
        text = json.dumps(row, ensure_ascii=True, sort_keys=True)  # ASCII: lone surrogates have no UTF-8
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def chance_of(items: Sequence[Item]) -> float:
    """The score of guessing: the mean over the items of right choices by choices, or of the choices' F1."""
    return sum(
        sum(item.meta["f1"]) / len(item.meta["f1"])
        if "f1" in item.meta
        else len(item.answers) / len(item.continuations)
        for item in items
    ) / len(items)


def subset(items: Sequence[Item], limit: int) -> tuple[Item, ...]:
    """At most `limit` items (0: all): always the same ones, with categories as equal as possible.

    Categories alternate, each in the order of the hashes of its item ids, so there is no seed and a larger
    limit only adds items. The order of the suite is unchanged."""
    if limit <= 0 or limit >= len(items):
        return tuple(items)
    waiting: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        waiting.setdefault(item.category, []).append(index)
    queues = [
        sorted(indices, key=lambda i: hashlib.sha256(items[i].id.encode("utf-8", "replace")).digest())
        for _, indices in sorted(waiting.items())
    ]
    turns = [(turn, which, index) for which, queue in enumerate(queues) for turn, index in enumerate(queue)]
    chosen = sorted(index for _, _, index in sorted(turns)[:limit])
    return tuple(items[index] for index in chosen)


class BenchmarkSource(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a standard suite comes from and how it is scored: one table of ``standard.toml``.

    ``hub`` and ``config`` name the data set on the hub ("" where only local files will do). ``splits`` have
    the answers, best first; ``shots`` have the rows of few-shot examples. ``version`` is that of the task in
    lm-evaluation-harness; ``chance`` the accuracy of guessing, 0 to 1; ``items`` 0 where unknown.

    Where ``prompt`` is not "" it and ``choices`` are templates (``template.py``); ``label`` names the columns
    that may hold the right answer, ``labels`` its index by the data set's words, ``aliases`` other names of
    columns, ``category`` the column of an item's category."""

    title: str
    description: str
    hub: str
    splits: tuple[str, ...]
    version: str
    metric: str
    licence: str
    source: str = ""  # that of the hub
    config: str | None = None
    shots: tuple[str, ...] = ()
    kind: SuiteKind = "choice"
    chance: float | None = None
    items: int = 0
    prompt: str = ""
    choices: tuple[str, ...] = ()
    label: tuple[str, ...] = ("label",)
    labels: dict[str, int] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    category: str = ""
