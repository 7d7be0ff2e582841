"""Names for Textual's generic types, where the type of the result does not matter."""

from __future__ import annotations

from typing import Any, TypeAlias

from textual.app import App
from textual.screen import Screen

AnyApp: TypeAlias = App[Any]
AnyScreen: TypeAlias = Screen[Any]
