"""The classes of rows whose answers are labels, and their weights in the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tui_lab.core.errors import LabError
from tui_lab.data.labels import MOST_LABELS, balanced_weights
from tui_lab.data.row_tokens import IGNORED
from tui_lab.data.rows import TokenRow
from tui_lab.training.types import Tokenizer


@dataclass(frozen=True)
class ClassWeights:
    """``numbers``: the class of each row; ``names`` and ``weights``: of each class, the most frequent
    first."""

    numbers: list[int]
    names: list[str]
    weights: list[float]

    @property
    def text(self) -> str:
        """The weights in words."""
        return ", ".join(
            f"{name} {weight:.3g}" for name, weight in zip(self.names, self.weights, strict=True)
        )


def class_weights(rows: Sequence[TokenRow], tokenizer: Tokenizer) -> ClassWeights:
    """Balanced weights of the classes of encoded rows: those with the same trained tokens are of one class.
    Raises LabError where there are too many classes, or one."""
    answers = [tuple(label for label in row["labels"] if label != IGNORED) for row in rows]
    counts = Counter(answers).most_common()
    if not 2 <= len(counts) <= MOST_LABELS:
        raise LabError(
            f"class_weights = 'balanced' needs data whose answers are 2 to {MOST_LABELS} labels, and "
            f"these rows have {len(counts):,} different answers; set class_weights = 'none'"
        )
    at = {answer: number for number, (answer, _) in enumerate(counts)}
    names = [tokenizer.decode(list(answer), skip_special_tokens=True).strip() for answer, _ in counts]
    return ClassWeights(
        [at[answer] for answer in answers], names, balanced_weights([count for _, count in counts])
    )
