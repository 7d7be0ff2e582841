"""The job that measures the run on Retention: one at a time, its progress as a line, stopped by a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.worker import Worker

from tui_lab.core.errors import LabError
from tui_lab.ui.screens.ask_changes import run_lab_job
from tui_lab.ui.screens.pane import Pane


class Measurement:
    """See the module's docstring. ``show`` is called when :attr:`progress` has changed, ``ended`` with the
    run of the request after its end."""

    def __init__(self, pane: Pane, show: Callable[[], object], ended: Callable[[str], object]) -> None:
        self._pane, self._show, self._ended = pane, show, ended
        self.progress = ""
        self._job: Worker[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether one is in progress."""
        return self._job is not None and self._job.is_running

    def refuses(self) -> bool:
        """Whether one is in progress; a message says so."""
        if self.is_running:
            stops = f"{self._pane.keys('retention.cancel')} stops it"
            self._pane.notice(f"A measurement is in progress; {stops}.", "warning")
        return self.is_running

    def start(self, module: str, what: str, run: str, **request: object) -> None:
        """Measures ``what`` of a run."""
        self._job = self._pane.run_worker(
            self._run(module, {"run": run, **request}, what),
            exclusive=True,
            group="measure",
            exit_on_error=False,
        )

    def stop(self) -> None:
        """Stops the one in progress."""
        if self._job is not None and self._job.is_running:
            self._job.cancel()
            self._pane.notice("Stopped. What was scored is saved; the next measurement continues from there.")

    async def _run(self, module: str, request: dict[str, object], what: str) -> None:
        pane, kind = self._pane, f"{what.rpartition(' ')[2]}: "

        def show(line: str) -> None:
            stops = f"{pane.keys('retention.cancel')} stops it"
            self._set_progress(f"{what}: {line.removeprefix(kind)}   {stops}")

        self._set_progress(f"{what} …")
        try:
            answer: dict[str, Any] = await run_lab_job(pane, module, request, show, dict)
        except LabError as error:
            pane.notice(error, "error")
        else:
            for warning in (*(answer.get("warnings") or ()), *(answer.get("problems") or ())):
                pane.notice(warning, "warning")
            if saved := answer.get("saved"):
                pane.notice(f"Saved as {saved}. {pane.keys('app.export')} exports it.")
        finally:
            if pane.is_mounted:
                self._set_progress("")
        self._ended(str(request["run"]))

    def _set_progress(self, text: str) -> None:
        self.progress = text
        self._show()
