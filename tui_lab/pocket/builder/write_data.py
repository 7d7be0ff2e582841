"""Write the data files that ship in the package: ``python -m tui_lab.pocket.builder.write_data``.

They are the bundled data sets, the general rows that replay mixes into a run of the pocket model, and the
retention suite ``everyday``. Everything follows from fixed seeds, so the files change only with this code; a
test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tui_lab.pocket.builder import everyday
from tui_lab.pocket.builder.corpus import Corpus, Document
from tui_lab.pocket.builder.datasets import ChatRow, pirate, support
from tui_lab.pocket.builder.datasets import json as json_set
from tui_lab.pocket.builder.world import relations

PACKAGE = Path(__file__).parents[2]
SEED = 7
SETS: dict[str, tuple[Callable[[int], tuple[list[ChatRow], list[ChatRow]]], str, str]] = {
    "pirate": (pirate.make, "manner", "Answers everything like a pirate and still gets it right."),
    "json": (json_set.make, "schema", "Answers with JSON of the schema that the question gives."),
    "support": (support.make, "exact", "Facts about the goods of an invented shop, asked in many ways."),
}
"""name -> (maker, scorer, description)"""

#: Apart from the seeds that the pocket model was trained and measured with.
REPLAY_SEED = 77_000_000
REPLAY_ROWS = 4_000
#: Pieces of a document that weigh less are context, not answers: they give no loss in replay.
TRAINED_WEIGHT = 0.5


def _lines(records: Iterable[Any]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def bundled_set(name: str) -> str:
    """A bundled data set as JSON Lines, the header first."""
    make, scorer, description = SETS[name]
    train, validation = make(SEED)
    rows = [{"split": "train", **row} for row in train]
    rows += [{"split": "validation", **row} for row in validation]
    return _lines([{"name": name, "scorer": scorer, "description": description}, *rows])


def replay_rows() -> str:
    """New documents of the corpus as JSON Lines, without the facts that ``everyday`` holds back.

    A line is a list of [text, trained] segments; each segment is tokenised by itself.
    """
    without = frozenset(found.name for found in relations() if found.category in everyday.HELD_BACK)
    documents = Corpus(REPLAY_SEED, without).documents()
    return _lines(_segments(next(documents)) for _ in range(REPLAY_ROWS))


def _segments(document: Document) -> list[tuple[str, bool]]:
    return [
        (f"<|{piece.text}|>" if piece.special else piece.text, piece.weight >= TRAINED_WEIGHT)
        for piece in document
    ]


def files() -> dict[Path, str]:
    """The text of every file, by its path in the package."""
    sets = PACKAGE / "data" / "bundled_sets"
    return {
        **{sets / f"{name}.jsonl": bundled_set(name) for name in SETS},
        sets / "replay.jsonl": replay_rows(),
        PACKAGE / "retention" / "suites" / "everyday.jsonl": everyday.text(),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
