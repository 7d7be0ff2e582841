"""The keyboard as a page of Markdown: ``python -m tui_lab.ui.actions.keyboard_page``."""

from __future__ import annotations

import sys

from tui_lab.ui.actions.keys import key_name
from tui_lab.ui.actions.registry import ACTIONS, GROUPS, PANE_GROUPS, keys_now

INTRODUCTION = """\
# The keyboard

Every action of the lab with its keys, from the registry that key bindings, footer, command palette, cheat
sheet (`?`) and help (`F1`) use. `python -m tui_lab.ui.actions.keyboard_page` writes this page.

Remap an action by its id under `[keys]` of `settings.toml`; separate several keys by commas, an empty text
removes all keys. A key that two actions would share is ignored, with a message when the lab starts. Former
ids of actions still work; `tui-lab doctor` names them.

```toml
[keys]
"setup.start" = "G, ctrl+s"
"train.stop" = ""
```

`keymap = "classic"` in `settings.toml` (or `tui-lab settings keymap=classic`) takes the keys of 0.1.0;
keys under `[keys]` go before them.

Keys are written as they are printed: `F5`, `Ctrl+S`, `Esc`, `Space`, `PgUp`, `?`, `A` (with Shift), `comma`.
Function keys and chords of the whole lab also work while text is typed; digits and letters are text there.
The key of a pane closes what lies above the panes; typed text that is not saved yet stays.
"""


def cell(text: str) -> str:
    """Text in a table of Markdown."""
    return text.replace("|", "\\|")


def printed(keys: list[str]) -> str:
    """Keys as code, "–" for none."""
    return " ".join(f"`{key_name(key)}`" for key in keys) or "–"


def same_keys() -> str:
    """The keys that several panes have, with what each does there: the same everywhere."""
    labels: dict[str, dict[str, str]] = {}
    for action in ACTIONS:
        if action.group in PANE_GROUPS:
            for key in keys_now(action.id):
                labels.setdefault(key, {}).setdefault(action.group, action.label)
    rows = [
        " | ".join([printed([key]), *(of.get(group, "") for group in PANE_GROUPS)])
        for key, of in labels.items()
        if len(of) > 1
    ]
    head = " | ".join(GROUPS[group] for group in PANE_GROUPS)
    lines = [f"| Key | {head} |", "|---" * (1 + len(PANE_GROUPS)) + "|", *(f"| {row} |" for row in rows)]
    return "\n".join(["## One key, one meaning\n", *lines, ""])


def markdown() -> str:
    """The page."""
    parts = [INTRODUCTION, same_keys()]
    for group, title in GROUPS.items():
        members = [each for each in ACTIONS if each.group == group]
        cells = [[printed(keys_now(m.id)), m.label, m.tooltip, f"`{m.id}`"] for m in members]
        rows = [f"| {' | '.join(map(cell, row))} |" for row in cells]
        parts.append(
            "\n".join([f"## {title}\n", "| Keys | | What it does | Id |", "|---|---|---|---|", *rows, ""])
        )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(markdown())
