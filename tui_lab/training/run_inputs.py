"""Digests of what an attempt reads, compared with those of the attempt before."""

from __future__ import annotations

import hashlib

import msgspec
import numpy
import pyarrow as pa

from tui_lab.data.prepare import PreparedData
from tui_lab.data.store import ROWS_A_BATCH, TokenRows
from tui_lab.runs import inputs
from tui_lab.runs.schema import InputsEvent, WarningEvent
from tui_lab.training.attempt_records import AttemptContext


def rows_digest(rows: TokenRows) -> str:
    """The digest of encoded rows in their order: their lengths, tokens and labels."""
    parts = {"lengths": hashlib.sha256(), "input_ids": hashlib.sha256(), "labels": hashlib.sha256()}
    for first in range(0, len(rows), ROWS_A_BATCH):
        batch = rows.table.take(pa.array(rows.positions[first : first + ROWS_A_BATCH]))
        for name in ("input_ids", "labels"):
            column = batch.column(name).combine_chunks()
            values = numpy.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=numpy.int32)
            parts[name].update(numpy.ascontiguousarray(values).tobytes())
        parts["lengths"].update(numpy.asarray(column.value_lengths(), dtype=numpy.int32).tobytes())
    return hashlib.sha256("".join(part.hexdigest() for part in parts.values()).encode()).hexdigest()


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
