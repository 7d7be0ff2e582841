"""What a run read has changed since: the error that says so, and the user's yes to go on all the same. A yes
of the command line holds for the process and its children; one in the lab for a single call and its child."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from tui_lab.core.errors import LabError

#: Set to 1, changed inputs are accepted; ``--accept-changes`` sets it for a command and its children.
ACCEPT_ENV = "TUI_LAB_ACCEPT_CHANGES"
_ACCEPTED = ContextVar("changed inputs are accepted", default=False)


class ChangedInputs(LabError):
    """Data, weights or template have changed since. ``what``: the beginning of the sentence, ``changes``: the
    reasons."""

    def __init__(self, what: str, changes: Sequence[str]) -> None:
        self.what, self.changes = what, tuple(changes)
        super().__init__(f"{what}: {'; '.join(changes)}; --accept-changes goes on with what is there now")


def accept() -> None:
    """Uses changed inputs from here on, in this process and its children: for the command line."""
    os.environ[ACCEPT_ENV] = "1"


@contextmanager
def accepting(is_accepted: bool = True) -> Iterator[None]:
    """Uses changed inputs within the block, in this thread or task alone."""
    token = _ACCEPTED.set(is_accepted)
    try:
        yield
    finally:
        _ACCEPTED.reset(token)


def accepted() -> bool:
    """Whether the user accepts changed inputs."""
    return _ACCEPTED.get() or os.environ.get(ACCEPT_ENV) == "1"


def for_child() -> Mapping[str, str]:
    """The variables of a child that is started now: it accepts what is accepted here."""
    return {ACCEPT_ENV: "1"} if accepted() else {}
