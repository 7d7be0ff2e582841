"""Names for objects of libraries that are typed too loosely to be checked (transformers 5.23, trl, peft)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import Tensor

from tui_lab.data.rows import Model as Model
from tui_lab.data.rows import Tokenizer as Tokenizer

#: Columns of a batch: tensors of shape (B, T) or (B,), and integers for packed rows.
Inputs: TypeAlias = dict[str, Any]
Batch: TypeAlias = Mapping[str, Any]
#: A torch optimiser or accelerate's wrapper of one.
AnyOptimizer: TypeAlias = Any
#: A logged figure; a scalar tensor until it is logged.
Figure: TypeAlias = float | Tensor
#: Trained tokens of a whole step; None where the Trainer averages over batches.
TokenCount: TypeAlias = Tensor | int | None
