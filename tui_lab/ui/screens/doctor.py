"""The doctor inside the lab: the checks as they arrive, and then what to fix. A child process checks the
machine and ends with the screen, so the lab is never blocked."""

from __future__ import annotations

import asyncio
import sys

from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_lab import doctor
from tui_lab.core.errors import LabError
from tui_lab.core.records import from_json
from tui_lab.core.sanitize import sanitize
from tui_lab.doctor.check import DoctorCheck
from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import bindings, pane_digits
from tui_lab.ui.terminal.textual_internals import call_after_layout
from tui_lab.ui.user_files import CHECKS
from tui_lab.ui.views.states import CHECK_STATES

COMMAND = (sys.executable, "-m", "tui_lab.doctor")
WIDEST = 104
#: Cells around the text.
AROUND = 5
#: Cells of a state's glyph and the blank after it.
GLYPH = 2


def shown(check: DoctorCheck, width: int) -> Content:
    """One check: its state as glyph and word, its name, what was found, what to do."""
    state = CHECK_STATES[check.state]
    text = sanitize(doctor.line(check, width - GLYPH), keep_newlines=True).replace("\n", "\n" + " " * GLYPH)
    rest = text.removeprefix(check.state)
    return Content.assemble((f"{state.glyph} {state.word}", f"${state.role}"), rest)


class DoctorScreen(Dialog[None]):
    """The report, growing."""

    DEFAULT_CSS = """
    DoctorScreen > .dialog { height: 100%; max-height: 100%; padding: 0; }
    DoctorScreen VerticalScroll { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    DoctorScreen #to-do { margin-top: 1; }
    """
    GROUP = "doctor"
    AUTO_FOCUS = "VerticalScroll"
    INFORMATIONAL = True
    BINDINGS = [*bindings("doctor"), *pane_digits()]  # noqa: RUF012
    heading = "Doctor"

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        super().__init__()
        self.command = command
        self.found: list[DoctorCheck] = []
        self._at_end = False
        self._child: asyncio.subprocess.Process | None = None

    def hint(self) -> str:
        return f"{self.keys('doctor.again')} checks again, {self.keys('doctor.close')} closes"

    def compose_body(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(id="checks")
            yield Static(id="to-do")

    def on_mount(self) -> None:
        self.action_again()

    def action_again(self) -> None:
        self.run_worker(self._check(), group="doctor", exclusive=True, exit_on_error=False)

    async def _check(self) -> None:
        self._end_child()
        # tmux is asked, which may keep one waiting
        self.found = await asyncio.to_thread(lambda: list(doctor.terminal_checks(ask=False)))
        if not self._draw(at_end=False):
            return  # closed before this began
        child = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self._child = child
        assert child.stdout is not None
        try:
            async for line in child.stdout:
                self.found.append(from_json(line, DoctorCheck, "the report of the doctor"))
                self._draw(at_end=False)
            await child.wait()
        except LabError:
            self.found.append(DoctorCheck("doctor", "fail", "its report cannot be read", "`tui-lab doctor`"))
        finally:
            self._end_child()
        if child.returncode:
            text = "the checks of the machine ended early"
            self.found.append(DoctorCheck("doctor", "fail", text, "see `tui-lab doctor` in a shell"))
        self.found += await asyncio.to_thread(lambda: list(doctor.run_checks(CHECKS)))
        self._draw(at_end=True)

    def _draw(self, at_end: bool) -> bool:
        """Whether there is still a screen to draw on."""
        if not self.query("#to-do"):
            return False
        self._at_end = at_end
        report = self.query_one(VerticalScroll)
        follows = report.is_vertical_scroll_end  # nobody has scrolled back
        width = min(WIDEST, self.app.size.width) - AROUND
        checks = [shown(check, width) for check in self.found]
        self.query_one("#checks", Static).update(Content("\n").join(checks))
        text = f"{len(self.found)} checks done, more are running …"
        if at_end:
            text = doctor.summary(self.found, width)
        self.query_one("#to-do", Static).update(Content.styled(sanitize(text, keep_newlines=True), "bold"))
        if follows:
            call_after_layout(self, self._scroll_to_end)
        return True

    def _scroll_to_end(self) -> None:
        for report in self.query(VerticalScroll):
            report.scroll_end(animate=False, immediate=True)

    def on_resize(self, _event: events.Resize) -> None:
        self._draw(self._at_end)

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            child.kill()

    def on_unmount(self) -> None:
        self._end_child()
