"""The screen that remaps keys: every action with its keys; Enter replaces them by the next key that is
pressed, A adds one, Backspace resets. A key that another action has at the same place is refused."""

from __future__ import annotations

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingsMap
from textual.containers import Vertical
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions import keymap
from tui_lab.ui.actions.modal import Modal
from tui_lab.ui.actions.registry import ACTIONS, BY_ID, GROUPS, bindings, keys_of
from tui_lab.ui.screens.change_setting import change
from tui_lab.ui.terminal.remappable_screen import DismissedOnce

#: With these people move and leave everywhere: they are not given away.
KEPT = ("escape", "enter", "tab", "shift+tab", "up", "down", "ctrl+c", "ctrl+q")
LABEL_WIDTH, KEYS_WIDTH = 16, 24


class PressKey(DismissedOnce, ModalScreen[str]):
    """Gives the next key that is pressed; Escape gives ""."""

    DEFAULT_CSS = """
    PressKey { align: center middle; }
    PressKey > Vertical {
        width: 64; max-width: 90%; height: auto; padding: 1 2; background: $panel; border: round $primary;
    }
    """

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(f"Press the new key for “{self.label}”; Esc leaves it as it is."))

    @property
    def _binding_chain(self) -> list[tuple[DOMNode, BindingsMap]]:
        """No binding is in force here, not even the app's: the key is wanted itself."""
        return []

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        self.dismiss("" if event.key == "escape" else event.key)


def refused(action_id: str, key: str, keys: dict[str, str]) -> str:
    """Why ``key`` cannot be one of an action's keys beside ``keys`` (the user's map); "" where it can."""
    if key in KEPT:
        return f"{keys_of(action_id, {action_id: key})} keeps its meaning everywhere: take another key."
    old, new = (keymap.checked(each)[1] for each in (keys, {**keys, action_id: key}))
    return next((problem for problem in new if problem not in old), "")


class KeyMapScreen(Modal[None]):
    """The list of actions, by group."""

    DEFAULT_CSS = """
    KeyMapScreen { align: center middle; }
    KeyMapScreen > Vertical {
        width: 92; max-width: 100%; height: 90%; background: $panel; border: round $primary; padding: 0 1;
    }
    KeyMapScreen OptionList, KeyMapScreen OptionList:focus {
        height: 1fr; border: none; padding: 0; background: $panel;
        text-wrap: nowrap; text-overflow: ellipsis; scrollbar-size-vertical: 1;
    }
    KeyMapScreen OptionList > .option-list--option-disabled { color: $primary; text-style: bold; }
    KeyMapScreen #about { height: 3; margin-top: 1; padding: 0 2; }
    """
    GROUP = "remap"
    BINDINGS = bindings("remap")

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Keys"
            box.border_subtitle = (
                f"Enter another key, {self.keys('remap.add')} one more, {self.keys('remap.reset')} resets, "
                f"{self.keys('remap.close')} closes"
            )
            yield OptionList(id="actions")
            yield Static(id="about")

    @property
    def _keys(self) -> dict[str, str]:
        """The user's keys by present ids, whatever ids the settings have."""
        return keymap.with_current_ids(self.lab.settings.keys)

    @property
    def _list(self) -> OptionList:
        return self.query_one("#actions", OptionList)

    @property
    def action_shown(self) -> str:
        """The id of the action under the cursor."""
        at = self._list.highlighted
        return (self._list.get_option_at_index(at).id or "") if at is not None else ""

    def _row(self, action_id: str) -> Content:
        action, own = BY_ID[action_id], action_id in self._keys
        return Content.assemble(
            ("● " if own else "  ", "$changed"),
            f"{action.label:<{LABEL_WIDTH}}",
            (f"{sanitize(keys_of(action_id, self._keys)):<{KEYS_WIDTH}}", "bold" if own else ""),
            (action_id, "$text-muted"),
        )

    def on_mount(self) -> None:
        for group, title in GROUPS.items():
            members = [action for action in ACTIONS if action.group == group]
            if members:
                self._list.add_option(Option(Content(title), id=f"group {group}", disabled=True))
                self._list.add_options([Option(self._row(action.id), id=action.id) for action in members])
        self._list.highlighted = 1
        self._list.focus()

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if action := BY_ID.get(self.action_shown):
            usual = f"usually {keys_of(action.id)}"
            text = Content.assemble(action.tooltip, "\n", (usual, "$text-muted"))
            self.query_one("#about", Static).update(text)

    @on(OptionList.OptionSelected)
    def _taken(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_replace()

    def action_replace(self) -> None:
        self._press(beside=False)

    def action_add(self) -> None:
        self._press(beside=True)

    def _press(self, beside: bool) -> None:
        if (action := BY_ID.get(self.action_shown)) is None:
            return

        def pressed(key: str | None) -> None:
            if key:
                self.give(action.id, key, beside)

        self.app.push_screen(PressKey(action.label), pressed)

    def give(self, action_id: str, key: str, beside: bool = False) -> None:
        """Gives an action ``key``, instead of its keys or beside them, unless that is refused."""
        keys = self._keys
        have = keys.get(action_id, BY_ID[action_id].keys).split(",")
        if key in have and beside:
            return
        if problem := refused(action_id, key, keys):
            self.notify(sanitize(problem), severity="error", markup=False, timeout=12)
            return
        self._write({**keys, action_id: ",".join([*have, key]) if beside else key}, action_id)

    def action_reset(self) -> None:
        keys, action_id = dict(self._keys), self.action_shown
        if keys.pop(action_id, None) is not None:
            self._write(keys, action_id)

    def _write(self, keys: dict[str, str], action_id: str) -> None:
        try:
            change(self.lab, "keys", keys or None)
        except LabError as error:
            self.notify(sanitize(str(error)), severity="error", markup=False, timeout=12)
            return
        self._list.replace_option_prompt(action_id, self._row(action_id))
        self.notify(f"{BY_ID[action_id].label}: {keys_of(action_id, keys)}", markup=False)
