"""The part of the app that writes to the terminal: only changed cells are sent (see
:mod:`tui_lab.ui.terminal.screen_diff`), through filters for terminals without colours or without other
characters than ASCII; on a slow link, what moves by itself is drawn less often."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from textual import events
from textual.app import App
from textual.binding import Binding
from textual.filter import LineFilter
from textual.notifications import SeverityLevel
from textual.reactive import reactive

from tui_lab.core.settings import Settings, ascii_reason
from tui_lab.ui.actions.keys import key_name
from tui_lab.ui.terminal import filters, themes
from tui_lab.ui.terminal.appearance import Appearance
from tui_lab.ui.terminal.screen_diff import DiffUpdate, Frame
from tui_lab.ui.terminal.textual_internals import CompositorUpdate
from tui_lab.ui.terminal.types import AnyScreen
from tui_lab.ui.widgets.panel import COLOURLESS_CSS

#: Titles of messages that have none of their own.
TITLES = {"warning": "! Warning", "error": "✗ Error"}


class TerminalApp(App[None]):
    """See the module's docstring. ``settings`` are those in force; whether colours and other characters than
    ASCII are written is decided at the start."""

    CSS = COLOURLESS_CSS
    #: Whether less is to be sent; may change at any time.
    slow_link: reactive[bool] = reactive(False)
    #: How plots are drawn, and how wide their lines are ("normal" or "thick").
    marker: reactive[str] = reactive("braille")
    plot_weight: reactive[str] = reactive("normal")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._own_filters = filters.for_settings(settings)
        super().__init__()
        self.frame = Frame()
        # the settings read NO_COLOR and may override it; Textual would send greys
        self.no_color = not settings.color
        self._usual_animation = self.animation_level
        self.set_reactive(TerminalApp.slow_link, settings.slow_link)
        self._set_animation()
        self.appearance = Appearance(self, lambda: self.settings)
        self.appearance.begin()
        self.set_reactive(TerminalApp.marker, self.appearance.marker)
        self.set_reactive(TerminalApp.plot_weight, self.appearance.plot_weight)

    def on_ready(self) -> None:
        # another program has written to the terminal while the app was suspended
        self.app_resume_signal.subscribe(self, lambda _: self.action_redraw())

    # ------------------------------------------------------------------ output

    def get_line_filters(self) -> Sequence[LineFilter]:
        return filters.combined(super().get_line_filters(), self._own_filters)

    def on_resize(self, _event: events.Resize) -> None:
        self.frame.forget()

    def _display(self, screen: AnyScreen, renderable: Any) -> None:
        if isinstance(renderable, CompositorUpdate) and not self.is_inline:
            renderable = DiffUpdate(renderable, self.frame)
        elif renderable is not None:
            self.frame.forget()
        super()._display(screen, renderable)

    def panic(self, *_: Any) -> None:
        """Ends the app after an unexpected error and prints nothing: the command line reports it in one
        sentence (see :meth:`SignalHandler.run`)."""
        super().panic()

    def _fatal_error(self) -> None:
        self.panic()

    def action_redraw(self) -> None:
        """Sends the whole screen again."""
        self.frame.forget()
        self.screen.refresh()

    def notify(
        self, message: str, *, title: str = "", severity: SeverityLevel = "information", **more: Any
    ) -> None:
        """Shows a message. Textual shows the severity by a colour only, so the title says it too."""
        super().notify(message, title=title or TITLES.get(severity, ""), severity=severity, **more)

    def get_key_display(self, binding: Binding) -> str:
        """A key in the footer, written as everywhere else."""
        shown = binding.key_display or key_name(binding.key)
        return shown if shown.isascii() or not self.settings.ascii else binding.key  # the word, not an arrow

    # ------------------------------------------------------------------ a slow link

    def action_slow_link(self) -> None:
        """Sends less, or as usual again."""
        self.slow_link = not self.slow_link
        effect = "plots and streams are drawn less often" if self.slow_link else "everything is drawn at once"
        self.notify(f"Slow link {'on' if self.slow_link else 'off'}: {effect}.", timeout=3)

    def watch_slow_link(self) -> None:
        self._set_animation()
        if self.is_running and self.focused is not None:
            self._set_blinking(self.focused)

    def _set_animation(self) -> None:
        self.animation_level = "none" if self.slow_link else self._usual_animation

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self._set_blinking(event.widget)

    def _set_blinking(self, widget: Any) -> None:
        if hasattr(widget, "cursor_blink"):
            widget.cursor_blink = not self.slow_link

    # ------------------------------------------------------------------ themes and plots

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return themes.fallbacks(self.current_theme)

    def load_appearance(self) -> list[str]:
        """Reads all theme files, after the first frame; returns sentences about what cannot be used."""
        faults = self.appearance.read_themes()
        messages = [*filter(None, [self.appearance.show_wanted_theme()]), *faults]
        self.theme_changed_signal.subscribe(self, lambda _: self.apply_plots())
        if self.settings.ascii and (reason := ascii_reason(os.environ)):
            self.notify(reason, title="ASCII only", timeout=12, markup=False)
        return messages

    def apply_plots(self) -> None:
        """Draws plots as F8, the settings and the theme say now."""
        self.marker = self.appearance.marker
        self.plot_weight = self.appearance.plot_weight

    def forget_marker(self) -> None:
        """Draws plots as the settings say, whatever F8 chose before."""
        self.appearance.forget_chosen_marker()
        self.apply_plots()

    def action_next_marker(self) -> None:
        """Draws plots with the next marker."""
        if self.settings.ascii:
            self.notify("Plots stay in ASCII, because only ASCII is written to this terminal.", timeout=4)
            return
        self.marker = self.appearance.choose_next_marker()
        self.apply_plots()
        self.notify(f"Plots in {self.marker}.", timeout=2)
