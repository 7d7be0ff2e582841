"""Whether to tune at all, measured: a dialog of Setup that answers held-out rows zero-shot, with examples,
with retrieval and by the newest run of the same model and data, and shows the scores and the verdict."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static
from textual.worker import Worker

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation import advice
from tui_lab.evaluation.advice import AdviseRequest, TuningAdvice
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.runs import folder
from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.screens.ask_changes import DoesNotGoOn, run_lab_job
from tui_lab.ui.widgets.dialogs import AskText

if TYPE_CHECKING:
    from tui_lab.recipes.recipe import Recipe

JOB_MODULE = "tui_lab.evaluation.advise"
#: Runs among which one of the same model and data is looked for, the newest first.
LOOKED_THROUGH = 100
#: Cells of the dialog's frame and margins.
AROUND = 4


def newest_run(recipe: Recipe) -> str:
    """The newest run of the same model and data that saved weights; "" where there is none."""
    for run in folder.list_runs()[:LOOKED_THROUGH]:
        if not (run.adapter_path.is_dir() or run.model_path.is_dir()) or folder.is_locked(run):
            continue
        try:
            other = run.recipe()
        except LabError:
            continue
        if (other.model, other.data) == (recipe.model, recipe.data):
            return run.id
    return ""


def advice_content(found: TuningAdvice, width: int) -> Content:
    """The verdict, and the methods as a table of at most ``width`` cells: the last columns go first."""
    rows = advice.method_table(found)
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    while len(widths) > 2 and sum(widths) + 2 * (len(widths) - 1) > width:
        widths.pop()
    lines = [
        "  ".join(
            row[at].rjust(cells) if at else row[at].ljust(cells) for at, cells in enumerate(widths)
        ).rstrip()
        for row in rows
    ]
    notes = [sanitize(f"Note: {note}.") for note in found.notes]
    return Content("\n").join(
        [
            Content.styled(found.verdict.text, "bold"),
            Content(""),
            Content.styled(lines[0], "$text-muted"),
            *map(Content, lines[1:]),
            Content(""),
            *(Content.styled(note, "$text-warning") for note in notes),
        ]
    )


class AdviseScreen(Dialog[None]):
    """Enter measures; Escape stops the measurement, which goes on later, or leaves."""

    DEFAULT_CSS = "AdviseScreen Static { padding: 0 1; }"
    GROUP = "advise"
    SCROLLS = True
    AUTO_FOCUS = ".dialog"
    BINDINGS = bindings("advise")
    heading = "Tune at all?"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self._recipe, self._run = recipe, ""
        target = EvaluationRequest(model=recipe.model, allow_large=recipe.allow_large)
        self.request = AdviseRequest(
            target, data=recipe.data, data_format=recipe.data_format, columns=recipe.columns
        )
        self.found: TuningAdvice | None = None
        self._job: Worker[None] | None = None

    def hint(self) -> str:
        leave = self.keys("advise.leave")
        if self._busy:
            return f"{leave} stops; what is answered is kept"
        keys = (self.keys(f"advise.{name}") for name in ("measure", "options"))
        return "{} measures, {} changes options, {} closes".format(*keys, leave)

    def compose_body(self) -> ComposeResult:
        yield Static(id="about")
        yield Static(id="found")

    def on_mount(self) -> None:
        self.frame()
        self._look_for_run()

    @work(group="run", exit_on_error=False)
    async def _look_for_run(self) -> None:
        self._run = await asyncio.to_thread(newest_run, self._recipe)
        if self._run:
            target = EvaluationRequest(run=self._run, allow_large=self._recipe.allow_large)
            self.request = msgspec.structs.replace(self.request, target=target)
        self._describe()

    def _describe(self) -> None:
        request = self.request
        names = [advice.ZERO_SHOT, advice.few_shot(request.shots), advice.RETRIEVAL]
        by = f" and by the run {self._run}, alone and with retrieval" if self._run else ""
        text = (
            f"Answers up to {request.limit} held-out rows of {self._recipe.data} with "
            f"{self._recipe.model}: {', '.join(names)}{by}. Examples are rows of the training part. "
            f"Options: {advice.options_text(request)}."
        )
        self.query_one("#about", Static).update(Content.styled(sanitize(text), "$text-muted"))

    @property
    def _busy(self) -> bool:
        return self._job is not None and self._job.is_running

    @property
    def unsaved(self) -> str:
        return f"A measurement is in progress: {self.keys('advise.leave')} stops it." if self._busy else ""

    def action_measure(self) -> None:
        if not self._busy:
            self._job = self._measure()
            self.frame()

    def action_options(self) -> None:
        if self._busy:
            return
        question = "Options: rows, tokens of an answer and retrieved examples (0: as usual), shots, the goal"
        self.app.push_screen(AskText(question, advice.options_text(self.request)), self._take_options)

    def _take_options(self, text: str | None) -> None:
        try:
            self.request = advice.with_options(self.request, text or "")
        except LabError as error:
            self.show_error(error)
        self._describe()

    def action_leave(self) -> None:
        if self._busy and self._job is not None:
            self._job.cancel()
            self._show(Content(f"Stopped. {self.keys('advise.measure')} goes on."))
        else:
            self.dismiss(None)

    def _show(self, text: Content) -> None:
        self.query_one("#found", Static).update(text)

    @work(exclusive=True, group="advise", description="measure whether to tune", exit_on_error=False)
    async def _measure(self) -> None:
        try:
            self.found = found = await run_lab_job(
                self, JOB_MODULE, self.request, lambda line: self._show(Content(line)), TuningAdvice
            )
        except DoesNotGoOn:
            self._show(Content("Not measured."))
        except LabError as error:
            self._show(Content.styled(sanitize(str(error)), "$text-error"))
        else:
            width = self.query_one("#found", Static).size.width - AROUND
            self._show(advice_content(found, max(40, width)))
        finally:
            if self.is_mounted:
                self._job = None
                self.frame()
