"""Nothing leaves the machine unless it is asked for, other users of the machine read nothing, and no log
holds a token. :func:`keep_private` is called first by every process of the lab."""

from __future__ import annotations

import io
import os
import re
import sys
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
#: Access tokens of Hugging Face, OpenAI, GitHub, GitLab, Slack, Google and Amazon, passwords in addresses,
#: and values whose name says what they are: headers, variables, parameters of a signed address.
_SECRET = re.compile(
    r"""
    \b(?:hf|sk|gh[pousr]|github_pat|glpat|api_org|xox[abprs])[_-][A-Za-z0-9_-]{16,}
    | \bAIza[A-Za-z0-9_-]{30,} | \bAKIA[A-Z0-9]{16}\b
    | (?<=://)[^\s/@:"']+:[^\s/@"']+(?=@)
    | (?P<name>
        (?i: \bauthorization["']? \s* [:=] \s* ["']? (?:(?:bearer|basic|token)\s+)?+ | \bbearer\s+(?=\S{12}) )
        | \b[A-Z][A-Z0-9_]*_(?:KEY|TOKEN|SECRET|PASSWORD)["']? \s* [:=] \s* ["']?
        | (?i: [?&](?:token|sig|signature|access_token|api_?key|x-amz-\w+)= )
    ) (?!\*\*\*) [^\s"'&,;)}\]]+
    """,
    re.VERBOSE,
)
#: What is certainly a secret, whatever stands beside it.
_CERTAIN = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}|\bsk-(?:proj|ant)-[A-Za-z0-9_-]{20,}|://[^\s/@:\"']+:[^\s/@\"']+@"
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
    return _SECRET.sub(lambda found: f"{found['name'] or ''}***", text)


def holds_secret(text: str) -> bool:
    """Whether a text holds what is certainly an access token or a password."""
    return _CERTAIN.search(text) is not None


class _MaskedOutput(io.TextIOWrapper):
    """An output stream whose texts are written without secrets."""

    def write(self, text: str, /) -> int:
        super().write(without_secrets(text))
        return len(text)


_masked: list[_MaskedOutput] = []  # one that is collected would close its descriptor


def mask_output() -> None:
    """Masks what this process prints from now on, tracebacks included: its output is a log."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            masked = _MaskedOutput(
                stream.buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True
            )
            setattr(sys, name, masked)
            _masked.append(masked)
