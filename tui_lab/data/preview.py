"""The data preview, a job: ``python -m tui_lab.data.preview`` (see :mod:`tui_lab.core.job_protocol`).

It shows rows as the model will see them, token by token, with the tokens that are trained, what each column
is used for, and what the run will do with the rows. All rows of a small set are prepared as the run does it;
of a large one the first rows, and then the counts are estimates and say so.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.data.preview_records import (
    MOST_LENGTHS,
    PreviewAnswer,
    PreviewFacts,
    PreviewRequest,
    PreviewRow,
)
from tui_lab.data.prompt_settings import PromptSettings
from tui_lab.data.rows import Tokenizer
from tui_lab.recipes import mixture

if TYPE_CHECKING:
    from tui_lab.data.formats import Example, OpenedData
    from tui_lab.data.summary import DataSummary

SAMPLE_ROWS = 500  # rows that are prepared of a set that is too large to prepare all of it
ALL_BYTES = 2 << 20  # of smaller files all rows are prepared
COUNTED_BYTES, COUNTED_S = 4 << 20, 0.5  # how much of a large file is read to estimate its rows
MEASURED_ROWS = 200  # rows whose whole length is measured for a suggestion
SUGGESTED_SHARE, SUGGESTED_STEP = 0.95, 64  # share of the rows that it holds, and its steps in tokens


def preview(request: PreviewRequest, on_progress: job_protocol.OnProgress) -> PreviewAnswer:
    """Reads the data and encodes the rows. Raises LabError where data, tokenizer or template cannot be
    used."""
    if not request.data:
        raise LabError("The preview needs the name of a data set.")
    parts = mixture.parts_of(request.data)
    if len(parts) == 1:
        return _preview_set(request, on_progress)
    from tui_lab.data.mixture_preview import combined

    rows = -(-request.rows // len(parts))
    answers = [
        _preview_set(msgspec.structs.replace(request, data=part.name, rows=rows), on_progress, is_part=True)
        for part in parts
    ]
    return combined(request, parts, answers)


def _preview_set(
    request: PreviewRequest, on_progress: job_protocol.OnProgress, *, is_part: bool = False
) -> PreviewAnswer:
    """The preview of one data set, or of a part of a mixture."""
    from tui_lab.data import preferences
    from tui_lab.models import download

    on_progress("reading the data")
    with download.reporting(lambda progress: on_progress(progress.text)):
        opened, total = _open(request)
    if request.preference_loss != "none":
        preferences.check_form(opened.plan.format, opened.name, request.preference_loss)
    if request.preference_loss == "kto" and not total and not is_part:
        preferences.check_verdicts(example.task for example in opened.train)
    on_progress("loading the tokenizer")
    from tui_lab.data import templates

    tokenizer = templates.load_tokenizer(tokenizer_place(request.model), request.revision or None)
    template_source = templates.set_template(tokenizer, request.chat_template)
    templates.use_settings(tokenizer, PromptSettings(mode=request.thinking))
    on_progress("encoding rows")
    rows = [
        _encode_row(tokenizer, example, request.max_length, index)
        for index, example in enumerate(
            itertools.islice(opened.train, request.start, request.start + request.rows), request.start
        )
    ]
    summary, lengths, warnings = _prepare(opened, tokenizer, request)
    suggested = _suggested_length(opened, tokenizer) if summary.truncated + summary.too_long else 0
    return PreviewAnswer(
        data=request.data,
        format=opened.plan.format,
        reason=opened.reason,
        facts=msgspec.structs.replace(
            _facts(opened, summary, sorted(lengths), total, template_source), suggested_length=suggested
        ),
        warnings=warnings,
        start=request.start,
        rows=rows,
        columns=dict(opened.plan.uses),
        unused=list(opened.plan.unused),
    )


def _open(request: PreviewRequest) -> tuple[OpenedData, int]:
    """The data, all of it or its first rows, and the estimated number of its rows: 0 where all are read."""
    from tui_lab.data import formats

    read = 0

    def on_bytes(count: int) -> None:
        nonlocal read
        read = count

    def opened(max_rows: int) -> OpenedData:
        return formats.open_data(request.data, request.data_format, max_rows, request.columns, on_bytes)

    every = opened(request.max_rows)
    raw = every.raw
    size = sum(path.stat().st_size for path in raw.paths) if raw is not None else 0
    many = raw.count if raw is not None else 0
    if size <= ALL_BYTES and many <= SAMPLE_ROWS:
        return every, 0
    if not many:
        began, rows, last = time.monotonic(), 0, 0
        counted = (0, 0)  # rows, and the bytes that they take: whole blocks
        for rows, _ in enumerate(every.train.records, 1):
            if read != last:
                counted, last = (rows - 1, last), read
            if read > COUNTED_BYTES or (counted[0] and time.monotonic() - began > COUNTED_S):
                many = round(counted[0] * max(1.0, size / max(1, counted[1])))
                break
        else:
            many = rows
    if request.max_rows:
        many = min(many, request.max_rows)
    if many <= SAMPLE_ROWS:
        return every, 0
    return opened(max(SAMPLE_ROWS, request.start + request.rows)), many


def _prepare(
    opened: OpenedData, tokenizer: Tokenizer, request: PreviewRequest
) -> tuple[DataSummary, list[int], list[str]]:
    """What the run makes of the rows: counts, lengths of the training rows, warnings; the reason comes first
    if it would refuse them."""
    from tui_lab.data.prepare import Preparation, prepare
    from tui_lab.data.summary import TooFewRows

    how = Preparation(
        request.max_length,
        request.validation_fraction,
        request.seed,
        request.deduplicate,
        request.chat_template,
        request.thinking,
    )
    try:
        prepared = prepare(opened, tokenizer, how)
    except TooFewRows as error:
        return error.summary, [], [f"the run would refuse this: {error}", *opened.warnings()]
    return prepared.summary, prepared.train.lengths.tolist(), prepared.warnings


def _facts(
    opened: OpenedData,
    summary: DataSummary,
    lengths: list[int],
    total: int,
    template_source: str,
) -> PreviewFacts:
    """The counts; with ``total`` > 0 those of all rows, estimated."""
    read = opened.train.read
    scale = max(1.0, total / max(1, read)) if total else 1.0

    def of_all(count: int) -> int:
        return round(count * scale)

    return PreviewFacts(
        rows=of_all(read - opened.train.left_out),
        validation_rows=_own_validation(opened),
        rows_read=of_all(opened.rows_read),
        rows_bad=of_all(opened.rows_bad),
        rows_empty=of_all(opened.rows_empty),
        sampled_rows=read,
        mean_tokens=summary.mean_tokens,
        longest_tokens=summary.longest_tokens,
        lengths=lengths[:: max(1, -(-len(lengths) // MOST_LENGTHS))],
        longer_than_max_length=of_all(summary.truncated + summary.too_long),
        trained_share=round(summary.train_trained_tokens / max(1, summary.train_tokens), 4),
        refused_by_template=of_all(summary.refused_by_template),
        system_folded=summary.system_folded,
        mask_methods=sorted(summary.mask_methods),
        template_source=template_source,
        end_of_turn=summary.end_of_turn,
        scorer=opened.scorer,
        description=opened.description,
        estimated=bool(total),
        **_of_run(summary, scale),
    )


def _of_run(summary: DataSummary, scale: float) -> dict[str, int]:
    """What the run does with the rows."""
    from tui_lab.data.split import MAX_VALIDATION

    held_out = summary.validation_rows
    if not summary.validation_given:
        held_out = min(round(held_out * scale), MAX_VALIDATION)
    counts = {
        "train_rows": summary.train_rows,
        "removed": summary.duplicates + summary.near_duplicates + summary.leaks_removed,
        "cut": summary.truncated,
        "windowed": summary.windowed,
        "too_long": summary.too_long,
        "fully_masked": summary.fully_masked,
        "train_tokens": summary.train_tokens,
        "trained_tokens": summary.train_trained_tokens,
    }
    return {"held_out_rows": held_out, **{name: round(count * scale) for name, count in counts.items()}}


def _own_validation(opened: OpenedData) -> int | None:
    part = opened.validation
    return part.read - part.left_out if part is not None else None


def _encode_row(tokenizer: Tokenizer, example: Example, max_length: int, index: int) -> PreviewRow:
    from tui_lab.data import row_tokens
    from tui_lab.data.masks import Unrenderable
    from tui_lab.data.prepare import bounded_texts

    example = next(bounded_texts([example]), example)  # of a very long text the first piece
    try:
        row = row_tokens.encode(tokenizer, example)
    except Unrenderable as error:
        return PreviewRow(index, example.place, [], 0, 0, error=str(error))
    encoded = row_tokens.cut(row, max_length)
    windows = len(row_tokens.windows(row, max_length)) if example.text is not None else 1
    return PreviewRow(
        index=index,
        place=example.place,
        pieces=row_tokens.pieces(tokenizer, encoded),
        tokens=len(row.input_ids),
        trained=encoded.trained,
        truncated=encoded.truncated and windows == 1,
        windows=windows,
    )


def _suggested_length(opened: OpenedData, tokenizer: Tokenizer) -> int:
    """A maximum length, in steps of :data:`SUGGESTED_STEP` tokens, that holds :data:`SUGGESTED_SHARE` of the
    first rows; 0 where none can be encoded."""
    from tui_lab.data import row_tokens
    from tui_lab.data.masks import Unrenderable
    from tui_lab.data.prepare import bounded_texts

    lengths = []
    for example in itertools.islice(opened.train, MEASURED_ROWS):
        try:
            row = row_tokens.encode(tokenizer, next(bounded_texts([example]), example))
        except Unrenderable:
            continue
        lengths.append(len(row.input_ids))
    if not lengths:
        return 0
    enough = sorted(lengths)[min(len(lengths) - 1, int(SUGGESTED_SHARE * len(lengths)))]
    return -(-enough // SUGGESTED_STEP) * SUGGESTED_STEP


def tokenizer_place(model: str) -> str:
    """The folder or hub id of a model's tokenizer, by any name that the catalog knows. Raises LabError."""
    if expanded(model).is_dir():
        return str(expanded(model))
    from tui_lab.models import catalog

    # A preview loads the tokenizer alone, so the size of the model is no reason to refuse.
    entry = catalog.find(model, allow_large=True)
    if entry.refused:
        raise LabError(entry.refused)
    return str(entry.path or entry.id)


def _start_light() -> None:
    """Lets transformers find no torch, which it would import with every tokenizer: a preview has no use for
    it, and it takes most of its time and memory. Garbage is collected less often, as imports make none."""
    gc.set_threshold(100_000, 50, 50)
    sys.modules["torch"] = None  # type: ignore[assignment]
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"


if __name__ == "__main__":
    if vars(sys.modules["__main__"]) is globals():  # a process of its own
        _start_light()
    sys.exit(job_protocol.serve(preview, PreviewRequest))
