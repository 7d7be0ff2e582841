"""The data preview, as a job: ``python -m tui_lab.data.preview`` reads one JSON request from stdin and
answers with JSON lines (see ``tui_lab.core.job_protocol``). It shows rows as the model will see them, token
by token, with what is trained, and says how the format was detected and where the chat template comes from.
Only the rows asked for and a small sample are encoded, so that it stays quick on large sets."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError

SAMPLE_ROWS = 200  # rows that the length statistics are drawn from
MAX_ROWS = 50  # rows shown at most


def preview(request: dict[str, Any], progress: job_protocol.OnProgress) -> dict[str, Any]:
    """Answers {"data", "model", "data_format", "max_length", "chat_template", "rows", "start", "max_rows",
    "revision"}; only data and model are needed."""
    data = _text(request, "data", "")
    model = _text(request, "model", "pocket")
    data_format = _text(request, "data_format", "auto")
    max_length = _number(request, "max_length", 1024, 8, 1_000_000)
    rows = _number(request, "rows", 3, 0, MAX_ROWS)
    start = _number(request, "start", 0, 0, 10**12)
    if not data:
        raise LabError("The preview needs the name of a data set.")

    progress("reading the data")
    from tui_lab.data import formats

    source = formats.read(data, data_format, _number(request, "max_rows", 0, 0, 10**12))
    progress("loading the tokenizer")
    from tui_lab.data import prepare, templates
    from tui_lab.data.masks import Unrenderable

    tokenizer = templates.load_tokenizer(tokenizer_place(model), _text(request, "revision", "") or None)
    template_source = templates.set_template(tokenizer, _text(request, "chat_template", ""))

    progress("encoding rows")
    shown = [
        _show(templates, tokenizer, example, max_length, index)
        for index, example in enumerate(source.rows[start : start + rows], start)
    ]
    sample = source.rows
    if len(sample) > SAMPLE_ROWS:
        sample = random.Random(0).sample(sample, SAMPLE_ROWS)
    lengths: list[int] = []
    refused: dict[str, int] = {}
    trained = 0
    for example in sample:
        try:
            encoded = templates.encode_whole(tokenizer, example)
        except Unrenderable as error:
            refused[str(error)] = refused.get(str(error), 0) + 1
            continue
        lengths.append(len(encoded.input_ids))
        trained += encoded.trained
    renderer = templates.renderer_of(tokenizer)
    facts = {
        "rows": len(source.rows),
        "validation_rows": len(source.validation) if source.validation is not None else None,
        "rows_read": source.facts["rows_read"],
        "rows_bad": source.facts["rows_bad"],
        "rows_empty": source.facts["rows_empty"],
        "sampled_rows": len(sample),
        "mean_tokens": round(sum(lengths) / len(lengths), 1) if lengths else 0.0,
        "longest_tokens": max(lengths, default=0),
        "lengths": sorted(lengths),
        "longer_than_max_length": sum(length > max_length for length in lengths),
        "trained_share": round(trained / sum(lengths), 4) if lengths else 0.0,
        "refused_by_template": sum(refused.values()),
        "system_folded": renderer.folded,
        "mask_methods": sorted(renderer.methods),
        "template_source": template_source,
        "end_of_turn": renderer.end_of_turn or tokenizer.eos_token,
        "scorer": source.scorer,
        "description": source.description,
    }
    warnings = list(source.warnings)
    warnings += [
        f"{count} of {len(sample)} sampled rows left out: {reason}." for reason, count in refused.items()
    ]
    specials = sum(prepare.holds_specials(tokenizer, example) for example in sample)
    if specials:
        warnings.append(
            f"{specials} of {len(sample)} sampled rows spell out control tokens of this tokenizer."
        )
    return {
        "data": data,
        "format": source.format,
        "reason": source.reason,
        "facts": facts,
        "warnings": warnings,
        "start": start,
        "rows": shown,
    }


def _show(templates: Any, tokenizer: Any, example: Any, max_length: int, index: int) -> dict[str, Any]:
    """One row for the screen: its place, its pieces [[text, trained], …] and its lengths in tokens."""
    from tui_lab.data.masks import Unrenderable

    try:
        whole = templates.encode_whole(tokenizer, example)
    except Unrenderable as error:
        return {
            "index": index,
            "place": example.place,
            "error": str(error),
            "pieces": [],
            "tokens": 0,
            "trained": 0,
        }
    encoded = templates.cut(whole, max_length)
    # A long raw text is trained in windows, of which the first is shown; any other long row loses its end.
    windows = len(templates.windows(whole, max_length)) if example.text is not None else 1
    return {
        "index": index,
        "place": example.place,
        "pieces": [[text, trained] for text, trained in templates.pieces(tokenizer, encoded)],
        "tokens": len(whole.input_ids),
        "trained": encoded.trained,
        "truncated": encoded.truncated and windows == 1,
        "windows": windows,
    }


def tokenizer_place(model: str) -> str:
    """The folder or hub id of a model's tokenizer, by any name that the catalog knows."""
    if Path(model).expanduser().is_dir():
        return str(Path(model).expanduser())
    from tui_lab.models import catalog

    # A preview loads the tokenizer alone, so the size of the model is no reason to refuse here.
    entry = catalog.find(model, allow_large=True)
    if entry.refused:
        raise LabError(entry.refused)
    return str(entry.path or entry.id)


def _text(request: dict[str, Any], key: str, default: str) -> str:
    value = request.get(key, default)
    if value is None:
        return default
    if not isinstance(value, str):
        raise LabError(f"The preview's {key} must be text, not {type(value).__name__}.")
    return value


def _number(request: dict[str, Any], key: str, default: int, least: int, most: int) -> int:
    value = request.get(key, default)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise LabError(f"The preview's {key} must be a whole number from {least} to {most}, not {value!r}.")
    return value


if __name__ == "__main__":
    sys.exit(job_protocol.serve(preview))
