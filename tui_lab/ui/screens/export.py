"""Export of what a run learned: a list of kinds, the precision of full weights, and then the result of the
job: each check with its figures, and how to use the export."""

from __future__ import annotations

from textual import on, work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import Worker

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.export import records as exports
from tui_lab.runs.folder import Run
from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.lab import lab_of
from tui_lab.ui.terminal.types import AnyScreen
from tui_lab.ui.widgets.dialogs import Confirm

NOTHING_SAVED = "This run has saved nothing yet: wait for its end, or stop it."


def open_export(pane: AnyScreen) -> None:
    """Asks how to export the run that is shown; a message says if that is not possible."""
    from tui_lab.runs import folder

    try:
        run = lab_of(pane).shown_run()
    except LabError:
        pane.notify("There is no run to export yet.", severity="warning", markup=False)
        return
    if folder.is_locked(run):
        pane.notify("This run is in progress: it can be exported when it has ended.", severity="warning")
    elif not (run.adapter_path.is_dir() or run.model_path.is_dir()):
        pane.notify(NOTHING_SAVED, severity="warning", markup=False)
    else:
        pane.app.push_screen(ExportScreen(run))


class ExportScreen(Dialog[None]):
    """Enter exports the kind under the cursor; Escape ends an export in hand, or leaves."""

    DEFAULT_CSS = """
    ExportScreen > .dialog { overflow-y: hidden; }
    ExportScreen OptionList, ExportScreen OptionList:focus { text-wrap: wrap; }
    ExportScreen #how { height: 2; margin: 1 0 0 0; padding: 0 1; }
    ExportScreen VerticalScroll { height: auto; max-height: 50vh; margin: 1 0 0 0; padding: 0 1; }
    """
    AUTO_FOCUS = "OptionList"
    GROUP = "export"
    BINDINGS = bindings("export")

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run, self.heading = run, f"Export {run.id}"
        self.dtype, self.with_base = exports.DTYPES[0], False
        self._job: Worker[None] | None = None

    def hint(self) -> str:
        leave = self.keys("export.leave")
        if self._busy:
            return f"{leave} ends the export"
        return f"Enter exports, Tab goes to the text, {leave} leaves"

    def compose_body(self) -> ComposeResult:
        width = max(map(len, exports.KINDS)) + 2
        yield OptionList(
            *(
                Option(Content.assemble(kind.ljust(width), (about, "$text-muted")), id=kind)
                for kind, about in exports.KINDS.items()
            )
        )
        yield Static(id="how")
        with VerticalScroll(can_focus=True):
            yield Static(id="status")

    def on_mount(self) -> None:
        self._draw()
        self._show_status([])

    @property
    def _busy(self) -> bool:
        return self._job is not None and self._job.is_running

    def _draw(self) -> None:
        choices = " ".join(f"[{d}]" if d == self.dtype else f" {d} " for d in exports.DTYPES)
        base = "yes" if self.with_base else "no"
        how = (
            f"{self.keys('export.dtype')} precision of full weights: {choices}\n"
            f"{self.keys('export.base')} copy a base that is not on the hub: {base}"
        )
        self.query_one("#how", Static).update(Content(how))
        self.frame()

    def _show_status(self, lines: list[str]) -> None:
        text = Content("\n".join(sanitize(line) for line in lines))
        self.query_one("#status", Static).update(text)
        self.query_one(VerticalScroll).display = bool(lines)

    # ------------------------------------------------------------------ actions

    def action_dtype(self) -> None:
        self.dtype = exports.DTYPES[(exports.DTYPES.index(self.dtype) + 1) % len(exports.DTYPES)]
        self._draw()

    def action_base(self) -> None:
        self.with_base = not self.with_base
        self._draw()

    @property
    def unsaved(self) -> str:
        return f"An export is in progress: {self.keys('export.leave')} stops it." if self._busy else ""

    def action_leave(self) -> None:
        if self._busy and self._job is not None:
            self._job.cancel()
            self._show_status(["Ended: nothing was exported."])
        else:
            self.dismiss(None)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        kind = str(event.option_id)
        if self._busy:
            return
        if not (self.run.path / exports.EXPORTS_FOLDER / kind / exports.RESULT_FILE).is_file():
            self._begin(kind, False)
            return
        question = f"This run was exported as {kind} before. Replace that export?"
        self.app.push_screen(
            Confirm(question, yes="replace it", no="keep it"),
            lambda yes: self._begin(kind, True) if yes else None,
        )

    def _begin(self, kind: str, force: bool) -> None:
        request = exports.ExportRequest(
            run=str(self.run.path), kind=kind, dtype=self.dtype, force=force, with_base=self.with_base
        )
        self._job = self._export(request)
        self._draw()

    @work(exclusive=True, group="export", description="export a run", exit_on_error=False)
    async def _export(self, request: exports.ExportRequest) -> None:
        from tui_lab.core.job_client import run_job

        def progress(text: str, _done: int | None, _total: int | None) -> None:
            self._show_status([f"{request.kind}: {text} …"])

        self._show_status([f"{request.kind} …"])
        try:
            answer = await run_job(exports.JOB_MODULE, request, progress, answer=exports.ExportResult)
        except LabError as error:
            self._show_status([str(error)])
        else:
            self._show_status(exports.sentences(answer))
        finally:
            if self.is_mounted:
                self._job = None
                self._draw()
