"""Keys: how users write them, how they are printed, which of them reach the lab while text is typed, and how
bindings get other keys."""

from __future__ import annotations

from collections.abc import Mapping

from textual.binding import Binding, BindingsMap
from textual.keys import Keys, key_to_character

from tui_lab.core.errors import LabError
from tui_lab.ui.terminal.textual_internals import character_to_key

_MODIFIERS = ("ctrl", "alt", "shift", "super", "meta", "hyper")
_NAMED = frozenset(key.value.rpartition("+")[2] for key in Keys if not key.value.startswith("<"))
#: What people write for what Textual calls otherwise.
_ALIASES = {
    "esc": "escape",
    "return": "enter",
    "spacebar": "space",
    "del": "delete",
    "ins": "insert",
    "pgup": "pageup",
    "pgdn": "pagedown",
    "bksp": "backspace",
    "control": "ctrl",
    "option": "alt",
}
#: Characters whose keys Textual calls by a shorter name than Unicode's ("minus"), which it cannot undo.
_SHORT = {"slash": "/", "backslash": "\\", "at": "@", "minus": "-", "plus": "+", "underscore": "_"}
_PRINTED = {
    "space": "Space",
    "enter": "Enter",
    "escape": "Esc",
    "tab": "Tab",
    "up": "↑",
    "down": "↓",
    "right": "→",
    "left": "←",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
    "insert": "Ins",
    "backspace": "Backspace",
    "delete": "Del",
}


def _is_function_key(name: str) -> bool:
    return name[:1] == "f" and name[1:].isdecimal() and 1 <= int(name[1:]) <= 24


def character_of(key: str) -> str | None:
    """The character that a key types; None for one that types none."""
    return _SHORT.get(key) or key_to_character(key)


def key_name(key: str) -> str:
    """A key as it is printed on a keyboard."""
    *modifiers, last = key.strip().split("+")
    name = _PRINTED.get(last) or (last.upper() if _is_function_key(last) else "")
    if not name:
        character = character_of(last)
        name = character if character and character.isprintable() else last
    if modifiers and len(name) == 1:
        name = name.upper()
    return "+".join([*(modifier.capitalize() for modifier in modifiers), name])


def parse_key(text: str) -> str:
    """A key as Textual calls it: "Ctrl+S" is ctrl+s, "?" question_mark, "Esc" escape. Raises LabError for
    what is no key."""
    *modifiers, last = text.strip().split("+") if text.strip() not in ("+", "") else [text.strip()]
    if not last and modifiers and not modifiers[-1]:  # "ctrl++"
        modifiers, last = modifiers[:-1], "+"
    modifiers = [_ALIASES.get(each.strip().lower(), each.strip().lower()) for each in modifiers]
    last = last.strip()
    if len(last) == 1 and last.isprintable() and last != " ":
        name = character_to_key(last)
    else:
        name = last.lower().replace(" ", "_")
        name = _ALIASES.get(name, name)
    known = len(name) == 1 or name in _NAMED or _is_function_key(name) or character_of(name) is not None
    if not last or not known or any(each not in _MODIFIERS for each in modifiers):
        import difflib

        near = difflib.get_close_matches(name, sorted(_NAMED), 1)
        raise LabError(f"{text.strip()!r} is no key{f'; is {key_name(near[0])} meant?' if near else ''}")
    if modifiers == ["shift"] and len(name) == 1 and name.isalpha():
        return name.upper()  # a terminal sends the capital
    if modifiers and len(name) == 1:
        name = name.lower()
    return "+".join([*dict.fromkeys(modifiers), name])


def parse_keys(text: str) -> list[str]:
    """Several keys with commas between; none in an empty text. A comma itself is written "comma"."""
    return list(dict.fromkeys(parse_key(each) for each in text.split(",") if each.strip()))


def goes_first(key: str) -> bool:
    """Whether a key of the whole lab reaches it before the widget that has the focus: function keys and
    chords do, for nobody types them into a text; letters and digits do not."""
    return _is_function_key(key.rpartition("+")[2]) or key.startswith(("ctrl+", "alt+"))


def own_binding(binding: Binding, key: str, everywhere: bool) -> Binding:
    """``binding`` on another key."""
    return Binding(
        key,
        binding.action,
        binding.description,
        show=binding.show,
        key_display=None,
        priority=everywhere and goes_first(key),
        tooltip=binding.tooltip,
        id=binding.id,
        group=binding.group,
    )


def remapped(bindings: BindingsMap, keymap: Mapping[str, str], everywhere: bool) -> BindingsMap:
    """``bindings`` with the keys that ``keymap`` gives by id; an empty text takes an action's keys away.
    (Textual's own ``apply_keymap`` ignores empty texts, drops neighbours that share a key, and keeps the
    priority of the old key.)"""
    found: dict[str, list[Binding]] = {}
    moved: set[str] = set()
    for key, binding in bindings:
        if binding.id is None or binding.id not in keymap:
            found.setdefault(key, []).append(binding)
        elif binding.id not in moved:  # the footer keeps its order
            moved.add(binding.id)
            for other in filter(None, keymap[binding.id].split(",")):
                found.setdefault(other, []).append(own_binding(binding, other, everywhere))
    return BindingsMap.from_keys(found)
