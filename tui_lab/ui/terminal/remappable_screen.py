"""Screens whose keys can be remapped: every pane and every modal screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from textual import events
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.binding import BindingsMap
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widgets import Input, OptionList
from textual.widgets.input import Selection

from tui_lab.ui.actions.keys import character_of, remapped
from tui_lab.ui.terminal import textual_patches  # noqa: F401 (before any list)
from tui_lab.ui.terminal.textual_internals import bindings_of, call_after_layout, is_taken_down, keymap_of

if TYPE_CHECKING:
    _Screen = Screen[Any]
else:
    _Screen = object


class RemappableScreen(_Screen):
    """Applies the user's keys to all bindings on the screen, in place of Textual's own keymap (see
    :func:`tui_lab.ui.actions.keys.remapped`). The selection in a text field and the scroll position of lists
    survive other screens above this one and changes of size."""

    _typing: tuple[Input, Selection] | None = None

    @property
    def keymap(self) -> Mapping[str, str]:
        """The user's keys by action id."""
        return keymap_of(self)

    @property
    def _binding_chain(self) -> list[tuple[DOMNode, BindingsMap]]:
        """Nodes and their bindings, from the focused widget outwards, without keys that text fields take."""
        focused = None if self.focused is None or self.focused.loading else self.focused
        nodes: list[DOMNode] = [self, self.app] if focused is None else focused.ancestors_with_self
        keymap = self.keymap
        chain: list[tuple[DOMNode, BindingsMap]] = []
        for node in nodes:
            bindings = bindings_of(node)
            if keymap:
                bindings = remapped(bindings, keymap, isinstance(node, App))
            for key in list(bindings.key_to_bindings):
                character = character_of(key)
                if any(inner.check_consume_key(key, character) for inner, _ in chain):
                    del bindings.key_to_bindings[key]
            chain.append((node, bindings))
        return chain

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Mount | events.ScreenResume | events.Resize) and is_taken_down(self):
            return  # the lab ends: it was not composed, and there is nothing to set up
        await super().on_event(event)

    def on_screen_suspend(self) -> None:
        self._typing = (self.focused, self.focused.selection) if isinstance(self.focused, Input) else None

    def on_screen_resume(self) -> None:
        # a text field selects everything when the focus comes back: the next letter would replace it all
        if typing := self._typing:
            field, selection = typing

            def select_again() -> None:
                if self.focused is field:
                    field.selection = selection

            self.call_after_refresh(select_again)

    def on_resize(self, _event: events.Resize) -> None:
        # lists keep their cursor, but do not scroll it into view
        call_after_layout(self, self._scroll_to_cursors)

    def _scroll_to_cursors(self) -> None:
        for each in self.query(OptionList):
            if each.highlighted is not None and each.size.height:
                each.scroll_to_highlight()


class DismissedOnce(_Screen):
    """A screen that gives one result. A second key or click that arrives while it closes would otherwise
    close the screen below, or end the lab."""

    def dismiss(self, result: object = None) -> AwaitComplete:
        return super().dismiss(result) if self.app.screen is self else AwaitComplete()
