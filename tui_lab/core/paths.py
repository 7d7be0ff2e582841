"""Where the files that travel with the lab lie, and where a user's own are looked for.

``themes/`` and ``presets/`` stand at the top level of the repository and travel inside the wheel as
``tui_lab/_themes`` and ``tui_lab/_presets``; users add their own in the config folder.
"""

import os
from pathlib import Path
from typing import Literal

import platformdirs

Kind = Literal["themes", "presets"]
_PACKAGE = Path(__file__).parent.parent


def resource_dir(kind: Kind) -> Path:
    """The folder of the shipped files, in an installed wheel or in the checkout."""
    installed = _PACKAGE / f"_{kind}"
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def config_dir() -> Path:
    """The user's config folder (TUI_LAB_CONFIG_DIR overrides it). It need not exist."""
    return Path(os.environ.get("TUI_LAB_CONFIG_DIR") or platformdirs.user_config_dir("tui-lab"))


def data_dir() -> Path:
    """The user's data folder (TUI_LAB_DATA_DIR overrides it). It need not exist."""
    return Path(os.environ.get("TUI_LAB_DATA_DIR") or platformdirs.user_data_dir("tui-lab"))


def cache_dir() -> Path:
    """The user's folder of what can be computed again (TUI_LAB_CACHE_DIR overrides it). It need not exist."""
    return Path(os.environ.get("TUI_LAB_CACHE_DIR") or platformdirs.user_cache_dir("tui-lab"))


def state_dir() -> Path:
    """The user's folder of what the lab remembers between runs (TUI_LAB_STATE_DIR overrides it). It need not
    exist."""
    return Path(os.environ.get("TUI_LAB_STATE_DIR") or platformdirs.user_state_dir("tui-lab"))


def user_dir(kind: Kind) -> Path:
    """The folder of the user's own presets or themes. It need not exist."""
    return config_dir() / kind


def own_files(kind: Kind) -> list[Path]:
    """The user's own presets or themes; none where their folder is shut (one that a ``sudo`` has made)."""
    try:
        return sorted(user_dir(kind).glob("*.toml"))
    except OSError:
        return []


def is_there(path: Path) -> bool:
    """Whether something lies at a path, as far as can be told: ``Path.exists`` raises below a shut folder."""
    return os.path.exists(path)  # noqa: PTH110
