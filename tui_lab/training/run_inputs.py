"""Digests of what an attempt reads, compared with those of the attempt before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
import numpy

from tui_lab.data.prepare import PreparedData
from tui_lab.data.rows import TokenRow
from tui_lab.runs import inputs
from tui_lab.runs.schema import InputsEvent, WarningEvent
from tui_lab.training.attempt_records import AttemptContext


def rows_digest(rows: Iterable[TokenRow]) -> str:
    """The digest of encoded rows in their order: tokens and labels."""
    found = hashlib.sha256()
    for row in rows:
        for values in (row["input_ids"], row["labels"]):
            array = numpy.asarray(values, dtype=numpy.int32)
            found.update(array.size.to_bytes(4, "little"))
            found.update(array.tobytes())
    return found.hexdigest()


def record(context: AttemptContext, prepared: PreparedData, max_length: int) -> InputsEvent:
    """Writes the digests of this attempt and returns them. Raises LabError where an earlier attempt read
    something else and that was not accepted; accepted changes become warnings."""
    now = inputs.current_inputs(context.recipe)
    now = msgspec.structs.replace(
        now,
        rows=f"{rows_digest(prepared.train)} {rows_digest(prepared.validation)}",
        train_rows=len(prepared.train),
        validation_rows=len(prepared.validation),
        settings=inputs.row_settings(context.recipe, max_length),
    )
    before = context.before.inputs
    if before is not None:
        changed = inputs.changed_since(before, now, context.recipe)
        for sentence in inputs.require_unchanged(changed, "this run cannot be continued as it was"):
            context.events.write(WarningEvent(text=f"{sentence}; it goes on with what is there now"))
    context.events.write(now)
    return now
