"""The preview of the data on Setup: a job that reads rows as the model sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tui_lab.core.errors import LabError
from tui_lab.recipes.mixture import short_name
from tui_lab.ui.screens.pane import Pane

if TYPE_CHECKING:
    from tui_lab.data.preview_records import PreviewFacts
    from tui_lab.ui.widgets.preview import Preview

PREVIEW_ROWS = 3
#: The keys of the recipe that change what is shown.
_KEYS = (
    "data", "model", "data_format", "columns", "max_length", "chat_template", "max_rows", "revision",
    "validation_fraction", "deduplicate", "seed", "thinking",
    "mixture_by", "mixture_sampling", "preference_loss",
)  # fmt: skip


def _request(values: Mapping[str, object]) -> dict[str, object]:
    return {key: values[key] for key in _KEYS if key in values} | {"rows": PREVIEW_ROWS}


class DataPreview:
    """``view`` shows the rows; ``counted`` takes what was counted, with the request; ``failed`` is called
    when rows could not be read."""

    def __init__(
        self,
        pane: Pane,
        view: Callable[[], Preview],
        counted: Callable[[Mapping[str, object], PreviewFacts], object],
        failed: Callable[[], object],
    ) -> None:
        self._pane, self._view, self._counted, self._on_failure = pane, view, counted, failed
        self._shown: object = None  # the request
        self._failed: tuple[object, str] = (None, "")  # the request whose rows could not be read, and why
        self._read: object = None  # the request whose rows were read

    def show(self, values: Mapping[str, object]) -> None:
        """Shows the data of a recipe, unless it is shown already."""
        request = _request(values)
        if request != self._shown:
            self._shown = request
            self._pane.run_worker(
                self._run(request), exclusive=True, group="preview", description="preview the data",
                exit_on_error=False,
            )  # fmt: skip

    def problem(self, values: Mapping[str, object]) -> str:
        """Why the rows of a recipe's data cannot be used; "" where they can, or were not read."""
        request, problem = self._failed
        return problem if problem and _request(values) == request else ""

    def refusal(self, values: Mapping[str, object]) -> str:
        """:meth:`problem` for a start. The rows are read again: the file may have been mended meanwhile."""
        if problem := self.problem(values):
            self.show(values)
        return problem

    def is_read(self, values: Mapping[str, object]) -> bool:
        """Whether the rows of a recipe's data were read without a problem."""
        return _request(values) == self._read

    async def _run(self, request: dict[str, object]) -> None:
        from tui_lab.core.job_client import run_job
        from tui_lab.data.preview_records import PreviewAnswer

        view = self._view()
        name = short_name(str(request["data"]))
        view.show_text(f"reading {name} …")
        try:
            answer = await run_job(
                "tui_lab.data.preview",
                request,
                lambda text, *_: view.show_text(f"{name}: {text} …"),
                answer=PreviewAnswer,
            )
        except LabError as error:
            self._shown = None  # asking again tries again
            self._failed = request, str(error)
            view.show_text(f"✗ {error}", "$text-error")
            self._on_failure()
        else:
            self._failed, self._read = (None, ""), request
            view.show_answer(answer)
            self._counted(request, answer.facts)
