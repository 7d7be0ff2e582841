"""Loads the weights that an evaluation names, with progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_lab.core import job_protocol
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.score_cache import LoadConfig
from tui_lab.runs.references import ModelReference

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_weights(
    source: ModelReference,
    label: str,
    how: LoadConfig,
    allow_large: bool,
    on_progress: job_protocol.OnProgress,
) -> PreTrainedModel:
    """Complete weights; ``label`` is what progress calls them. Raises LabError."""
    from tui_lab.models import catalog
    from tui_lab.models.load_progress import report_load_progress
    from tui_lab.models.loading import ModelSource, Precision, load_model, quiet_libraries

    name = sanitize(label)
    on_progress(f"loading {name}")
    reported = report_load_progress(on_progress, name, source.location, source.revision)
    with quiet_libraries(), reported:
        model = load_model(
            ModelSource(source.location, source.revision),
            Precision(
                how.dtype,
                quantization=how.quantization,
                unquantized_modules=how.unquantized_modules,
            ),
            allow_large=allow_large,
        )
    catalog.check_size(source.location, model.num_parameters(), allow_large)
    return model
