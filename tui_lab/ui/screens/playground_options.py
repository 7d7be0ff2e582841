"""The form with the options of the Playground. Left, Right and Enter turn a choice, Enter edits a text; every
change is applied at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.modal import ListDialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.views.playground_settings import OPTIONS, PlaygroundSettings, shown, turned, typed

LABEL_WIDTH = 16


class OptionRows(OptionList):
    """The rows: Left and Right would scroll them otherwise."""

    BINDINGS: ClassVar[list[BindingType]] = [
        each for each in bindings("options") if isinstance(each, Binding) and each.key in ("left", "right")
    ]


class PlaygroundOptions(ListDialog[None]):
    """See the module's docstring. ``apply`` is called with the settings after each change; ``at``: the option
    under the cursor; ``can_think``: the loaded model can be asked to think."""

    DEFAULT_CSS = """
    PlaygroundOptions > .dialog { width: 84; }
    PlaygroundOptions #about { height: 2; color: $text-muted; }
    PlaygroundOptions #value { display: none; margin-top: 1; }
    PlaygroundOptions #value.-open { display: block; }
    """
    GROUP = "options"
    LIST = OptionRows
    BINDINGS = bindings("options")
    heading = "Options of Playground"

    def __init__(
        self,
        settings: PlaygroundSettings,
        apply: Callable[[PlaygroundSettings], object],
        at: str = "",
        can_think: bool = True,
    ) -> None:
        super().__init__()
        self.settings, self._apply, self._at, self._can_think = settings, apply, at, can_think
        self._before = ""  # the text that is edited

    def hint(self) -> str:
        return f"Enter changes, {self.keys('options.leave')} closes"

    def compose_body(self) -> ComposeResult:
        yield from super().compose_body()
        yield Input(id="value")

    def on_mount(self) -> None:
        super().on_mount()
        self.show_rows([Option(self._row(name), id=name) for name in OPTIONS], self._at)
        if self._at and OPTIONS[self._at].is_text:
            self.call_after_refresh(self.action_take)

    def _row(self, name: str) -> Content:
        value = shown(self.settings, name)
        if name == "thinking" and not self._can_think:
            value = "not of this model"
        value = " ".join(sanitize(value).split())
        return Content.assemble(f" {OPTIONS[name].label:<{LABEL_WIDTH}}", (value, "bold"))

    def about(self, row_id: str) -> Content | None:
        return Content(OPTIONS[row_id].help) if row_id in OPTIONS else None

    def _change(self, settings: PlaygroundSettings) -> None:
        self.settings = settings
        self._apply(settings)
        self.redraw_rows(self._row)

    def action_turn(self, by: int) -> None:
        if self.row_id == "thinking" and not self._can_think:
            self.notify("This model's chat template has no thinking to switch.", markup=False)
        elif self.row_id:
            self._change(turned(self.settings, self.row_id, by))

    def action_take(self) -> None:
        name, field = self.row_id, self._field
        if not OPTIONS[name].is_text:
            self.action_turn(1)
            return
        field.border_title = OPTIONS[name].label
        field.value = self._before = (
            self.settings.system if name == "system" else str(self.settings.max_new_tokens)
        )
        field.add_class("-open")
        field.focus()

    @property
    def _field(self) -> Input:
        return self.query_one("#value", Input)

    @on(Input.Submitted, "#value")
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        settings = typed(self.settings, self.row_id, event.value)
        if isinstance(settings, str):
            self.query_one("#about", Static).update(Content.styled(sanitize(settings), "$text-error"))
            self.app.bell()
            return
        self._change(settings)
        self._close_field()

    def _close_field(self) -> None:
        self._field.remove_class("-open")
        self.options.focus()
        self.describe()

    @property
    def unsaved(self) -> str:
        field = self._field
        if not field.has_class("-open") or field.value == self._before:
            return ""
        return f"What you typed is not saved: Enter accepts it, {self.keys('options.leave')} drops it."

    def action_leave(self) -> None:
        if self._field.has_class("-open"):
            self._close_field()
        else:
            self.dismiss(None)
