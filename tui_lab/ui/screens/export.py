"""Export of what a run learned: a list of kinds, the precision of full weights, the strength and the folder,
and then the result of the job: what was written, how it is used, and each check with its figures."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from textual import work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option
from textual.worker import Worker

from tui_lab.core.errors import LabError
from tui_lab.core.paths import absolute
from tui_lab.core.sanitize import sanitize
from tui_lab.export import records as exports
from tui_lab.retention.stored import read_results
from tui_lab.runs.folder import Run
from tui_lab.ui.actions.modal import ListDialog
from tui_lab.ui.actions.registry import bindings, keys_of
from tui_lab.ui.lab import lab_of
from tui_lab.ui.screens.ask_changes import DoesNotGoOn, run_lab_job
from tui_lab.ui.terminal.types import AnyScreen
from tui_lab.ui.views.retention import strength_text
from tui_lab.ui.widgets.dialogs import AskText, Confirm, Pick

NOTHING_SAVED = "This run has saved nothing yet: wait for its end, or stop it."


def open_export(pane: AnyScreen) -> None:
    """Asks how to export the run that is shown; a message says if that is not possible. A pane may propose a
    strength as ``strength_shown``."""
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
        pane.app.push_screen(ExportScreen(run, getattr(pane, "strength_shown", 1.0)))


class ExportScreen(ListDialog[None]):
    """Enter exports the kind under the cursor; Escape ends an export in hand, or leaves."""

    DEFAULT_CSS = """
    ExportScreen OptionList, ExportScreen OptionList:focus { text-wrap: wrap; }
    ExportScreen #how { height: auto; margin: 1 0 0 0; padding: 0 1; }
    ExportScreen VerticalScroll { height: auto; max-height: 50vh; margin: 1 0 0 0; padding: 0 1; }
    """
    GROUP = "export"
    BINDINGS = bindings("export")

    def __init__(self, run: Run, strength: float = 1.0) -> None:
        super().__init__()
        self.run, self.heading = run, f"Export {run.id}"
        self.dtype, self.gguf_type, self.with_base = exports.DTYPES[0], exports.GGUF_TYPES[0], False
        self.strength, self.out = strength, ""  # "": the run's folder of exports
        self.written = ""  # the path of the last export
        self._job: Worker[None] | None = None

    def hint(self) -> str:
        leave = self.keys("export.leave")
        if self._busy:
            return f"{leave} ends the export"
        if not self.written:
            return f"Enter exports, {leave} closes"
        return f"Enter exports, {self.keys('export.copy')} copies the path, Tab to the text, {leave} closes"

    def compose_body(self) -> ComposeResult:
        yield from super().compose_body()
        yield Static(id="how")
        with VerticalScroll(can_focus=True):
            yield Static(id="status")

    def on_mount(self) -> None:
        width = max(map(len, exports.KINDS)) + 2
        self.show_rows(
            Option(Content.assemble(kind.ljust(width), (about, "$text-muted")), id=kind)
            for kind, about in exports.KINDS.items()
        )
        self._draw()
        self._show_status([])

    @property
    def _busy(self) -> bool:
        return self._job is not None and self._job.is_running

    def _draw(self) -> None:
        choices = " ".join(f"[{d}]" if d == self.dtype else f" {d} " for d in exports.DTYPES)
        gguf_types = " ".join(
            f"[{name or self.dtype}]" if name == self.gguf_type else f" {name or self.dtype} "
            for name in exports.GGUF_TYPES
        )
        base = "yes" if self.with_base else "no"
        place = sanitize(self.out or str(self.run.path / exports.EXPORTS_FOLDER))
        rows = (
            ("export.strength", "strength", "1, as trained" if self.strength == 1 else f"{self.strength:g}"),
            ("export.place", "folder", place),
            ("export.dtype", "precision of full weights", choices),
            ("export.gguf_type", "type of a GGUF file", gguf_types),
            ("export.base", "include a base that is not on the hub", base),
        )
        how = Content("\n").join(
            Content.assemble((self.keys(key), "$primary bold"), f" {name}: ", (value, "bold"))
            for key, name, value in rows
        )
        self.query_one("#how", Static).update(how)
        self.frame()

    def _show_status(self, lines: list[str]) -> None:
        text = Content("\n").join(
            Content.styled(sanitize(line), "$text-muted" if line.startswith("checked:") else "")
            for line in lines
        )
        self.query_one("#status", Static).update(text)
        self.query_one(VerticalScroll).display = bool(lines)

    # ------------------------------------------------------------------ actions

    def action_dtype(self) -> None:
        self.dtype = exports.DTYPES[(exports.DTYPES.index(self.dtype) + 1) % len(exports.DTYPES)]
        self._draw()

    def action_gguf_type(self) -> None:
        types = exports.GGUF_TYPES
        self.gguf_type = types[(types.index(self.gguf_type) + 1) % len(types)]
        self._draw()

    def action_base(self) -> None:
        self.with_base = not self.with_base
        self._draw()

    @property
    def unsaved(self) -> str:
        return f"An export is in progress: {self.keys('export.leave')} stops it." if self._busy else ""

    def action_strength(self) -> None:
        """Chooses among the strengths that were measured, and the run as it was trained."""
        curve = read_results(self.run.path).strength
        points = {point.strength: point for point in curve.points if point.strength > 0}
        values = sorted({1.0, *points})
        lines = []
        for value in values:
            about = [] if value != 1 else ["as trained"]
            if point := points.get(value):
                about.append(strength_text(point, 2))
            mark = " ★" if value == curve.recommended.strength else ""
            lines.append((f"{value:g}{mark}", ", ".join(about)))
        if not points:
            measure = keys_of("retention.sweep", self.keymap)
            lines[0] = (lines[0][0], f"as trained; {measure} on Retention measures others")
        at = values.index(self.strength) if self.strength in values else values.index(1.0)

        def take(number: int | None) -> None:
            if number is not None and number >= 0:
                self.strength = values[number]
                self._draw()

        self.app.push_screen(Pick("Export at which strength? ★ recommended", lines, at), take)

    def action_place(self) -> None:
        question = "Make exports in which folder? (empty: in the run's own)"

        def take(text: str | None) -> None:
            if text is None:
                return
            try:
                self.out = str(absolute(Path(text))) if text.strip() else ""
            except LabError as error:
                self.notify(str(error), severity="error", markup=False)
            self._draw()

        self.app.push_screen(AskText(question, self.out, can_be_empty=True), take)

    def action_copy(self) -> None:
        if self.written:
            self.app.copy_to_clipboard(self.written)
            self.notify(f"Copied, if your terminal allows that: {sanitize(self.written)}", markup=False)
        else:
            self.notify("Nothing was exported yet: Enter exports the kind.", severity="warning")

    def action_leave(self) -> None:
        if self._busy and self._job is not None:
            self._job.cancel()
            self._show_status(["Ended: nothing was exported."])
        else:
            self.dismiss(None)

    def action_take(self) -> None:
        if self._busy:
            return
        kind = self.row_id
        request = exports.ExportRequest(
            run=str(self.run.path),
            kind=kind,
            dtype=self.dtype,
            strength=self.strength,
            with_base=self.with_base,
            gguf_type=self.gguf_type if kind == "gguf" else "",
        )
        target = self.run.path / exports.EXPORTS_FOLDER / request.folder_name
        if self.out:
            target = Path(self.out) / f"{self.run.id}-{request.folder_name}"
            request = replace(request, out=str(target))
        if not (target / exports.RESULT_FILE).is_file():
            self._begin(request)
            return
        question = f"There is an export in {target.name} already. Replace it?"
        self.app.push_screen(
            Confirm(question, yes="replace it", no="keep it"),
            lambda yes: self._begin(replace(request, force=True)) if yes else None,
        )

    def _begin(self, request: exports.ExportRequest) -> None:
        self._job = self._export(request)
        self._draw()

    @work(exclusive=True, group="export", description="export a run", exit_on_error=False)
    async def _export(self, request: exports.ExportRequest) -> None:
        def show(line: str) -> None:
            self._show_status([f"{request.kind}: {line}"])

        self._show_status([f"{request.kind} …"])
        try:
            answer = await run_lab_job(self, exports.JOB_MODULE, request, show, exports.ExportResult)
        except DoesNotGoOn:
            self._show_status([])
        except LabError as error:
            self._show_status([str(error)])
        else:
            self.written = answer.path if isinstance(answer.path, str) else ""
            self._show_status(exports.sentences(answer))
        finally:
            if self.is_mounted:
                self._job = None
                self._draw()
