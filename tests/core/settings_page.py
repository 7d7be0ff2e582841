"""``python -m tests.core.settings_page``: writes docs/settings.md from the definitions of the settings.
Not a test: tests/core/test_settings_file.py compares the page with it."""

from __future__ import annotations

from tests.paths import ROOT
from tui_lab.core.settings_file import template

PAGE = ROOT / "docs" / "settings.md"
INTRO = """# Settings

All settings are in one TOML file, `settings.toml`, in the config folder (`tui-lab locate` prints it). The
file is optional. A command-line option overrides the environment variable, which overrides the file, which
overrides the default.

- In the lab, `,` lists every setting with its value and its source. A change is written to the file at once.
  Comments, order and unknown keys are preserved; a file that cannot be read is never overwritten.
- `tui-lab settings` lists the same. `tui-lab settings theme=lab-light` sets one, `tui-lab settings theme=`
  resets it to its default, and `tui-lab settings keys.train.stop=ctrl+x` gives an action another key.
- An unknown key or an invalid value is reported in one sentence when the lab starts and by `tui-lab doctor`;
  the rest of the file still applies.

`tui-lab settings --template` prints the file with every setting:

```toml
"""


def page() -> str:
    """The page as it should be."""
    return f"{INTRO}{template()}```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
