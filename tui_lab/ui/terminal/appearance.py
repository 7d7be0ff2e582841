"""How the lab looks: its theme, how plots are drawn, and what the terminal can show at all: no colours, only
ASCII. The app's side of themes.py and filters.py."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

from textual.binding import Binding
from textual.filter import LineFilter
from textual.notifications import SeverityLevel
from textual.reactive import reactive
from textual.theme import Theme

from tui_lab.core.settings import PLOTS, Settings, ascii_reason
from tui_lab.ui.actions.keys import key_name
from tui_lab.ui.terminal import filters, themes
from tui_lab.ui.terminal.output import LineApp
from tui_lab.ui.terminal.textual_internals import all_screens, apply_theme_again

#: What stands over a passing message that has no title of its own.
TITLES = {"warning": "! Warning", "error": "✗ Error"}


class LooksApp(LineApp):
    """See the module's docstring. ``settings`` is the one in force; colours and ASCII are as it said at the
    start."""

    #: How plots are drawn, and how wide their lines are ("normal" or "thick").
    marker: reactive[str] = reactive("braille")
    plot_weight: reactive[str] = reactive("normal")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._own_filters = filters.wanted(settings)
        self._chosen_marker = ""  # what F8 chose; "" leaves it to the settings and the theme
        super().__init__(slow_link=settings.slow_link)
        # NO_COLOR is read by the settings, which may be overruled; Textual itself would send greys
        self.no_color = not settings.color
        #: The lab's own themes and the user's, as they were last read.
        self.lab_themes: list[str] = []
        wanted = self.wanted_theme()
        for name in {wanted, themes.DEFAULT_THEME}:
            if (first := themes.load_theme(name)) is not None:
                self.register_theme(first)
        if wanted in self.available_themes:
            self.theme = wanted
        elif themes.DEFAULT_THEME in self.available_themes:
            self.theme = themes.DEFAULT_THEME
        self.set_reactive(LooksApp.marker, self.marker_of(self.current_theme))
        self.set_reactive(LooksApp.plot_weight, self._weight())

    def get_line_filters(self) -> Sequence[LineFilter]:
        return filters.chosen(super().get_line_filters(), self._own_filters)

    def notify(
        self, message: str, *, title: str = "", severity: SeverityLevel = "information", **more: Any
    ) -> None:
        """A passing message. Textual tells how grave it is by the colour of an edge alone."""
        super().notify(message, title=title or TITLES.get(severity, ""), severity=severity, **more)

    def get_key_display(self, binding: Binding) -> str:
        """A key in a line of keys as it is written everywhere else."""
        shown = binding.key_display or key_name(binding.key)
        return shown if shown.isascii() or not self.settings.ascii else binding.key  # the word, not an arrow

    # ------------------------------------------------------------------ themes

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return themes.fallbacks(self.current_theme)

    def wanted_theme(self) -> str:
        """The theme that the settings ask for, or the one for this terminal. Without colours there is one."""
        if self.no_color:
            return themes.MONO_THEME
        return self.settings.theme or themes.default_for(self.console.color_system)

    def read_themes(self) -> list[str]:
        """Reads all theme files, again after the first time; a sentence for each that is faulty."""
        found, messages = themes.load_themes()
        before = dict(self.available_themes)
        for gone in set(self.lab_themes) - found.keys() - {self.theme}:
            self.unregister_theme(gone)
        for theme in found.values():
            self.register_theme(theme)
        self.lab_themes = sorted(found)
        if self.theme in found and before.get(self.theme) not in (None, found[self.theme]):
            apply_theme_again(self)  # its file has changed
        return messages

    def take_theme(self) -> str:
        """Shows the theme that the settings ask for; a sentence when there is none of that name."""
        wanted = self.wanted_theme()
        if wanted not in self.available_themes:
            return themes.unknown_theme(wanted, self.lab_themes)
        if self.theme != wanted:
            self.theme = wanted
        return ""

    def begin_looks(self) -> list[str]:
        """What can wait until the first frame is drawn; sentences about what was left out."""
        faults = self.read_themes()
        messages = [*filter(None, [self.take_theme()]), *faults]  # what was asked for comes first
        self.theme_changed_signal.subscribe(self, lambda _: self.take_plots())
        if self.settings.ascii and (reason := ascii_reason(os.environ)):
            self.notify(reason, title="ASCII only", timeout=12, markup=False)
        return messages

    # ------------------------------------------------------------------ plots

    def marker_of(self, theme: Theme) -> str:
        """How plots are drawn: as F8 chose, else as the settings say, else as the theme does."""
        if self.settings.ascii:
            return "ascii"
        said = self._chosen_marker or (self.settings.plots if self.settings.plots in PLOTS else "")
        return said or getattr(theme, "marker", "") or PLOTS[0]

    def _weight(self) -> str:
        return getattr(self.current_theme, "weight", "normal")

    def take_plots(self) -> None:
        """Draws plots as F8, the settings and the theme say now."""
        self.marker = self.marker_of(self.current_theme)
        self.plot_weight = self._weight()

    def forget_marker(self) -> None:
        """The settings hold again, whatever F8 chose before."""
        self._chosen_marker = ""
        self.take_plots()

    def action_next_marker(self) -> None:
        if self.settings.ascii:
            self.notify("Plots stay in ASCII: nothing else is written to this terminal.", timeout=4)
            return
        self._chosen_marker = PLOTS[(PLOTS.index(self.marker) + 1) % len(PLOTS)]
        self.take_plots()
        self.notify(f"plots in {self.marker}", timeout=2)

    def watch_marker(self, marker: str) -> None:
        self._tell_plots(marker=marker)

    def watch_plot_weight(self, weight: str) -> None:
        self._tell_plots(weight=weight)

    def _tell_plots(self, **changes: Any) -> None:
        from tui_lab.ui.widgets.plot import Plot

        for screen in all_screens(self):
            for plot in screen.query(Plot):
                plot.set_options(**cast("Any", changes))
