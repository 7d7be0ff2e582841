"""Themes and plot markers: which theme is shown, and how plots are drawn."""

from __future__ import annotations

from collections.abc import Callable

from textual.theme import Theme

from tui_lab.core.settings import PLOTS, Settings
from tui_lab.ui.terminal import themes
from tui_lab.ui.terminal.textual_internals import apply_theme_again
from tui_lab.ui.terminal.types import AnyApp


class Appearance:
    """The themes of an app and its plot marker. ``settings`` gives the settings in force."""

    def __init__(self, app: AnyApp, settings: Callable[[], Settings]) -> None:
        self._app = app
        self._settings = settings
        self._chosen_marker = ""  # chosen with F8; "" leaves it to the settings and the theme
        #: Names of the lab's own themes and the user's, as they were last read.
        self.theme_names: list[str] = []

    # ------------------------------------------------------------------ themes

    def begin(self) -> None:
        """Registers the wanted theme and the default one; reading all files can wait until after the first
        frame."""
        app, wanted = self._app, self.wanted_theme()
        for name in {wanted, themes.DEFAULT_THEME}:
            if (first := themes.load_theme(name)) is not None:
                app.register_theme(first)
        if wanted in app.available_themes:
            app.theme = wanted
        elif themes.DEFAULT_THEME in app.available_themes:
            app.theme = themes.DEFAULT_THEME

    def wanted_theme(self) -> str:
        """The theme that the settings name, or the default of this terminal; without colours there is one."""
        if self._app.no_color:
            return themes.MONO_THEME
        return self._settings().theme or themes.default_for(self._app.console.color_system)

    def read_themes(self) -> list[str]:
        """Reads all theme files again; returns a sentence for each faulty one."""
        app = self._app
        found, messages = themes.load_themes()
        before = dict(app.available_themes)
        for gone in set(self.theme_names) - found.keys() - {app.theme}:
            app.unregister_theme(gone)
        for theme in found.values():
            app.register_theme(theme)
        self.theme_names = sorted(found)
        if app.theme in found and before.get(app.theme) not in (None, found[app.theme]):
            apply_theme_again(app)  # its file has changed
        return messages

    def show_wanted_theme(self) -> str:
        """Shows the theme that the settings name; returns a sentence if it does not exist."""
        wanted = self.wanted_theme()
        if wanted not in self._app.available_themes:
            return themes.unknown_theme(wanted, self.theme_names)
        if self._app.theme != wanted:
            self._app.theme = wanted
        return ""

    # ------------------------------------------------------------------ plots

    def marker_of(self, theme: Theme) -> str:
        """How plots are drawn with a theme: F8 overrides the settings, and those override the theme."""
        settings = self._settings()
        if settings.ascii:
            return "ascii"
        named = self._chosen_marker or (settings.plots if settings.plots in PLOTS else "")
        return named or getattr(theme, "marker", "") or PLOTS[0]

    @property
    def marker(self) -> str:
        """How plots are drawn now."""
        return self.marker_of(self._app.current_theme)

    @property
    def plot_weight(self) -> str:
        """How wide the lines of plots are: "normal" or "thick"."""
        return getattr(self._app.current_theme, "weight", "normal")

    def choose_next_marker(self) -> str:
        """Takes the next plot marker; returns it."""
        self._chosen_marker = PLOTS[(PLOTS.index(self.marker) + 1) % len(PLOTS)]
        return self._chosen_marker

    def forget_chosen_marker(self) -> None:
        """The settings decide again, whatever F8 chose before."""
        self._chosen_marker = ""
