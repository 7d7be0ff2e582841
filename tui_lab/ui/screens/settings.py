"""Two lists whose rows are edited: all settings, with where each value comes from, and the keys of all
actions. Enter changes the row under the cursor, Backspace resets it. Each change is written to the user's
file at once; a key that another action has at the same place is refused."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingsMap, BindingType
from textual.content import Content
from textual.dom import DOMNode
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core import settings
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions import keymap
from tui_lab.ui.actions.modal import Dialog, ListDialog
from tui_lab.ui.actions.registry import ACTIONS, BY_ID, GROUPS, bindings, keys_now, keys_of, pane_digits
from tui_lab.ui.screens.change_setting import EFFECT, change, label, overriding_source
from tui_lab.ui.widgets.dialogs import QUESTION_CSS, AskText, Pick

NAME_WIDTH, VALUE_WIDTH = 30, 22
LABEL_WIDTH, KEYS_WIDTH = 16, 24
#: Rows of the border, the foot and the blank line over it.
AROUND_LIST = 8
#: Keys that move and close everywhere: they cannot be given to another action.
RESERVED = ("escape", "enter", "tab", "shift+tab", "up", "down", "ctrl+c", "ctrl+q")


def _row(name: str, value: str, source: str, changed: bool, widths: tuple[int, int]) -> Content:
    """One line of a list: a mark if it is changed, name, value, where the value comes from."""
    value = value if len(value) < widths[1] else f"{value[: widths[1] - 2]}…"
    return Content.assemble(
        ("● " if changed else "  ", "$changed"),
        f"{name:<{widths[0]}}",
        (f"{sanitize(value):<{widths[1]}}", "bold" if changed else ""),
        (source, "$text-muted"),
    )


class EditDialog(ListDialog[None]):
    """A list of values in the user's settings file. Subclasses draw a row in :meth:`row`."""

    DEFAULT_CSS = """
    EditDialog > .dialog { width: 92; }
    EditDialog OptionList > .option-list--option-disabled { color: $primary; text-style: bold; }
    """

    def row(self, row_id: str) -> Content:
        """A row as it is now."""
        raise NotImplementedError

    def write(self, name: str, value: object, text: str = "") -> bool:
        """Changes a setting here and in the file (None: to its default), and shows ``text``, else what was
        done. Whether it was possible; if not, a message says why."""
        try:
            done = change(self.lab, name, value)
        except LabError as error:
            self.show_error(error)
            return False
        self.notify(text or done, markup=False)
        self.redraw()
        return True

    def redraw(self) -> None:
        """Draws all rows again."""
        self.redraw_rows(self.row)


def _short(path: Path) -> str:
    """A path below the home folder, with a tilde."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):  # it is elsewhere, or there is no home folder
        return str(path)


class SettingsList(OptionList):
    """The list: Left and Right would scroll it otherwise."""

    BINDINGS: ClassVar[list[BindingType]] = [
        each for each in bindings("settings") if isinstance(each, Binding) and each.key in ("left", "right")
    ]


class SettingsScreen(EditDialog):
    """All settings."""

    DEFAULT_CSS = """
    SettingsScreen > .dialog { max-height: 100%; }
    SettingsScreen #about { height: 5; }
    """
    GROUP = "settings"
    LIST = SettingsList
    INFORMATIONAL = True
    BINDINGS = [*bindings("settings"), *pane_digits()]  # noqa: RUF012

    def hint(self) -> str:
        reset, close = self.keys("settings.reset"), self.keys("settings.close")
        return f"Enter changes, {reset} resets, {close} closes"

    @property
    def explains(self) -> str:
        """The term that F10 explains: the setting under the cursor."""
        return f"settings.{self.row_id}"

    def _value(self, name: str) -> object:
        return getattr(self.lab.settings, name)

    def row(self, row_id: str) -> Content:
        value, source = self._value(row_id), self.lab.sources.get(row_id, "default")
        text = settings.format_value(value) or settings.FIELDS[row_id].metadata.get("unset", "none")
        if isinstance(value, dict):
            text = f"{len(value)} of {len(ACTIONS)} changed"
        return _row(label(row_id), text, source, source != "default", (NAME_WIDTH, VALUE_WIDTH))

    def about(self, row_id: str) -> Content:
        """What a setting is for, what it takes, when a change of it shows and what overrides the file."""
        metadata = settings.FIELDS[row_id].metadata
        details = [f"one of {', '.join(metadata['choices'])}"] if metadata.get("choices") else []
        details += [f"a change {EFFECT[row_id]}", f"in the file: {row_id}"]
        details += [f"environment: {metadata['env']}"] if metadata["env"] else []
        lines: list[str | tuple[str, str]] = [metadata["help"], "\n", ("; ".join(details), "$text-muted")]
        if source := overriding_source(self.lab, row_id):
            lines += ["\n", (f"! {sanitize(source)} goes before the file", "$text-warning")]
        return Content.assemble(*lines)

    def on_mount(self) -> None:
        self.heading = f"Settings · {_short(settings.path())}"
        self.show_rows([Option(self.row(name), id=name) for name in settings.FIELDS])

    def on_resize(self, event: events.Resize) -> None:
        # the foot says what a change does: a low window shortens the list instead
        self.options.styles.max_height = max(3, event.size.height - AROUND_LIST)

    def on_screen_resume(self) -> None:
        self.redraw()  # the screen above this one may have changed any

    # ------------------------------------------------------------------ changing

    def action_reset(self) -> None:
        if self.row_id:
            self.write(self.row_id, None)

    def action_turn(self, by: int) -> None:
        if not (name := self.row_id):
            return
        value, choices = self._value(name), settings.FIELDS[name].metadata.get("choices")
        if isinstance(value, bool):
            self.write(name, not value)
        elif choices:
            self.write(name, choices[(choices.index(value) + by) % len(choices)])

    def action_take(self) -> None:
        self.action_change()

    def action_change(self) -> None:
        if not (name := self.row_id):
            return
        value, choices = self._value(name), settings.FIELDS[name].metadata.get("choices")
        if isinstance(value, bool):
            self.write(name, not value)
        elif name == "keys":
            self.app.push_screen(KeyMapScreen())
        elif name == "theme":
            self.lab.action_open("themes")
        elif choices:
            self._pick(name, value, choices)
        else:
            self._ask(name, settings.format_value(value))

    def _pick(self, name: str, value: object, choices: tuple[str, ...]) -> None:
        def taken(number: int | None) -> None:
            if number is not None and number >= 0:
                self.write(name, choices[number])

        self.app.push_screen(
            Pick(label(name), [(choice, "") for choice in choices], choices.index(value)), taken
        )

    def _ask(self, name: str, text: str) -> None:
        """Asks until the answer fits, or Escape."""

        def answered(answer: str | None) -> None:
            if answer is not None and not self.write(name, answer or None):
                self._ask(name, answer)

        question = f"{label(name)}: {settings.FIELDS[name].metadata['help']}"
        self.app.push_screen(AskText(question, text, can_be_empty=True), answered)


# ------------------------------------------------------------------ keys


class PressKey(Dialog[str]):
    """Gives the next key that is pressed; Escape gives ""."""

    DEFAULT_CSS = QUESTION_CSS.format(name="PressKey")
    heading = "New key"

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def compose_body(self) -> ComposeResult:
        yield Static(Content(f"Press the new key for “{self.label}”; Esc leaves it as it is."))

    @property
    def _binding_chain(self) -> list[tuple[DOMNode, BindingsMap]]:
        """No binding is in force here, not even the app's: the key itself is wanted."""
        return []

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        self.dismiss("" if event.key == "escape" else event.key)


