"""Label, help, kind and limits of a recipe's field, for forms, help texts and error messages.

Derived from the pydantic fields of :mod:`tui_lab.recipes.recipe`, so that the schema is written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo as FieldInfoOfPydantic


@dataclass(frozen=True)
class FieldInfo:
    """One recipe field. ``minimum`` and ``maximum`` are inclusive unless ``exclusive_*``."""

    name: str
    label: str
    help: str
    group: str
    kind: Literal["choice", "int", "float", "bool", "text"]
    default: object
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False

    def allowed(self) -> str:
        """The allowed values as text."""
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        if self.kind == "bool":
            return "true or false"
        if self.kind == "text":
            return "text" if self.minimum is None else "text that is not empty"
        text = "a whole number" if self.kind == "int" else "a number"
        if self.minimum is not None:
            text += f" {'above' if self.exclusive_minimum else 'from'} {self.minimum:.10g}"
        if self.maximum is not None:
            upto = " and at most" if self.exclusive_minimum else " to"
            text += f"{' and below' if self.exclusive_maximum else upto} {self.maximum:.10g}"
        return text


def describe(name: str, field: FieldInfoOfPydantic) -> FieldInfo:
    """The FieldInfo of a pydantic field that was declared with a label and a group."""
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    limits: dict[str, Any] = {}
    for item in field.metadata:
        for key, slot, exclusive in (
            ("ge", "minimum", False),
            ("gt", "minimum", True),
            ("le", "maximum", False),
            ("lt", "maximum", True),
            ("min_length", "minimum", False),
        ):
            if (value := getattr(item, key, None)) is not None:
                limits[slot] = value
                limits[f"exclusive_{slot}"] = exclusive
    annotation = field.annotation
    plain: dict[object, object] = {int: "int", float: "float", bool: "bool", str: "text"}
    kind: Any = "choice" if get_origin(annotation) is Literal else plain[annotation]
    choices = get_args(annotation) if kind == "choice" else ()
    return FieldInfo(
        name,
        str(extra["label"]),
        field.description or "",
        str(extra["group"]),
        kind,
        field.default,
        choices,
        **limits,
    )
