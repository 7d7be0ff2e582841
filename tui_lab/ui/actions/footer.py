"""The footer: the keys that matter in what is in view as it is now, at most five, from ``footer.toml``. The
key of the cheat sheet, which has all others, is always at the right edge."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path

from textual import events
from textual.app import ComposeResult
from textual.binding import ActiveBinding
from textual.widgets import Footer

from tui_lab.ui.actions.registry import ACTIONS, BY_ID, keys_now
from tui_lab.ui.terminal.textual_internals import (
    FooterKey,
    call_after_layout,
    drop_detached_watchers,
    keymap_of,
)

#: What leads to all other keys: the first that has a key now.
ALWAYS = ("app.keys", "app.help")
MOST = 5


@cache
def _table() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(Path(__file__).with_name("footer.toml").read_text(encoding="utf-8"))


@cache
def offered(group: str, situation: str) -> tuple[str, ...]:
    """The ids of the actions that matter in a situation of a screen, the most important first."""
    table = _table().get(group)
    if table is None:
        return tuple(each.id for each in ACTIONS if each.group == group and each.show)
    names = table.get(situation) or table.get("") or next(iter(table.values()))
    return tuple(name if "." in name else f"{group}.{name}" for name in names.split())


class KeysLine(Footer):
    """See the module's docstring. A screen may have ``situation``, ``idle_actions`` (actions without a use
    now) and ``labels_now`` (labels that differ from the registry's, by action)."""

    DEFAULT_CSS = """
    KeysLine FooterKey.always { dock: right; margin: 0; padding-left: 1; background: $footer-background; }
    """

    _shown: list[object] | None = None

    def _offers(self) -> Iterator[tuple[str, ActiveBinding]]:
        """(id, binding) of what is shown: at most :data:`MOST`, and the cheat sheet."""
        screen = self.screen
        idle: frozenset[str] = getattr(screen, "idle_actions", frozenset())
        by_key = screen.active_bindings
        keymap = keymap_of(self)
        wanted = offered(getattr(screen, "GROUP", ""), getattr(screen, "situation", ""))

        def active(action_id: str) -> ActiveBinding | None:
            """Its first key that works now: a letter does not while text is typed."""
            for key in keys_now(action_id, keymap) if action_id in BY_ID else ():
                if (found := by_key.get(key)) and found.binding.id == action_id:
                    return found
            return None

        useful = ((each, found) for each in wanted if (found := active(each)))
        yield from islice((pair for pair in useful if pair[1].binding.action not in idle), MOST)
        yield from islice(((each, found) for each in ALWAYS if (found := active(each))), 1)

    def compose(self) -> ComposeResult:
        if not self._bindings_ready:
            return
        labels: Mapping[str, str] = getattr(self.screen, "labels_now", {})
        for action_id, (_, binding, enabled, tooltip) in self._offers():
            yield FooterKey(
                binding.key,
                self.app.get_key_display(binding),
                labels.get(binding.action, binding.description),
                binding.action,
                disabled=not enabled,
                tooltip=tooltip or binding.tooltip,
                classes="always" if action_id in ALWAYS else "",
            ).data_bind(compact=Footer.compact)

    def _what_it_shows(self) -> list[object]:
        """Whatever the keys of this line are made from."""
        shown: list[object] = [getattr(self.screen, "labels_now", None)]
        for action_id, (_, binding, enabled, tooltip) in self._offers():
            shown += [action_id, binding, enabled, tooltip, self.app.get_key_display(binding)]
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
        """Hides the keys at the right that do not fit in full."""
        keys = list(self.query(FooterKey))
        widths = [key.render().cell_len + 1 for key in keys]  # and the blank after it
        always = [key.has_class("always") for key in keys]
        available = self.size.width - sum(width for width, last in zip(widths, always, strict=True) if last)
        for key, width, last in zip(keys, widths, always, strict=True):
            if not last:
                available -= width
                if key.visible != (available >= 0):
                    key.visible = available >= 0
