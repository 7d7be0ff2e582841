"""Nothing leaves the machine unless it is asked for, other users of the machine read nothing, and no log
holds a token. :func:`keep_private` is called first by every process of the lab."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping

#: Libraries report their use unless these are set. A variable that the user has set is left as it is.
QUIET: Mapping[str, str] = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "1",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
}
#: Access tokens of Hugging Face, OpenAI, GitHub and others, and passwords in addresses.
_SECRET = re.compile(
    r"\b(?:hf|sk|gh[pousr]|github_pat|glpat|api_org)[_-][A-Za-z0-9_-]{16,}|(?<=://)[^\s/@:\"']+:[^\s/@\"']+(?=@)"
)
#: Rights that files and folders of the lab do not give: all of those of others.
UMASK = 0o077


def environment() -> dict[str, str]:
    """The variables of every process of the lab."""
    from tui_lab.core.paths import cache_dir

    # torch's default is a folder in the shared temporary folder
    return {**QUIET, "TORCHINDUCTOR_CACHE_DIR": str(cache_dir() / "torchinductor")}


def keep_private(variables: MutableMapping[str, str] | None = None) -> None:
    """Switches telemetry off for this process and its children, and makes what they write private."""
    target = os.environ if variables is None else variables
    for name, value in environment().items():
        target.setdefault(name, value)
    os.umask(UMASK)


def without_secrets(text: str) -> str:
    """The text with access tokens and passwords replaced."""
    return _SECRET.sub("***", text)
