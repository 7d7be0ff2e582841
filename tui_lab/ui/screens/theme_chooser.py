"""Chooses a theme while the pane beside the list shows it: the cursor previews one, Enter writes it to the
settings, Escape restores the previous one. The files are read again each time, so that the author of a theme
sees changes."""

from __future__ import annotations

from textual import on
from textual.content import Content
from textual.theme import Theme
from textual.timer import Timer
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.runs.verdicts import VERDICTS
from tui_lab.ui.actions.modal import ListDialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.screens import change_setting
from tui_lab.ui.views.plot_series import PlotOptions
from tui_lab.ui.views.probe import ROLES
from tui_lab.ui.views.states import state_text

#: Seconds that the cursor rests on a name before the screen is drawn in its colours.
REST_S = 0.08


def kind(theme: Theme) -> str:
    """What a theme is for, in a word or two."""
    if theme.ansi:
        return "16 colours"
    return ("dark" if theme.dark else "light") + (
        ", thick" if getattr(theme, "weight", "") == "thick" else ""
    )


def sample(marker: str, weight: str) -> Content:
    """The semantic colours, each with its name, as the panes write them."""
    options = PlotOptions(marker=marker, weight=weight)  # type: ignore[arg-type]
    curves = {"train": "thin", "smoothed": "thick", "validation": "points", "forecast": "dashed"}
    curve = [(f"{options.glyph(look)} {name}", name) for name, look in curves.items()]  # type: ignore[arg-type]
    verdict = [(" ".join(VERDICTS[name]), ROLES[name]) for name in ("green", "amber", "red")]
    state = [(state_text(name), f"state-{name}") for name in ("running", "paused", "finished", "failed")]
    lines: list[list[tuple[str, str]]] = [
        *(pieces[start : start + 2] for pieces in (curve, verdict, state) for start in (0, 2)),
        [("base model", "base-model"), ("tuned model", "tuned-model"), ("changed", "changed")],
        [(name, f"strategy-{name}") for name in ("greedy", "beam", "top-k", "top-p")],
        [(name, f"strategy-{name}") for name in ("temperature", "contrastive")],
        [("runs", "axis"), *((letter, f"run-{number}") for number, letter in enumerate("ABCDEF", 1))],
        [("memory", "memory"), ("reserved", "memory-reserved"), ("total", "memory-total")],
        [("throughput", "throughput"), ("learning rate", "learning-rate"), ("axis", "axis")],
        [("surprise", "axis"), *((str(number), f"surprise-{number}") for number in range(5))],
        [("error", "text-error"), ("warning", "text-warning"), ("muted", "text-muted")],
    ]
    parts: list[str | tuple[str, str]] = []
    for line in lines:
        for text, role in line:
            parts += [(text, f"${role}"), "  "]
        parts[-1] = "\n"
    return Content.assemble(*parts[:-1])


class ThemeChooser(ListDialog[None]):
    """See the module's docstring."""

    DEFAULT_CSS = """
    ThemeChooser { align: right middle; background: transparent; }
    ThemeChooser > .dialog { width: 42; max-width: 60%; height: 100%; max-height: 100%; }
    ThemeChooser OptionList, ThemeChooser OptionList:focus { height: 1fr; min-height: 3; max-height: 16; }
    ThemeChooser #about { display: block; padding: 0 1; background: $background; text-wrap: nowrap; }
    """
    GROUP = "themes"
    BINDINGS = bindings("themes")
    heading = "Themes"

    def __init__(self) -> None:
        super().__init__()
        self.before = ""
        self._timer: Timer | None = None

    def hint(self) -> str:
        return f"Enter takes it, {self.keys('themes.leave')} back"

    def on_mount(self) -> None:
        self.before = self.app.theme
        self.app.clear_notifications()  # they would lie over the list
        if faults := self.lab.appearance.read_themes():
            more = "" if len(faults) == 1 else f"\nand {len(faults) - 1} more: `tui-lab doctor` lists them"
            self.notify(faults[0] + more, severity="warning", title="Left out", markup=False)
        themes = self.app.available_themes
        # what is shown is in the list even if its file has gone, or if it is one of Textual's own
        names = sorted({*self.lab.appearance.theme_names, self.before})
        width = max(map(len, names), default=0) + 2
        rows = []
        for name in names:
            here = ("● " if name == self.before else "  ", "$changed")
            about = (kind(themes[name]), "$text-muted")
            rows.append(Option(Content.assemble(here, sanitize(name).ljust(width), about), id=name))
        self.show_rows(rows, self.before)
        self.app.theme_changed_signal.subscribe(self, lambda _: self.describe())
        self.describe()

    def describe(self) -> None:
        """Shows the colours of the theme that is on."""
        # the app takes what a theme says of plots after the signal, too
        theme = self.app.current_theme
        marker = self.lab.appearance.marker_of(theme)
        self.query_one("#about", Static).update(sample(marker, getattr(theme, "weight", "normal")))

    @on(OptionList.OptionHighlighted)
    def _try(self, event: OptionList.OptionHighlighted) -> None:
        if self._timer is not None:
            self._timer.stop()
        name = event.option_id or ""
        self._timer = self.set_timer(REST_S, lambda: self._preview(name))

    def _preview(self, name: str) -> None:
        self._timer = None
        if name in self.app.available_themes and self.app.theme != name:
            self.app.theme = name

    def action_take(self) -> None:
        name = self.row_id
        self._stop()
        self._preview(name)
        try:
            message = change_setting.change(self.lab, "theme", name)
        except LabError as error:
            text = f"Only until the lab ends: {sanitize(str(error))}"
            self.app.notify(text, severity="warning", markup=False)
        else:
            self.app.notify(message, markup=False)
        self.dismiss(None)

    def action_leave(self) -> None:
        self._stop()
        self._preview(self.before)
        self.dismiss(None)

    def close_unanswered(self) -> None:
        self.action_leave()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
