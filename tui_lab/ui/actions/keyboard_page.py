"""The keyboard as a page of Markdown, from the registry of actions: ``python -m tui_lab.ui.actions.keyboard_page``."""

from __future__ import annotations

import sys

from tui_lab.ui.actions.registry import ACTIONS, GROUPS, key_name, keys_now

INTRODUCTION = """\
# The keyboard

Every action of the lab with its keys, from the same registry that feeds key bindings, footer, command
palette, cheat sheet (`?`) and help (`F1`). This page is written by `python -m tui_lab.ui.actions.keyboard_page`.

Any action can have other keys: name it by its id under `[keys]` of `settings.toml`, with commas between
several keys and an empty text for none. A key that would mean two things at the same place is left out and
named when the lab starts.

```toml
[keys]
"setup.start" = "G, ctrl+s"
"train.stop" = ""
```

Keys are written as they are printed: `F5`, `Ctrl+S`, `Esc`, `Space`, `PgUp`, `?`, `A` (with Shift), `comma`.
Function keys and chords of the whole lab work while a text is typed, too; digits and letters are text there.
While a question is open the panes wait for its answer.
"""


def cell(text: str) -> str:
    """Text in a table of Markdown."""
    return text.replace("|", "\\|")


def printed(keys: list[str]) -> str:
    """Keys as code, "–" for none."""
    return " ".join(f"`{key_name(key)}`" for key in keys) or "–"


def markdown() -> str:
    """The page."""
    parts = [INTRODUCTION]
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
