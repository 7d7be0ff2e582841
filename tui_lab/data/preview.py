"""The data preview, a job: ``python -m tui_lab.data.preview`` (see :mod:`tui_lab.core.job_protocol`).

It shows rows as the model will see them, token by token, with the tokens that are trained, how the format was
detected, and where the chat template comes from. Only the requested rows and a sample are encoded, so that it
is fast on large data sets.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.data.rows import Tokenizer

if TYPE_CHECKING:
    from tui_lab.data.formats import DataSource, Example

SAMPLE_ROWS = 200  # rows from which the length statistics are computed
MAX_ROWS = 50  # rows in an answer


class PreviewRequest(msgspec.Struct, frozen=True):
    """Which rows of which data to show, and for which model."""

    data: str = ""
    model: str = "pocket"
    data_format: str = "auto"
    columns: str = ""
    max_length: Annotated[int, Meta(ge=8, le=1_000_000)] = 1024
    chat_template: str = ""
    rows: Annotated[int, Meta(ge=0, le=MAX_ROWS)] = 3
    start: Annotated[int, Meta(ge=0)] = 0
    max_rows: Annotated[int, Meta(ge=0)] = 0
    revision: str = ""


class PreviewRow(msgspec.Struct, frozen=True):
    """One row: its text in pieces, each with whether it is trained, and its lengths in tokens.

    ``error`` says why a row is left out. A long raw text is trained in several ``windows``, of which the
    first is shown; any other long row is ``truncated``."""

    index: int
    place: str
    pieces: list[tuple[str, bool]]
    tokens: int
    trained: int
    truncated: bool = False
    windows: int = 1
    error: str = ""


class PreviewFacts(msgspec.Struct, frozen=True):
    """What is known of the whole data set; lengths, in tokens, are those of the ``sampled_rows``."""

    rows: int
    validation_rows: int | None
    rows_read: int
    rows_bad: int
    rows_empty: int
    sampled_rows: int
    mean_tokens: float
    longest_tokens: int
    lengths: list[int]
    longer_than_max_length: int
    trained_share: float
    refused_by_template: int
    system_folded: int
    mask_methods: list[str]
    template_source: str
    end_of_turn: str | None
    scorer: str | None
    description: str


class PreviewAnswer(msgspec.Struct, frozen=True):
    """The answer of the job. ``columns``: what each used column becomes; ``unused``: the other columns."""

    data: str
    format: str
    reason: str
    facts: PreviewFacts
    warnings: list[str]
    start: int
    rows: list[PreviewRow]
    columns: dict[str, str] = {}
    unused: list[str] = []


class _SampleStatistics(msgspec.Struct):
    lengths: list[int]
    trained: int
    refused: dict[str, int]  # reason -> rows


def preview(request: PreviewRequest, on_progress: job_protocol.OnProgress) -> PreviewAnswer:
    """Reads the data and encodes the rows. Raises LabError where data, tokenizer or template cannot be
    used."""
    if not request.data:
        raise LabError("The preview needs the name of a data set.")
    on_progress("reading the data")
    from tui_lab.data import formats

    source = formats.read(request.data, request.data_format, request.max_rows, request.columns)
    on_progress("loading the tokenizer")
    from tui_lab.data import templates

    tokenizer = templates.load_tokenizer(tokenizer_place(request.model), request.revision or None)
    template_source = templates.set_template(tokenizer, request.chat_template)
    on_progress("encoding rows")
    end = request.start + request.rows
    rows = [
        _encode_row(tokenizer, example, request.max_length, index)
        for index, example in enumerate(source.rows[request.start : end], request.start)
    ]
    sample = source.rows
    if len(sample) > SAMPLE_ROWS:
        sample = random.Random(0).sample(sample, SAMPLE_ROWS)
    statistics = _measure(tokenizer, sample)
    return PreviewAnswer(
        data=request.data,
        format=source.format,
        reason=source.reason,
        facts=_facts(source, tokenizer, statistics, len(sample), request.max_length, template_source),
        warnings=[*source.warnings, *_sample_warnings(tokenizer, sample, statistics)],
        start=request.start,
        rows=rows,
        columns=source.columns,
        unused=source.unused,
    )


def _measure(tokenizer: Tokenizer, sample: list[Example]) -> _SampleStatistics:
    from tui_lab.data import templates
    from tui_lab.data.masks import Unrenderable

    found = _SampleStatistics([], 0, {})
    for example in sample:
        try:
            encoded = templates.encode(tokenizer, example)
        except Unrenderable as error:
            found.refused[str(error)] = found.refused.get(str(error), 0) + 1
            continue
        found.lengths.append(len(encoded.input_ids))
        found.trained += encoded.trained
    return found


def _facts(
    source: DataSource,
    tokenizer: Tokenizer,
    statistics: _SampleStatistics,
    sampled_rows: int,
    max_length: int,
    template_source: str,
) -> PreviewFacts:
    from tui_lab.data import templates

    renderer, lengths = templates.renderer_of(tokenizer), statistics.lengths
    return PreviewFacts(
        rows=len(source.rows),
        validation_rows=len(source.validation) if source.validation is not None else None,
        rows_read=source.rows_read,
        rows_bad=source.rows_bad,
        rows_empty=source.rows_empty,
        sampled_rows=sampled_rows,
        mean_tokens=round(sum(lengths) / len(lengths), 1) if lengths else 0.0,
        longest_tokens=max(lengths, default=0),
        lengths=sorted(lengths),
        longer_than_max_length=sum(length > max_length for length in lengths),
        trained_share=round(statistics.trained / sum(lengths), 4) if lengths else 0.0,
        refused_by_template=sum(statistics.refused.values()),
        system_folded=renderer.folded,
        mask_methods=sorted(renderer.methods),
        template_source=template_source,
        end_of_turn=renderer.end_of_turn or tokenizer.eos_token,
        scorer=source.scorer,
        description=source.description,
    )


def _sample_warnings(tokenizer: Tokenizer, sample: list[Example], statistics: _SampleStatistics) -> list[str]:
    from tui_lab.data import prepare

    found = [
        f"{count} of {len(sample)} sampled rows left out: {reason}."
        for reason, count in statistics.refused.items()
    ]
    specials = sum(prepare.has_special_tokens(tokenizer, example) for example in sample)
    if specials:
        found.append(f"{specials} of {len(sample)} sampled rows spell out control tokens of this tokenizer.")
    return found


def _encode_row(tokenizer: Tokenizer, example: Example, max_length: int, index: int) -> PreviewRow:
    from tui_lab.data import templates
    from tui_lab.data.masks import Unrenderable

    try:
        row = templates.encode(tokenizer, example)
    except Unrenderable as error:
        return PreviewRow(index, example.place, [], 0, 0, error=str(error))
    encoded = templates.cut(row, max_length)
    windows = len(templates.windows(row, max_length)) if example.text is not None else 1
    return PreviewRow(
        index=index,
        place=example.place,
        pieces=templates.pieces(tokenizer, encoded),
        tokens=len(row.input_ids),
        trained=encoded.trained,
        truncated=encoded.truncated and windows == 1,
        windows=windows,
    )


def tokenizer_place(model: str) -> str:
    """The folder or hub id of a model's tokenizer, by any name that the catalog knows. Raises LabError."""
    if Path(model).expanduser().is_dir():
        return str(Path(model).expanduser())
    from tui_lab.models import catalog

    # A preview loads the tokenizer alone, so the size of the model is no reason to refuse.
    entry = catalog.find(model, allow_large=True)
    if entry.refused:
        raise LabError(entry.refused)
    return str(entry.path or entry.id)


if __name__ == "__main__":
    sys.exit(job_protocol.serve(preview, PreviewRequest))
