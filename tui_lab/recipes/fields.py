"""Label, help, kind and limits of a recipe's field, for forms, help texts and error messages.

Derived from the pydantic fields of :mod:`tui_lab.recipes.recipe`, so that the schema is written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args, get_origin

from pydantic.fields import FieldInfo as FieldInfoOfPydantic


@dataclass(frozen=True)
class FieldInfo:
    """One recipe field. ``minimum`` and ``maximum`` are inclusive unless ``exclusive_*``. ``word`` is what
    ``word_value`` is called, which is no amount: auto, all, off."""

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
    word: str = ""
    word_value: float = 0

    def shown(self, value: object) -> str:
        """A value as forms show and accept it: ``on``, ``0.0002``, or the field's word for one that is no
        amount."""
        if isinstance(value, bool):
            return "on" if value else "off"
        if self.word and value == self.word_value:
            return self.word
        return f"{value:.10g}" if isinstance(value, float) else str(value)

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
        return f"{text}, or {self.word}" if self.word else text


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
        word=str(extra.get("word", "")),
        word_value=cast("float", extra.get("word_value", 0)),
        **limits,
    )
