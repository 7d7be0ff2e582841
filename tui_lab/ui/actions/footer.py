"""The footer: the keys of what is in view. The key of the cheat sheet is always at the right edge; of the
others, without those that the pane calls idle, as many are shown as fit in full."""

from __future__ import annotations

from collections.abc import Mapping

from textual import events
from textual.app import ComposeResult
from textual.binding import ActiveBinding
from textual.widgets import Footer

from tui_lab.ui.actions.registry import BY_ID, keys_now
from tui_lab.ui.terminal.textual_internals import (
    FooterKey,
    call_after_layout,
    drop_detached_watchers,
    keymap_of,
)

#: What leads to all other keys.
ALWAYS = "open('cheat_sheet')"


class KeysLine(Footer):
    """See the module's docstring."""

    DEFAULT_CSS = """
    KeysLine FooterKey.always { dock: right; margin: 0; padding-left: 1; background: $footer-background; }
    """

    _shown: list[object] | None = None

    def compose(self) -> ComposeResult:
        idle: frozenset[str] = getattr(self.screen, "idle_actions", frozenset())
        labels: Mapping[str, str] = getattr(self.screen, "labels_now", {})
        active = self.screen.active_bindings
        for key in super().compose():
            if isinstance(key, FooterKey) and key.action in idle:
                continue
            if isinstance(key, FooterKey):
                self._take_first(key, active)
                key.description = labels.get(key.action, key.description)
                if key.action.removeprefix("app.") == ALWAYS:
                    key.add_class("always")
            yield key

    def _take_first(self, key: FooterKey, active: Mapping[str, ActiveBinding]) -> None:
        """Of several keys shows the one that is named elsewhere: "q", not "Ctrl+Q", unless one types."""
        binding = active[key.key].binding if key.key in active else None
        if binding is None or binding.id not in BY_ID:
            return
        for each in keys_now(binding.id, keymap_of(self)):
            if each in active and active[each].binding.action == key.action:
                key.key, key.key_display = each, self.app.get_key_display(active[each].binding)
                break

    def _what_it_shows(self) -> list[object]:
        """Whatever the keys of this line are made from."""
        shown: list[object] = [getattr(self.screen, name, None) for name in ("idle_actions", "labels_now")]
        for key, (_, binding, enabled, tooltip) in self.screen.active_bindings.items():
            display = self.app.get_key_display(binding) if binding.show else ""
            shown += [key, binding, enabled, tooltip, display]
        return shown

    async def recompose(self) -> None:
        if not self.is_attached:
            return  # the screen has gone meanwhile
        shown = self._what_it_shows()
        if shown == self._shown:
            return  # as with each move of the focus between things that take the same keys
        self._shown = shown
        await super().recompose()
        drop_detached_watchers(self)  # each key watches a property of this line
        self._fit()

    def on_resize(self, _event: events.Resize) -> None:
        self._fit()
        call_after_layout(self, self.screen.refresh_bindings)  # another lay-out may offer other things

    def _fit(self) -> None:
        keys = list(self.query(FooterKey))
        widths = [key.render().cell_len + 1 for key in keys]  # and the blank after it
        always = [key.has_class("always") for key in keys]
        available = self.size.width - sum(width for width, last in zip(widths, always, strict=True) if last)
        for key, width, last in zip(keys, widths, always, strict=True):
            if not last:
                available -= width
                if key.visible != (available >= 0):
                    key.visible = available >= 0
