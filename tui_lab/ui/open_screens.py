"""Opens and closes the screens that lie above every pane: help, explanations, settings, export and so on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.ui import pane_switcher
from tui_lab.ui.lab import lab_of
from tui_lab.ui.screens.too_small import TooSmall
from tui_lab.ui.terminal.remappable_screen import RemappableScreen
from tui_lab.ui.terminal.types import AnyApp, AnyScreen

if TYPE_CHECKING:
    from tui_lab.runs.folder import Run
    from tui_lab.ui.actions.jump import Place


def modal_is_open(app: AnyApp) -> bool:
    """Whether a modal screen is open; if so, a message says that it comes first."""
    if len(app.screen_stack) == 1:
        return False
    if not isinstance(app.screen, TooSmall):
        app.notify("First answer or close the screen above the pane.", timeout=4, markup=False)
    return True


def _group(app: AnyApp) -> str:
    return str(getattr(app.screen, "GROUP", ""))


def _toggle(app: AnyApp, screen: type[AnyScreen], make: Callable[[str], AnyScreen]) -> None:
    top = app.screen
    if isinstance(top, screen):
        top.dismiss()
    elif not isinstance(top, TooSmall) and (group := _group(app)):
        app.push_screen(make(group))


def toggle_help(app: AnyApp) -> None:
    """The help, beginning with the group in view."""
    from tui_lab.ui.actions.help import HelpScreen

    _toggle(app, HelpScreen, HelpScreen)


def toggle_cheat_sheet(app: AnyApp) -> None:
    """The keys of what is in view."""
    from tui_lab.ui.actions.cheat_sheet import CheatSheet

    _toggle(app, CheatSheet, CheatSheet)


def toggle_jump(app: AnyApp) -> None:
    """Letters on everything in view; typing one goes there."""
    from tui_lab.ui.actions.jump import Jump, places

    def go(place: Place | None) -> None:
        if place is not None:
            app.call_later(_go, place, pane_switcher.now())

    async def _go(place: Place, requested_at: float) -> None:
        with pane_switcher.requested_at(requested_at):
            result: Any = place.go()
            if result is not None:
                await result

    top = app.screen
    if isinstance(top, Jump):
        top.dismiss(None)
    elif isinstance(top, RemappableScreen) and (found := places(top)):
        app.push_screen(Jump(found), go)


def toggle_explanations(app: AnyApp) -> None:
    """The explanation of what has the focus."""
    from tui_lab.ui.actions.explain import ExplainScreen
    from tui_lab.ui.actions.explanations import focused_term

    top = app.screen
    if isinstance(top, ExplainScreen):
        top.dismiss()
    elif isinstance(top, RemappableScreen):
        app.push_screen(ExplainScreen(*focused_term(app.screen_stack)))


def open_whether(app: AnyApp) -> None:
    """The page of the help about whether to fine-tune at all."""
    from tui_lab.ui.actions.help import HelpScreen

    if not modal_is_open(app):
        app.push_screen(HelpScreen(_group(app), whether=True))


def open_themes(app: AnyApp) -> None:
    """The list of themes."""
    from tui_lab.ui.screens.theme_chooser import ThemeChooser

    if app.no_color:
        app.notify("No colours are sent (NO_COLOR or --no-color), so all themes look the same.")
    else:
        app.push_screen(ThemeChooser())


def open_settings(app: AnyApp) -> None:
    """All settings."""
    from tui_lab.ui.screens.settings import SettingsScreen

    if len(app.screen_stack) == 1:
        app.push_screen(SettingsScreen())


def open_doctor(app: AnyApp) -> None:
    """What this machine can do."""
    from tui_lab.ui.screens.doctor import DoctorScreen

    if len(app.screen_stack) == 1:
        app.push_screen(DoctorScreen())


def open_export(app: AnyApp) -> None:
    """The export of the run that is shown."""
    from tui_lab.ui.screens import export

    run = getattr(app.screen, "run_shown", None)
    if not lab_of(app).refuse_in_replay(run, "export the run itself") and not modal_is_open(app):
        export.open_export(app.screen)


def write_report(app: AnyApp) -> None:
    """Writes the report of the run that is shown, in a thread, because its log may be long."""
    if len(app.screen_stack) > 1:
        return
    try:
        run = lab_of(app).shown_run()
    except LabError as error:
        app.notify(str(error), severity="error", markup=False)
        return
    if not lab_of(app).refuse_in_replay(run, f"`tui-lab report {run.id}` writes its report"):
        work = partial(_write_report, app, run)
        app.run_worker(work, thread=True, group="report", exclusive=True, exit_on_error=False)


def _write_report(app: AnyApp, run: Run) -> None:
    from tui_lab.report.write import write

    try:
        paths = write(run)
    except LabError as error:
        app.call_from_thread(app.notify, sanitize(str(error)), severity="error", markup=False)
        return
    names = " and ".join(path.name for path in paths)
    text = f"{names} are in {sanitize(str(run.path))}"
    app.call_from_thread(app.notify, text, title="Report", timeout=12, markup=False)


#: What the action ``open(NAME)`` does.
OPENERS: dict[str, Callable[[AnyApp], None]] = {
    "help": toggle_help,
    "cheat_sheet": toggle_cheat_sheet,
    "jump": toggle_jump,
    "explanations": toggle_explanations,
    "whether": open_whether,
    "themes": open_themes,
    "settings": open_settings,
    "doctor": open_doctor,
    "export": open_export,
    "report": write_report,
}
