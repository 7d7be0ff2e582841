"""Screens whose keys can be re-mapped: every pane, and everything that lies over one. A screen over a pane
takes its keys from its group of the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingsMap
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.widgets import Input, OptionList
from textual.widgets.input import Selection

from tui_lab.ui.actions.keys import character_of, remapped
from tui_lab.ui.terminal import textual_patches  # noqa: F401 (before any list)

if TYPE_CHECKING:
    _Screen = Screen
else:
    _Screen = object


class Keyed(_Screen):
    """Applies the user's keys to whatever has bindings on the screen, in place of Textual's own way of it
    (see :func:`tui_lab.ui.actions.keys.remapped`). What is typed and where lists stand outlives other screens over
    it and other sizes."""

    _typing: tuple[Input, Selection] | None = None

    @property
    def _binding_chain(self) -> list[tuple[DOMNode, BindingsMap]]:
        """Who has bindings, from the focused widget outwards, without the keys that a text field takes."""
        focused = None if self.focused is None or self.focused.loading else self.focused
        nodes: list[DOMNode] = [self, self.app] if focused is None else focused.ancestors_with_self
        keymap = self.app._keymap
        chain: list[tuple[DOMNode, BindingsMap]] = []
        for node in nodes:
            bindings = node._bindings.copy()
            if keymap:
                bindings = remapped(bindings, keymap, isinstance(node, App))
            for key in list(bindings.key_to_bindings):
                character = character_of(key)
                if any(inner.check_consume_key(key, character) for inner, _ in chain):
                    del bindings.key_to_bindings[key]
            chain.append((node, bindings))
        return chain

    def on_screen_suspend(self) -> None:
        self._typing = (self.focused, self.focused.selection) if isinstance(self.focused, Input) else None

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        # a text field selects everything when the focus comes back: the next letter would replace it all
        if typing := self._typing:
            field, selection = typing

            def select_again() -> None:
                if self.focused is field:
                    field.selection = selection

            self.call_after_refresh(select_again)

    def on_resize(self, event: events.Resize) -> None:
        # lists keep what stands under the cursor, but by themselves they do not keep it in view
        self.call_after_refresh(self._cursors_in_view)

    def _cursors_in_view(self) -> None:
        for each in self.query(OptionList):
            if each.highlighted is not None and each.size.height:
                each.scroll_to_highlight()


class DismissedOnce(_Screen):
    """A screen that answers once: a second key, or a double click, that arrives while it is going would take
    away what lies below, or end the lab where nothing does."""

    def dismiss(self, result: Any = None) -> AwaitComplete:
        return super().dismiss(result) if self.app.screen is self else AwaitComplete.nothing()


class Over(DismissedOnce, Keyed, ModalScreen[ScreenResultType]):
    """A screen that lies over a pane. ``GROUP`` is its group in the registry of actions; its subclasses say
    ``BINDINGS = bindings(GROUP)``. The cheat sheet is at hand on all of them, and function keys are the
    app's."""

    GROUP: ClassVar[str] = ""
    BINDINGS = [  # noqa: RUF012
        Binding("question_mark", "app.cheat_sheet", "Keys", show=False, id="app.keys")
    ]

    def keys(self, action_id: str) -> str:
        """The key of an action that is offered where there is room for one."""
        from tui_lab.ui.actions.registry import first_key

        return first_key(action_id, self.app._keymap)
