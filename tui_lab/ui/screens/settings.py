"""The settings screen: every setting with its value and where that comes from; Enter changes it, Backspace
resets it. Each change is written to the user's file at once."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core import settings
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.modal import Modal
from tui_lab.ui.actions.registry import ACTIONS, bindings
from tui_lab.ui.screens.change_setting import EFFECT, change, goes_before

NAME_WIDTH, VALUE_WIDTH = 20, 26
#: Rows of the border, the foot and the blank line over it.
AROUND_LIST = 8


def row(name: str, value: object, source: str) -> Content:
    """One line of the list."""
    text = (
        f"{len(value)} of {len(ACTIONS)} changed"
        if isinstance(value, dict)
        else settings.format_value(value) or "–"
    )
    if len(text) >= VALUE_WIDTH:
        text = text[: VALUE_WIDTH - 2] + "…"
    own = source != "default"
    return Content.assemble(
        ("● " if own else "  ", "$changed"),
        f"{name:<{NAME_WIDTH}}",
        (f"{text:<{VALUE_WIDTH}}", "bold" if own else ""),
        (source, "$text-muted"),
    )


def about(name: str, before: str) -> Content:
    """The foot: what a setting is for, what it takes, when a change of it shows and what goes before it."""
    metadata = settings.FIELDS[name].metadata
    facts = [f"one of {', '.join(metadata['choices'])}"] if metadata.get("choices") else []
    facts += [f"a change {EFFECT[name]}"]
    if metadata["env"]:
        facts.append(f"environment: {metadata['env']}")
    lines: list[str | tuple[str, str]] = [metadata["help"], "\n", ("; ".join(facts), "$text-muted")]
    if before:
        lines += ["\n", (f"! {sanitize(before)} goes before the file", "$text-warning")]
    return Content.assemble(*lines)


def _short(path: Path) -> str:
    """A path as people write it: below their home with a tilde."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):  # it lies elsewhere, or nobody knows where home is
        return str(path)


class SettingsList(OptionList):
    """The list itself: Left and Right would scroll it otherwise."""

    BINDINGS: ClassVar[list[BindingType]] = [
        each for each in bindings("settings") if isinstance(each, Binding) and each.key in ("left", "right")
    ]


class SettingsScreen(Modal[None]):
    """The list. Changes are made, written and told of one by one."""

    DEFAULT_CSS = """
    SettingsScreen { align: center middle; }
    SettingsScreen > Vertical {
        width: 92; max-width: 100%; height: auto; max-height: 100%; background: $panel;
        border: round $primary; padding: 0 1;
    }
    SettingsScreen OptionList, SettingsScreen OptionList:focus {
        height: auto; max-height: 1fr; border: none; padding: 0; background: $panel;
        text-wrap: nowrap; text-overflow: ellipsis; scrollbar-size-vertical: 1;
    }
    SettingsScreen #about { height: 5; margin-top: 1; padding: 0 2; }
    """
    GROUP = "settings"
    BINDINGS = bindings("settings")

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content(f"Settings · {sanitize(_short(settings.path()))}")
            box.border_subtitle = (
                f"Enter changes, {self.keys('settings.reset')} resets, {self.keys('settings.close')} closes"
            )
            yield SettingsList(id="settings")
            yield Static(id="about")

    @property
    def _list(self) -> OptionList:
        return self.query_one("#settings", OptionList)

    @property
    def name_shown(self) -> str:
        """The setting under the cursor."""
        return list(settings.FIELDS)[self._list.highlighted or 0]

    @property
    def explains(self) -> str:
        """What is explained of it on demand: the setting under the cursor."""
        return f"settings.{self.name_shown}"

    def _value(self, name: str) -> object:
        return getattr(self.lab.settings, name)

    def _row(self, name: str) -> Content:
        return row(name, self._value(name), self.lab.sources.get(name, "default"))

    def on_mount(self) -> None:
        self._list.add_options([Option(self._row(name), id=name) for name in settings.FIELDS])
        self._list.highlighted = 0
        self._list.focus()

    def on_resize(self, event: events.Resize) -> None:
        # the foot says what a change does: it is not what gives way in a low window
        self._list.styles.max_height = max(3, event.size.height - AROUND_LIST)

    def on_screen_resume(self) -> None:
        if self._list.option_count:  # what lay over this screen may have changed any
            for name in settings.FIELDS:
                self._list.replace_option_prompt(name, self._row(name))

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._describe()

    def _describe(self) -> None:
        name = self.name_shown
        self.query_one("#about", Static).update(about(name, goes_before(self.lab, name)))

    @on(OptionList.OptionSelected)
    def _taken(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_change()

    # ------------------------------------------------------------------ changing

    def set_value(self, name: str, value: object) -> bool:
        """Changes, writes and tells; whether it was taken."""
        try:
            text = change(self.lab, name, value)
        except LabError as error:
            self.notify(sanitize(str(error)), severity="error", markup=False, timeout=12)
            return False
        self.notify(text, markup=False)
        self._list.replace_option_prompt(name, self._row(name))
        self._describe()
        return True

    def action_reset(self) -> None:
        self.set_value(self.name_shown, None)

    def action_turn(self, by: int) -> None:
        name = self.name_shown
        value, choices = self._value(name), settings.FIELDS[name].metadata.get("choices")
        if isinstance(value, bool):
            self.set_value(name, not value)
        elif choices:
            self.set_value(name, choices[(choices.index(value) + by) % len(choices)])

    def action_change(self) -> None:
        name = self.name_shown
        value, choices = self._value(name), settings.FIELDS[name].metadata.get("choices")
        if isinstance(value, bool):
            self.set_value(name, not value)
        elif name == "keys":
            from tui_lab.ui.screens.keymap import KeyMapScreen

            self.app.push_screen(KeyMapScreen())
        elif name == "theme":
            self.lab.action_open("themes")
        elif choices:
            self._pick(name, value, choices)
        else:
            self._ask(name, settings.format_value(value))

    def _pick(self, name: str, value: object, choices: tuple[str, ...]) -> None:
        from tui_lab.ui.widgets.dialogs import Pick

        def taken(number: int | None) -> None:
            if number is not None and number >= 0:
                self.set_value(name, choices[number])

        lines = [(choice, "") for choice in choices]
        self.app.push_screen(Pick(name, lines, choices.index(value)), taken)

    def _ask(self, name: str, text: str) -> None:
        """Asks until the answer fits, or Escape."""
        from tui_lab.ui.widgets.dialogs import AskText

        def answered(answer: str | None) -> None:
            if answer is not None and not self.set_value(name, answer or None):
                self._ask(name, answer)

        question = f"{name}: {settings.FIELDS[name].metadata['help']}"
        self.app.push_screen(AskText(question, text, can_be_empty=True), answered)
