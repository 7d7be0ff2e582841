"""The command palette: the actions of the whole lab and of the pane in view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.command import CommandPalette, DiscoveryHit, Hit, Provider
from textual.message import Message
from textual.style import Style
from textual.widgets import Input, OptionList

from tui_lab.ui import pane_switcher
from tui_lab.ui.actions.registry import ACTIONS, Action, key_cell
from tui_lab.ui.terminal.remappable_screen import DismissedOnce
from tui_lab.ui.terminal.textual_internals import keymap_of
from tui_lab.ui.terminal.types import AnyScreen
from tui_lab.ui.widgets.panel import as_panel, key_hints

if TYPE_CHECKING:
    from textual.command import Hits


class Palette(DismissedOnce, CommandPalette):
    """Textual's command palette, which runs a command once and is drawn as a panel."""

    DEFAULT_CSS = """
    Palette > Vertical { margin-top: 1; width: 104; max-width: 100%; }
    Palette #--input, Palette #--input.--list-visible {
        border: round $primary; border-title-style: bold; border-title-color: $foreground;
        border-subtitle-color: $text-muted; background: $panel; padding: 0;
    }
    Palette SearchIcon { display: none; }
    Palette CommandInput, Palette CommandInput:focus { margin: 0; padding: 0 1; }
    Palette CommandList { border: none; padding: 0; }
    """

    def on_mount(self) -> None:
        as_panel(self.query_one("#--input"), "Commands", state=key_hints("Enter runs, Esc closes"))

    async def _on_message(self, message: Message) -> None:
        typed = isinstance(message, Input.Submitted | Input.Changed | OptionList.OptionSelected)
        if not typed or self.app.screen is self:
            await super()._on_message(message)


class LabCommands(Provider):
    """See the module's docstring."""

    def __init__(self, screen: AnyScreen, match_style: Style | None = None) -> None:
        super().__init__(screen, match_style)
        self._opened_at = pane_switcher.now()

    def _actions(self) -> list[Action]:
        group = getattr(self.screen, "GROUP", "")
        return [action for action in ACTIONS if action.group in ("app", group) and action.id != "app.palette"]

    def _keys(self, action: Action) -> str:
        return key_cell(action.id, keymap_of(self.screen))

    async def _run(self, action: Action) -> None:
        namespace = self.app if action.group == "app" else self.screen
        with pane_switcher.requested_at(self._opened_at):  # a pane that was asked for meanwhile is newer
            await self.app.run_action(action.action, namespace)

    async def discover(self) -> Hits:
        for action in self._actions():
            yield DiscoveryHit(
                action.label,
                lambda a=action: self._run(a),
                help=f"{action.tooltip}  ({self._keys(action)})",
            )

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._actions():
            text = f"{action.label}: {action.tooltip}"
            if (score := matcher.match(text)) > 0:
                yield Hit(
                    score,
                    matcher.highlight(text),
                    lambda a=action: self._run(a),
                    text=action.label,
                    help=self._keys(action),
                )
