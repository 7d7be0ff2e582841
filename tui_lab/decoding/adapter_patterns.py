"""Regular expressions of an adapter's configuration, resolved with a deadline.

peft matches ``target_modules``, ``exclude_modules``, ``rank_pattern`` and others with Python's ``re``, which
can backtrack without end on an expression from a stranger's file. Here each is matched once, in bounded time,
and replaced by the names of the modules that it means.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import regex

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize

#: Seconds for all expressions of an adapter, and the limits of one and of their number.
DEADLINE_S = 2.0
MAX_LENGTH, MAX_PATTERNS = 2_000, 10_000
#: Names without any operator but the dot.
_PLAIN = re.compile(r"[\w.-]*", re.ASCII)
_ALL_LINEAR = "all-linear"  # peft's own word
#: Fields with one expression over full names; a list there has plain names.
_SINGLE = ("target_modules", "exclude_modules", "feedforward_modules")
#: Fields whose keys are expressions over the end of a name.
_KEYED = ("rank_pattern", "alpha_pattern")
#: Fields whose entries peft puts into an expression; only plain names make sense.
_NAMES = ("modules_to_save", "layers_pattern", "trainable_token_indices")


def resolve_patterns(config: Any, module_names: Sequence[str], adapter: str) -> None:
    """Replaces the expressions in a peft configuration by names of modules, in place. Raises LabError for one
    that is malformed or takes too long."""
    match = _Matcher(adapter)
    for field in _SINGLE:
        value = getattr(config, field, None)
        if isinstance(value, str) and value.lower() != _ALL_LINEAR:
            setattr(config, field, match.select(field, value, module_names))
    for field in _NAMES:
        value = getattr(config, field, None)
        if not isinstance(value, str | list | tuple | set | dict | None):
            raise match.error(field, str(value), "is no name of a module")
        for name in [value] if isinstance(value, str) else value or ():
            if isinstance(name, str) and not _PLAIN.fullmatch(name):
                raise match.error(field, name, "is no name of a module")
    if str(getattr(config.peft_type, "value", config.peft_type)) == "ADALORA":
        return  # its rank_pattern has masks by full names
    for field in _KEYED:
        value = getattr(config, field, None)
        if isinstance(value, dict) and not all(_PLAIN.fullmatch(str(key)) for key in value):
            setattr(config, field, match.by_name(field, value, module_names))


class _Matcher:
    """Matches the expressions of one adapter before a common deadline."""

    def __init__(self, adapter: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._adapter, self._clock = adapter, clock
        self._until = clock() + DEADLINE_S

    def error(self, field: str, pattern: str, what: str) -> LabError:
        shown = sanitize(pattern[:60]) + ("…" if len(pattern) > 60 else "")
        return LabError(f"adapter {sanitize(self._adapter)}: its {field} {shown!r} {what}; save it again")

    def select(self, field: str, pattern: str, names: Sequence[str]) -> list[str]:
        """The names that the expression matches; at least one where it says what is adapted."""
        found = [name for name in names if self._matches(field, pattern, pattern, name)]
        if not found and field == "target_modules":
            raise self.error(field, pattern, "matches no module of this model")
        return found

    def by_name(self, field: str, values: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """The value of each name by the first key that matches its end, as peft looks it up."""
        if len(values) > MAX_PATTERNS:
            raise self.error(field, next(iter(values)), f"is one of {len(values):,}, which is too many")
        found: dict[str, Any] = {}
        for name in names:
            for key, value in values.items():
                if self._matches(field, key, rf"(?:.*\.)?(?:{key})", name):
                    found[re.escape(name)] = value
                    break
        return found

    def _matches(self, field: str, shown: str, pattern: str, name: str) -> bool:
        left = self._until - self._clock()
        if len(shown) > MAX_LENGTH:
            raise self.error(field, shown, f"is longer than {MAX_LENGTH:,} characters")
        try:
            if left <= 0:
                raise TimeoutError
            return regex.fullmatch(pattern, name, timeout=left) is not None
        except TimeoutError:
            raise self.error(field, shown, f"takes longer than {DEADLINE_S:g} s to match") from None
        except (regex.error, RecursionError, MemoryError):
            raise self.error(field, shown, "is no regular expression") from None
