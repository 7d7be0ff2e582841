"""The folders of shipped files and of the user's files.

``themes/`` and ``presets/`` are at the top level of the repository and are ``tui_lab/_themes`` and
``tui_lab/_presets`` in the wheel; users add their own in the config folder.
"""

import os
from pathlib import Path
from typing import Literal

import platformdirs

from tui_lab.core.errors import LabError

PathKind = Literal["themes", "presets"]
_PACKAGE = Path(__file__).parent.parent


def resource_dir(kind: PathKind) -> Path:
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
    """The user's cache folder (TUI_LAB_CACHE_DIR overrides it). It need not exist."""
    return Path(os.environ.get("TUI_LAB_CACHE_DIR") or platformdirs.user_cache_dir("tui-lab"))


def state_dir() -> Path:
    """The user's folder for the state of the lab (TUI_LAB_STATE_DIR overrides it). It need not exist."""
    return Path(os.environ.get("TUI_LAB_STATE_DIR") or platformdirs.user_state_dir("tui-lab"))


def user_dir(kind: PathKind) -> Path:
    """The folder of the user's presets or themes. It need not exist."""
    return config_dir() / kind


def user_files(kind: PathKind) -> list[Path]:
    """The user's presets or themes; none where their folder cannot be read (created by ``sudo``)."""
    try:
        return sorted(user_dir(kind).glob("*.toml"))
    except OSError:
        return []


def path_exists(path: Path) -> bool:
    """Whether a path exists; False below an unreadable folder, where ``Path.exists`` raises."""
    return os.path.exists(path)  # noqa: PTH110


def absolute(path: Path) -> Path:
    """An absolute path with ``~`` expanded; symbolic links stay as they are. Raises LabError for the folder
    of a user that does not exist: a folder of that name is not meant."""
    found = expanded(path)
    if str(found).startswith("~"):
        raise LabError(f"{path}: there is no user {found.parts[0][1:]!r}; name the folder in full")
    return Path(os.path.abspath(found))  # noqa: PTH100


def expanded(path: Path | str) -> Path:
    """The path with ``~`` expanded; unchanged where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