def refusal(action_id: str, key: str, keys: dict[str, str], ready_name: str = "lab") -> str:
    """Why ``key`` cannot be one of an action's keys beside ``keys`` (the user's, over a ready keymap); ""
    where it can."""
    if key in RESERVED:
        return f"{keys_of(action_id, {action_id: key})} keeps its meaning everywhere: take another key."
    old, new = (keymap.checked(each, ready_name)[1] for each in (keys, {**keys, action_id: key}))
    return next((problem for problem in new if problem not in old), "")


class KeyMapScreen(EditDialog):
    """The keys of all actions, by group."""

    DEFAULT_CSS = """
    KeyMapScreen > .dialog { height: 90%; }
    KeyMapScreen OptionList, KeyMapScreen OptionList:focus { height: 1fr; }
    KeyMapScreen #about { height: 3; }
    """
    GROUP = "remap"
    INFORMATIONAL = True
    BINDINGS = [*bindings("remap"), *pane_digits()]  # noqa: RUF012
    heading = "Keys"

    def hint(self) -> str:
        add, reset, close = (self.keys(f"remap.{each}") for each in ("add", "reset", "close"))
        return f"Enter another key, {add} one more, {reset} resets, {close} closes"

    @property
    def _keys(self) -> dict[str, str]:
        """The user's keys by present ids, whatever ids the settings have."""
        return keymap.with_current_ids(self.lab.settings.keys)

    def _in_force(self, keys: dict[str, str]) -> dict[str, str]:
        """All keys that are not the lab's own: those of the ready keymap, and over them ``keys``."""
        return {**keymap.ready(self.lab.settings.keymap), **keys}

    def row(self, row_id: str) -> Content:
        keys = self._keys
        widths = (LABEL_WIDTH, KEYS_WIDTH)
        return _row(
            BY_ID[row_id].label, keys_of(row_id, self._in_force(keys)), row_id, row_id in keys, widths
        )

    def about(self, row_id: str) -> Content:
        """What an action does, and its own keys."""
        usual = keys_of(row_id, self._in_force({}))
        return Content.assemble(BY_ID[row_id].tooltip, "\n", (f"usually {usual}", "$text-muted"))

    def on_mount(self) -> None:
        rows = []
        for group, title in GROUPS.items():
            rows.append(Option(Content(title), disabled=True))
            rows += [Option(self.row(each.id), id=each.id) for each in ACTIONS if each.group == group]
        self.show_rows(rows)

    def action_take(self) -> None:
        self.action_replace()

    def action_replace(self) -> None:
        self._press(beside=False)

    def action_add(self) -> None:
        self._press(beside=True)

    def _press(self, beside: bool) -> None:
        if not (action_id := self.row_id):
            return

        def pressed(key: str | None) -> None:
            if key:
                self.give(action_id, key, beside)

        self.app.push_screen(PressKey(BY_ID[action_id].label), pressed)

    def give(self, action_id: str, key: str, beside: bool = False) -> None:
        """Gives an action ``key``, instead of its keys or beside them, unless that is refused."""
        keys = self._keys
        present = keys_now(action_id, self._in_force(keys))
        if key in present and beside:
            return
        if problem := refusal(action_id, key, keys, self.lab.settings.keymap):
            self.show_error(problem)
        else:
            self._write({**keys, action_id: ",".join([*present, key]) if beside else key}, action_id)

    def action_reset(self) -> None:
        keys = dict(self._keys)
        if keys.pop(self.row_id, None) is not None:
            self._write(keys, self.row_id)

    def _write(self, keys: dict[str, str], action_id: str) -> None:
        now = keys_of(action_id, self._in_force(keys))
        self.write("keys", keys or None, f"{BY_ID[action_id].label}: {now}")
