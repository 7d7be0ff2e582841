"""Opens and closes the screens that lie above every pane: help, explanations, settings, export and so on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.ui import pane_switcher
from tui_lab.ui.lab import lab_of
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.screens.too_small import TooSmall
from tui_lab.ui.terminal.remappable_screen import RemappableScreen
from tui_lab.ui.terminal.types import AnyApp, AnyScreen

if TYPE_CHECKING:
    from tui_lab.runs.folder import Run
    from tui_lab.ui.actions.help import Page
    from tui_lab.ui.actions.jump import Place


#: The exit code with which the lab asks for the demo.
PLAY_DEMO = 64


def close_modals(app: AnyApp) -> bool:
    """Closes the screens above the pane, because the user goes elsewhere. Returns False, after a message,
    where something unsaved would be lost."""
    above = app.screen_stack[:0:-1]
    if any(isinstance(each, TooSmall) for each in above):
        return False
    if reason := next(filter(None, (getattr(each, "unsaved", "") for each in above)), ""):
        app.notify(reason, severity="warning", timeout=6, markup=False)
        return False
    for each in above:
        getattr(each, "close_unanswered", each.dismiss)()
    return True


def only_shows(screen: AnyScreen) -> bool:
    """Whether a modal screen gives way to others: it asks nothing."""
    return getattr(screen, "INFORMATIONAL", False)


def make_way(app: AnyApp) -> bool:
    """Closes screens above the pane that only show something. Returns False, after a message, where one asks
    something."""
    above = app.screen_stack[1:]
    if all(map(only_shows, above)):
        return close_modals(app)
    if not any(isinstance(each, TooSmall) for each in above):
        app.notify("First answer or close the dialog.", timeout=4, markup=False)
    return False


def _group(app: AnyApp) -> str:
    return str(getattr(app.screen, "GROUP", ""))


def _toggle(app: AnyApp, screen: type[AnyScreen], make: Callable[[str], AnyScreen]) -> None:
    top = app.screen
    if isinstance(top, screen):
        top.dismiss()
    elif not isinstance(top, TooSmall) and (group := _group(app)):
        app.push_screen(make(group))


def toggle_help(app: AnyApp) -> None:
    """The keys, beginning with the group in view."""
    _toggle_page(app, "keys", _group(app))


def _toggle_page(app: AnyApp, page: Page, group: str, term: str = "") -> None:
    """Opens the help on a page, turns an open one to it, or closes it."""
    from tui_lab.ui.actions.help import HelpScreen

    top = app.screen
    if not isinstance(top, HelpScreen):
        if isinstance(top, RemappableScreen) and group:
            app.push_screen(HelpScreen(group, page, term))
    elif top.page == page:
        top.dismiss()
    else:
        top.show_page(page)


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
    from tui_lab.ui.actions.explanations import focused_term

    _toggle_page(app, "terms", *focused_term(app.screen_stack))


def open_whether(app: AnyApp) -> None:
    """The page of the help about whether to fine-tune at all."""
    from tui_lab.ui.actions.help import HelpScreen

    group = _group(app)
    if isinstance(app.screen, HelpScreen):
        app.screen.show_page("whether")
    elif make_way(app):
        app.push_screen(HelpScreen(group, "whether"))


def open_themes(app: AnyApp) -> None:
    """The list of themes."""
    from tui_lab.ui.screens.settings import SettingsScreen
    from tui_lab.ui.screens.theme_chooser import ThemeChooser

    if not isinstance(app.screen, SettingsScreen) and not make_way(app):
        return
    if app.no_color:
        app.notify("No colours are sent (NO_COLOR or --no-color), so all themes look the same.")
    else:
        app.push_screen(ThemeChooser())


def open_settings(app: AnyApp) -> None:
    """All settings."""
    from tui_lab.ui.screens.settings import SettingsScreen

    if isinstance(app.screen, SettingsScreen):
        app.screen.dismiss()
    elif make_way(app):
        app.push_screen(SettingsScreen())


def open_doctor(app: AnyApp) -> None:
    """What this machine can do."""
    from tui_lab.ui.screens.doctor import DoctorScreen

    if make_way(app):
        app.push_screen(DoctorScreen())


def open_learn(app: AnyApp) -> None:
    """Pages about how language models work, on the run that is shown, else on the model of Setup."""
    from tui_lab.ui.screens.learn import LearnScreen

    if make_way(app):
        run: Run | None = getattr(app.screen, "run_shown", None)
        chosen: dict[str, object] = getattr(app.screen, "values", {})  # of Setup
        model = str(chosen.get("model") or "pocket")
        if run is not None and (run.adapter_path.is_dir() or run.model_path.is_dir()):
            model = str(run.path)
        app.push_screen(LearnScreen(model))


def open_first_run(app: AnyApp) -> None:
    """Three ways to begin."""
    from tui_lab.ui.screens.first_run import FirstRun

    def chosen(answer: str | None) -> None:
        if answer == "demo":
            app.exit(return_code=PLAY_DEMO)
        elif answer:
            lab_of(app).action_pane("setup")
            app.call_later(_begin, "start" if answer == "bundled" else "own")

    async def _begin(action: str) -> None:
        await app.screen.run_action(action)

    if make_way(app):
        app.push_screen(FirstRun(), chosen)


def open_export(app: AnyApp) -> None:
    """The export of the run that is shown."""
    from tui_lab.ui.screens import export

    if not make_way(app):
        return
    run = getattr(app.screen, "run_shown", None)
    if not lab_of(app).refuse_in_replay(run, "export the run itself"):
        export.open_export(app.screen)


def write_report(app: AnyApp) -> None:
    """Writes the report of the run that is shown, in a thread, because its log may be long."""
    if not make_way(app):
        return
    try:
        run = lab_of(app).shown_run()
    except LabError as error:
        app.notify(str(error), severity="error", markup=False)
        return
    pane = app.screen
    if isinstance(pane, Pane) and not lab_of(app).refuse_in_replay(
        run, f"`tui-lab report {run.id}` writes its report"
    ):
        pane.in_thread(
            partial(_write_report, run),
            lambda text: app.notify(text, title="Report", timeout=12, markup=False),
            "report",
        )


def _write_report(run: Run) -> str:
    from tui_lab.report import write

    write.require_unchanged(run)
    names = " and ".join(path.name for path in write.write(run))
    return f"{names} are in {sanitize(str(run.path))}"


#: What the action ``open(NAME)`` does.
OPENERS: dict[str, Callable[[AnyApp], None]] = {
    "help": toggle_help,
    "cheat_sheet": toggle_cheat_sheet,
    "jump": toggle_jump,
    "explanations": toggle_explanations,
    "whether": open_whether,
    "themes": open_themes,
    "settings": open_settings,
    "learn": open_learn,
    "doctor": open_doctor,
    "first_run": open_first_run,
    "export": open_export,
    "report": write_report,
}
