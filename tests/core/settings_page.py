"""``python -m tests.core.settings_page``: writes docs/settings.md from what the code says of each setting.
Not a test: tests/core/test_settings_file.py holds the page against it."""

from __future__ import annotations

from tests.paths import ROOT
from tui_lab.core.settings_file import template

PAGE = ROOT / "docs" / "settings.md"
INTRO = """# Settings

One TOML file, `settings.toml`, in the config folder (`tui-lab locate` says where). It need not exist. An
option of the command line goes before the environment variable, that before the file, the file before
the default.

- In the lab `,` lists every setting with its value and where that came from; what is changed there is
  written to the file at once. Comments, order and keys that the lab does not know stay as they are; a file
  that cannot be read is never written over.
- `tui-lab settings` lists the same; `tui-lab settings theme=lab-light` sets one, `tui-lab settings theme=`
  gives its default back, `tui-lab settings keys.train.stop=z` gives an action another key.
- A key that is unknown, or a value that does not fit, is named in one sentence when the lab starts and by
  `tui-lab doctor`; the rest of the file holds.

`tui-lab settings --template` prints the file with everything in it:

```toml
"""


def page() -> str:
    """The page as it should be."""
    return f"{INTRO}{template()}```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
