"""The preview of the data on Setup: a job that reads rows as the model sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.core.errors import LabError
from tui_lab.ui.screens.pane import Pane

if TYPE_CHECKING:
    from tui_lab.data.preview import PreviewFacts
    from tui_lab.ui.widgets.preview import Preview

PREVIEW_ROWS = 3
#: The keys of the recipe that change what is shown.
_KEYS = (
    "data", "model", "data_format", "columns", "max_length", "chat_template", "max_rows", "revision",
    "validation_fraction", "deduplicate", "seed", "thinking",
)  # fmt: skip


class DataPreview:
    """``view`` shows the rows; ``counted`` takes what was counted, with the request."""

    def __init__(
        self,
        pane: Pane,
        view: Callable[[], Preview],
        counted: Callable[[Mapping[str, object], PreviewFacts], object],
    ) -> None:
        self._pane, self._view, self._counted = pane, view, counted
        self._shown: object = None  # the request

    def show(self, values: Mapping[str, object]) -> None:
        """Shows the data of a recipe, unless it is shown already."""
        request: dict[str, object] = {key: values[key] for key in _KEYS if key in values} | {
            "rows": PREVIEW_ROWS
        }
        if request != self._shown:
            self._shown = request
            self._pane.run_worker(
                self._run(request), exclusive=True, group="preview", description="preview the data",
                exit_on_error=False,
            )  # fmt: skip

    async def _run(self, request: dict[str, object]) -> None:
        from tui_lab.core.job_client import run_job
        from tui_lab.data.preview import PreviewAnswer

        view = self._view()
        name = Path(str(request["data"])).name
        view.show_text(f"reading {name}…")
        try:
            answer = await run_job(
                "tui_lab.data.preview",
                request,
                lambda text, *_: view.show_text(f"{name}: {text}…"),
                answer=PreviewAnswer,
            )
        except LabError as error:
            self._shown = None  # asking again tries again
            view.show_text(f"✗ {error}", "$text-error")
        else:
            view.show_answer(answer)
            self._counted(request, answer.facts)
